"""The open sessions of one connection, and what was claimed for them: who delivers what next.

All take from one small shared queue, transactional mail first. Bulk leaves one session to transactional
mail. Opening sessions, and what becomes of a delivery, are the runner's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroom.clock import Clock
from postroom.core.message import Purpose
from postroom.engine.claim import Claimed
from postroom.transports.interface import Session

if TYPE_CHECKING:
    from postroom.engine.attempt import Attempt
    from postroom.engine.term import Term

PER_SESSION = 2
MOST_PER_SESSION = 10  # of a host that is lost so many become unknown
AHEAD_S = 0.05  # what is claimed for a session keeps it busy for about so long, if that is more than two
SLOW_S = 1.0  # a delivery that takes longer holds up what was claimed to follow it
_NEWS = 0.1  # how much of the pace the newest delivery is


@dataclass(eq=False)
class Slot:
    """One open session and its task, under the term it was opened in."""

    session: Session
    version: int
    idle_since_s: float
    term: Term
    number: int = 0  # among the sessions that all processes have open to this connection
    reserved: bool = False  # kept from bulk
    waiting: asyncio.Future[Claimed | None] | None = None
    used: int = 0
    bulk: bool = False  # what it delivers now
    stopping: bool = False
    busy_since_s: float | None = None
    slow: bool = False  # its last delivery took long
    attempt: Attempt | None = None  # the last one it was given


class Sessions:
    """Of one connection. Its methods are called from one thread."""

    def __init__(self, clock: Clock, most_bulk: Callable[[], int]) -> None:
        """most_bulk: how many may deliver bulk at once."""
        self._clock, self._most_bulk = clock, most_bulk
        self.slots: set[Slot] = set()
        self.inbox: deque[Claimed] = deque()
        self._idle: deque[Slot] = deque()
        self._handed_s = clock.steady_s()
        self._pace_s: float | None = None

    def __len__(self) -> int:
        return len(self.slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    @property
    def busy(self) -> int:
        """How many deliver now."""
        return sum(slot.busy_since_s is not None for slot in self.slots)

    def hangs(self, slot: Slot) -> bool:
        """Whether it has been at one delivery for long."""
        since_s = slot.busy_since_s
        return since_s is not None and self._clock.steady_s() - since_s > SLOW_S

    @property
    def hanging(self) -> int:
        """How many do."""
        return sum(self.hangs(slot) for slot in self.slots)

    @property
    def room(self) -> int:
        """Deliveries that may be claimed for them at once."""
        each = self.per_session
        return sum(1 if slot.slow or self.hangs(slot) else each for slot in self.slots)

    @property
    def per_session(self) -> int:
        """How many are claimed for a session: one that it delivers and one to follow, more where a delivery
        takes milliseconds, so that a claim fetches many."""
        if self._pace_s is None:
            return PER_SESSION
        return int(min(max(AHEAD_S / max(self._pace_s, 1e-6), PER_SESSION), MOST_PER_SESSION))

    def took(self, seconds: float) -> None:
        """How long a delivery took."""
        before = seconds if self._pace_s is None else self._pace_s
        self._pace_s = before + _NEWS * (seconds - before)

    def worth_a_claim(self, free: int, *, urgent: bool) -> bool:
        """Whether to claim now: once there is room for many, or little to begin.

        urgent: not bulk, so bulk that was claimed before does not count as something to begin.
        """
        if free <= 0:
            return False
        ahead = self._urgent if urgent else len(self.inbox)
        return 2 * ahead <= len(self.slots) or 2 * free >= self.room

    @property
    def slow_with_bulk(self) -> int:
        """Those for which only one bulk delivery may be claimed."""
        return sum(slot.bulk and (slot.slow or self.hangs(slot)) for slot in self.slots)

    @property
    def all_hang(self) -> bool:
        """Something was claimed that waits behind deliveries which all take long."""
        busy = [slot for slot in self.slots if slot.busy_since_s is not None]
        return bool(self.inbox) and bool(busy) and all(self.hangs(slot) for slot in busy)

    def waits_long(self) -> bool:
        """What comes next may go out and nobody has taken anything for a while."""
        return self.may_start() and self._clock.steady_s() - self._handed_s >= SLOW_S

    def put(self, claimed: Claimed) -> None:
        """Transactional mail goes before bulk, and each in the order it was claimed."""
        if claimed.purpose is Purpose.TRANSACTIONAL:
            self.inbox.insert(self._urgent, claimed)
        else:
            self.inbox.append(claimed)

    @property
    def _urgent(self) -> int:
        if self.inbox and self.inbox[-1].purpose is Purpose.TRANSACTIONAL:
            return len(self.inbox)
        return sum(one.purpose is Purpose.TRANSACTIONAL for one in self.inbox)

    def may_start(self) -> bool:
        """Whether what comes next may go out now: bulk leaves one session to transactional mail."""
        if not self.inbox or self.inbox[0].purpose is Purpose.TRANSACTIONAL:
            return bool(self.inbox)
        for_bulk = sum(not slot.reserved for slot in self.slots)
        return sum(slot.bulk for slot in self.slots) < min(self._most_bulk(), for_bulk)

    def hand(self, slot: Slot) -> Claimed:
        """What comes next, to this session."""
        claimed = self.inbox.popleft()
        self._handed_s = self._clock.steady_s()
        slot.bulk = claimed.purpose is not Purpose.TRANSACTIONAL
        return claimed

    async def wait(self, slot: Slot, waits: Callable[[], None]) -> Claimed | None:
        """Until there is something for this session, or it is to end. waits: called once it waits."""
        slot.waiting = asyncio.get_running_loop().create_future()
        slot.idle_since_s = self._clock.steady_s()
        self._idle.append(slot)
        waits()
        try:
            return await slot.waiting
        finally:
            slot.waiting = None
            if slot in self._idle:
                self._idle.remove(slot)

    def feed(self) -> None:
        """Give what was claimed to the sessions that wait."""
        while self._idle and self.may_start():
            slot = self._idle.popleft()
            if slot.waiting is not None and not slot.waiting.done():
                slot.waiting.set_result(self.hand(slot))

    def close_idle(self, older_than_s: float = 0.0) -> None:
        """End the sessions that have waited for longer than this."""
        now_s = self._clock.steady_s()
        for slot in list(self._idle):
            if now_s - slot.idle_since_s >= older_than_s and slot.waiting and not slot.waiting.done():
                slot.waiting.set_result(None)

    def abort(self, *, hear_out_s: float = 0.0) -> None:
        """Cut them all; those that wait for the reply to a final dot only after `hear_out_s`."""
        for slot in self.slots:
            if hear_out_s and slot.busy_since_s is not None and slot.attempt and slot.attempt.past_dot:
                asyncio.get_running_loop().call_later(hear_out_s, slot.session.abort)
            else:
                slot.session.abort()
