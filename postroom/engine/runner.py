"""One connection at work: its sessions, what it claimed, and how it fares.

A session is opened first and pulls then: nothing is claimed for a login that may fail. Two deliveries are
claimed for each open session, up to ten where each takes milliseconds (`sessions`), and that is all a lost
machine can leave unknown. Sessions take from one small shared queue, transactional mail first, so a slow
message delays only its own session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from postroom.clock import MICROS
from postroom.core.connection import Connection
from postroom.core.message import Purpose
from postroom.engine.attempt import Attempt
from postroom.engine.claim import Claimed, Refusal
from postroom.engine.health import Troubles, Verdict
from postroom.engine.host import Host
from postroom.engine.probing import Probing
from postroom.engine.room import Room
from postroom.engine.router import Health
from postroom.engine.sessions import Sessions, Slot
from postroom.engine.tasks import Tasks
from postroom.engine.transitions import uses_room
from postroom.engine.trying import try_on
from postroom.engine.way_out import WayOut
from postroom.errors import PostroomError, Unavailable
from postroom.ids import AccountId, ConnectionId
from postroom.logs import Trouble, logger
from postroom.storage.routes import Route
from postroom.transports.interface import (
    Fault,
    OpenFailed,
    Outcome,
    Phase,
    Result,
    Session,
    Transport,
)

log = logger("engine")
GIVEN_BACK = Outcome(
    Result.RETURNED, Fault.OURS, Phase.CONNECT, text="given back before it was tried", session_usable=False
)
_CROWDED_S = 1.0
_CUT_S = 5.0  # for a session that was cut to say what became of its message
_HEAR_OUT_S = 30.0  # for the reply to a final dot, when nothing more may go out


class Runner:
    """Runs one connection."""

    def __init__(
        self,
        host: Host,
        route: Route,
        transport_for: Callable[[Connection], Transport | None],
        load_connection: Callable[[AccountId, ConnectionId], Awaitable[Connection]],
    ) -> None:
        self._host, self.route = host, route
        self.way = WayOut(host.store, host.clock, lambda: self.route, transport_for, load_connection)
        self.troubles = Troubles(host.clock, host.settings)
        self.outstanding = 0  # claimed and not yet settled
        self.outstanding_bulk = 0
        self.room = Room()
        self.opening_since_s: float | None = None
        self._opening = 0
        self.sessions = Sessions(host.clock, lambda: self._most_sessions(transactional=False))
        self._claim_trouble = Trouble(log)
        self._claiming = False
        self._claim_again = False
        self._tasks = Tasks(f"connection {route.connection_id}")
        self.probing = Probing(host.clock, self.way, host.settings.probe_every_s)
        self._waits_to_probe = False
        self._crowded_until_s = float("-inf")  # no session could be had until then
        self._condemned = False  # found failed or to be held, which is being stored
        self._paused = False  # by a person: it, its server or everything
        self.draining = False

    # --- what others ask -------------------------------------------------------------------------------

    @property
    def connection_id(self) -> ConnectionId:
        return self.route.connection_id

    @property
    def paused(self) -> bool:
        """By a person: it, its server or everything."""
        return self._paused

    @property
    def opening(self) -> int:
        """Sessions on their way to be opened."""
        return self._opening

    @property
    def health(self) -> Health:
        room = self.room
        return Health(
            self.troubles.backoff_until_us,
            room.cap,
            room.bulk_until,
            room.all_until,
            room.day_full,
            self.probing.next_us(self.route),
            room.quota_full,
            self.troubles.last_text,
        )

    @property
    def free(self) -> int:
        """Deliveries that may be claimed now."""
        return max(0, self.sessions.room - self.outstanding)

    def blocked(self, *, transactional: bool) -> bool:
        """No room under the caps for this kind of mail."""
        return self.room.blocked(self._host.clock.now_us(), transactional=transactional)

    @property
    def _crowded(self) -> bool:
        return self._host.clock.steady_s() < self._crowded_until_s

    @property
    def off(self) -> bool:
        """Not to be used: one of the kinds of off that are stored, or about to be, or paused."""
        if self._condemned or self._paused:
            return True
        route = self.route
        held = route.held_until is not None and route.held_until > self._host.clock.now_us()
        return not route.enabled or route.deleted or bool(route.failed_at or route.disabled_at) or held

    def takes_now(self, *, transactional: bool) -> bool:
        """Whether such mail handed to it now would leave soon: others behind it in rank need not help."""
        if self.off or self.troubles.backing_off or self.draining:
            return False
        if (self.free if transactional else self._bulk_room()) > 0:
            return True
        opening = self.opening_since_s
        if opening is not None and self._host.clock.steady_s() - opening >= 1.0:
            return False  # it knocks and nobody answers
        if self.sessions or self._opening == 0:
            if self._crowded:
                return False
            return len(self.sessions) + self._opening < self._most_sessions(transactional=transactional)
        return True

    # --- looking for work ------------------------------------------------------------------------------

    def kick(self) -> None:
        """Open sessions and claim, as far as there is work and nothing stands against it."""
        if self.draining or self._host.fenced or self.off or self.troubles.backing_off:
            return
        waiting, transactional = self._host.work_for(self)
        if waiting <= 0:
            return
        if self.sessions.worth_a_claim(self.free, urgent=transactional):
            if self._claiming:
                self._claim_again = True  # what called us may have come too late for the claim under way
            else:
                self._claiming = True
                self._tasks.spawn(self._claim())
        self._open_more(waiting, transactional)

    def _open_more(self, waiting: int, transactional: bool) -> None:
        if self._crowded:
            return
        most = 1 if self.troubles.probing else self._most_sessions(transactional=transactional)
        hang = self.sessions.hanging
        others = max(0, waiting + self.outstanding - hang)
        wanted = min(most, hang + -(-others // self.sessions.per_session) + transactional)
        # No more at once than are open: a dead peer sees one knock, a good one is soon at full strength.
        ramp = max(1, len(self.sessions)) - self._opening
        for _ in range(min(wanted - len(self.sessions) - self._opening, ramp)):
            self._open_one(urgent=transactional)

    def _open_one(self, *, urgent: bool) -> None:
        self._opening += 1
        if self.opening_since_s is None:
            self.opening_since_s = self._host.clock.steady_s()
        self._tasks.spawn(self._open(urgent=urgent))

    async def _claim(self) -> None:
        try:
            while not self.draining and self.free > 0 and not self.troubles.backing_off:
                bulk = self._bulk_room()
                changes = self.room.changes
                claims = await self._host.claim(self, self.free, bulk)
                if claims is None:
                    return
                self._claim_trouble.over("claims are made again")
                if self.room.note(claims, changes):
                    self._host.health_changed(self)
                for claimed in claims.claimed:
                    self.outstanding += 1
                    self.outstanding_bulk += claimed.purpose is not Purpose.TRANSACTIONAL
                    self.sessions.put(claimed)
                self._give_back_withdrawn()
                self.sessions.feed()
                if not self.sessions:  # the last session ended meanwhile: nobody is there to take it
                    self._give_back()
                if claims.refusal is Refusal.CONNECTION_CHANGED:
                    self.sessions.close_idle()
                if not claims.claimed and not claims.ended:
                    return
        except PostroomError as error:
            self._claim_trouble.met("claim failed", connection=self.connection_id, error=str(error))
        finally:
            self._claiming = False
            if self._claim_again:
                self._claim_again = False
                self._host.call(self)

    @property
    def _keeps(self) -> bool:
        """One session is kept from bulk, where transactional mail may come."""
        most = self._host.settings.sessions_per_connection
        return most >= 2 and Purpose.TRANSACTIONAL in self.route.purposes

    def _most_sessions(self, *, transactional: bool) -> int:
        """Sessions this kind of mail may use here: a fair part of what all processes may.

        No process may have more than its part: one that came later would find no session left, and if the
        others hung, nobody would send.
        """
        most = self._host.settings.sessions_per_connection
        part = self._host.terms.membership.part_of(most)
        return part if transactional else min(part, most - self._keeps)

    def _last_number(self, *, urgent: bool) -> int:
        """Sessions are numbered over all processes; the last number is for transactional mail alone."""
        most = self._host.settings.sessions_per_connection
        return most - 1 if self._keeps and not urgent else most

    def _bulk_room(self) -> int:
        """Bulk that may be claimed now."""
        alone = self.sessions.slow_with_bulk
        each = self.sessions.per_session
        limit = each * self._most_sessions(transactional=False) - (each - 1) * alone
        return max(0, min(self.free, limit - self.outstanding_bulk))

    # --- sessions --------------------------------------------------------------------------------------

    async def _open(self, *, urgent: bool) -> None:
        term, number = self._host.terms.present, None
        try:
            session: Session | None = None
            version = self.route.version
            try:
                if term is not None:
                    number = await term.slots.take(self.connection_id, self._last_number(urgent=urgent))
                if number is None:  # the other processes have them all
                    self._crowded_until_s = self._host.clock.steady_s() + _CROWDED_S
                else:
                    session = await self.way.open()
                    await self.way.note_quota()
            except OpenFailed as failed:
                await self._judge(failed.outcome)
            except Unavailable as error:  # the database, and no trouble of the connection's
                self._crowded_until_s = self._host.clock.steady_s() + _CROWDED_S
                log.warning("a session was not opened", connection=self.connection_id, error=str(error))
            except PostroomError as error:
                outcome = Outcome(Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text=str(error))
                await self._judge(outcome)
            finally:
                self._opening -= 1
                if self._opening == 0:
                    self.opening_since_s = None
            if session is not None and term is not None and number is not None:
                self.troubles.opened()
                slot = Slot(session, version, self._host.clock.steady_s(), term)
                slot.reserved = self._keeps and number == self._host.settings.sessions_per_connection
                await self._serve(slot)
        finally:
            if term is not None and number is not None:
                term.slots.give(self.connection_id, number)

    async def _serve(self, slot: Slot) -> None:
        self.sessions.slots.add(slot)
        try:
            await self._run(slot)
        finally:
            self.sessions.slots.discard(slot)
            if not self.sessions:
                self._give_back()
            self.sessions.feed()
            await slot.session.close()
            self._host.call(self)

    async def _run(self, slot: Slot) -> None:
        """Deliver what comes until the session ends."""
        while True:
            claimed = await self._next(slot)
            if claimed is None:
                return
            attempt = self._host.attempt(claimed)
            if self.troubles.backing_off or self.draining or self.off or attempt.stopped:
                self._end(attempt, GIVEN_BACK)
                continue
            slot.busy_since_s, slot.attempt = self._host.clock.steady_s(), attempt
            outcome = await try_on(self._host, self.way, slot, attempt)
            self.sessions.took(self._host.clock.steady_s() - slot.busy_since_s)
            slot.slow, slot.busy_since_s = self.sessions.hangs(slot), None
            if slot.term.over and outcome.fault is Fault.CONNECTION:  # it was cut by us
                outcome = replace(outcome, fault=Fault.OURS)
            self._end(attempt, outcome)
            await self._judge(outcome)
            if not slot.session.usable or slot.used >= self._host.settings.session_max_deliveries:
                return

    async def _next(self, slot: Slot) -> Claimed | None:
        """What this session delivers next; None when it is to end."""
        slot.bulk = False
        changed = slot.version != self.route.version
        if slot.stopping or self.draining or changed or (self.off and not self.sessions.inbox):
            return None
        if slot.term is not self._host.terms.present or slot.term.over:
            return None
        if len(self.sessions) > self._most_sessions(transactional=True):  # another process has come
            return None
        if self.sessions.may_start():
            return self.sessions.hand(slot)
        return await self.sessions.wait(slot, lambda: self._host.call(self))

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        bulk = attempt.claimed.purpose is not Purpose.TRANSACTIONAL

        def done() -> None:
            self.outstanding -= 1
            self.outstanding_bulk -= bulk
            if not uses_room(outcome) and self.room.came_back():
                self._host.health_changed(self)
            self._host.call(self)

        self._host.ended(attempt, outcome, done)

    def _give_back(self) -> None:
        while self.sessions.inbox:
            self._end(self._host.attempt(self.sessions.inbox.popleft()), GIVEN_BACK)

    def _give_back_withdrawn(self) -> None:
        """What a pause stopped after it was claimed, and nobody took yet."""
        inbox, self.sessions.inbox = self.sessions.inbox, deque()
        for claimed in inbox:
            attempt = self._host.attempt(claimed)
            if attempt.withdrawn:
                self._end(attempt, GIVEN_BACK)
            else:
                self.sessions.inbox.append(claimed)

    async def _judge(self, outcome: Outcome) -> None:
        before = self.troubles.backoff_until_us
        verdict = self.troubles.judge(outcome)
        if verdict is Verdict.BACK_OFF and self.troubles.backing_off:
            self._give_back()
            wait_s = max(0, (self.troubles.backoff_until_us or 0) - self._host.clock.now_us()) / MICROS
            self._waits_to_probe = True
            asyncio.get_running_loop().call_later(wait_s + 0.001, self._end_wait)
        if before != self.troubles.backoff_until_us:
            log.info(
                "connection state",
                connection=self.connection_id,
                backing_off=self.troubles.backing_off,
                cause=outcome.text,
            )
            self._host.health_changed(self)
        if before is None and verdict is Verdict.BACK_OFF and self.troubles.is_news():
            self._host.backed_off(self)
        # Several sessions find it out: it is one.
        if verdict in (Verdict.FAIL, Verdict.HOLD) and not self.off:
            self._condemned = True
            self._give_back()
            try:
                await self._host.judged(self, verdict)
            finally:
                self._condemned = False

    def _end_wait(self) -> None:
        """The wait is over: routing may send one session to see."""
        if self._waits_to_probe and self.troubles.probing:
            self._waits_to_probe = False
            self._host.health_changed(self)

    # --- care ------------------------------------------------------------------------------------------

    def changed(self, route: Route) -> None:
        """Its row changed: sessions opened with other settings end after what they do now."""
        if route.version != self.route.version:
            self.troubles.clear()
            self.room.came_back()
        self.route = route
        if self.off or route.version != self.route.version:
            self._give_back()
        self.sessions.close_idle()

    def pause(self, *, paused: bool) -> None:
        """What people paused has changed; `paused`: this connection may claim nothing."""
        self._paused = paused
        self._give_back_withdrawn()
        if paused:
            self.sessions.close_idle()

    def clock_set_back(self, by_us: int) -> None:
        """The wall clock was moved by `by_us`, which is negative: waits stay as long as they were."""
        self.troubles.clock_set_back(by_us)
        self.room.came_back()  # the next claim says how it is

    def care(self) -> None:
        """Called about every second: idle sessions, room that came back, and probing where it has failed."""
        if self.room.look(self._host.clock.now_us()):
            self._host.health_changed(self)
        self.sessions.close_idle(self._host.settings.session_idle_s)
        if self.sessions.all_hang:
            self._give_back()  # to a new session or another connection, not to wait for these
        self._end_wait()
        self._pass_by()
        self._mind_quota()
        if not self.draining and self.probing.begin(self.route):
            self._tasks.spawn(self._probe())

    def _pass_by(self) -> None:
        """What was claimed and waits behind slow mail gets a session of its own."""
        if self.draining or self._host.fenced or self.off or self.troubles.backoff_until_us is not None:
            return
        if not self.sessions.waits_long() or self._opening:
            return
        urgent = self.sessions.inbox[0].purpose is Purpose.TRANSACTIONAL
        if len(self.sessions) < self._most_sessions(transactional=urgent):
            self._open_one(urgent=urgent)

    def _mind_quota(self) -> None:
        if self.off or self.draining:
            return
        used_up, may_ask = self.room.quota_full, self.troubles.backoff_until_us is None
        if self.way.quota_due(used_up=used_up, may_ask=may_ask):
            self._tasks.spawn(self._read_quota(used_up=used_up, may_ask=may_ask))

    async def _read_quota(self, *, used_up: bool, may_ask: bool) -> None:
        await self.way.read_quota(used_up=used_up, may_ask=may_ask)
        if self.room.came_back():
            self._host.health_changed(self)

    async def _probe(self) -> None:
        if await self.probing.try_it(self.connection_id):
            await self._host.judged(self, Verdict.FINE)

    def cut(self) -> None:
        """The lease is over: nothing that was claimed goes out any more. What is out is heard of yet: to know
        that a message was taken saves sending it again."""
        self._give_back()
        self.sessions.close_idle()
        self.sessions.abort(hear_out_s=_HEAR_OUT_S)

    def failed_now(self) -> None:
        """It was found failed."""
        self.probing.failed_now()
        self._give_back()

    async def stop(self, drain_s: float) -> None:
        """Give back what was not begun, let what is on its way end, then cut."""
        self.draining = True
        self._give_back()
        self.sessions.close_idle()
        await self._tasks.wait(drain_s)
        self.sessions.abort()
        await self._tasks.wait(_CUT_S)
        await self._tasks.cancel()
        self._give_back()  # what a claim under way brought meanwhile
