"""How much is claimed ahead and how outcomes gather: more in one commit the faster mail goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from postroom.core.message import Purpose
from postroom.engine.journal import Journal
from postroom.engine.retry import Policy
from postroom.engine.sessions import MOST_PER_SESSION, PER_SESSION, Sessions, Slot
from postroom.engine.settle import Ended, Settled
from postroom.engine.settler import Settler
from postroom.ids import AttemptId
from postroom.storage.interface import Work
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support.clock import FakeClock

SENT = Outcome(Result.SENT, Fault.NONE, Phase.DOT, 250, "taken")


def sessions_of(count: int, clock: FakeClock | None = None) -> Sessions:
    made = Sessions(clock or FakeClock(), lambda: count)
    nobody: Any = None  # Any: neither a session nor a term is asked for anything here
    made.slots = {Slot(nobody, 1, 0.0, nobody) for _ in range(count)}
    return made


@pytest.mark.parametrize(
    ("seconds", "each"),
    [(5.0, PER_SESSION), (0.2, PER_SESSION), (0.025, 2), (0.0125, 4), (0.0071, 7), (0.0, MOST_PER_SESSION)],
)
def test_about_as_much_is_claimed_ahead_as_keeps_a_session_busy_for_a_moment(
    seconds: float, each: int
) -> None:
    sessions = sessions_of(4)
    assert sessions.room == 4 * PER_SESSION  # nothing is known yet
    for _ in range(100):
        sessions.took(seconds)
    assert sessions.per_session == each
    assert sessions.room == 4 * each


def test_a_peer_that_becomes_slow_gets_two_again() -> None:
    sessions = sessions_of(4)
    for _ in range(100):
        sessions.took(0.001)
    sessions.took(5.0)
    assert sessions.per_session == PER_SESSION


def test_a_session_that_hangs_gets_one_however_quick_the_others_are() -> None:
    clock = FakeClock()
    sessions = sessions_of(4, clock)
    for _ in range(100):
        sessions.took(0.001)
    next(iter(sessions.slots)).busy_since_s = clock.steady_s()
    clock.advance(1.5)
    assert sessions.room == 3 * MOST_PER_SESSION + 1


T, B = Purpose.TRANSACTIONAL, Purpose.BROADCAST


@pytest.mark.parametrize(
    ("free", "inbox", "urgent", "worth"),
    [
        (0, [], True, False),  # nobody could take it
        (1, [B, B, B], False, False),  # enough to begin, and little room: later, for many at once
        (1, [B, B], False, True),  # half of the sessions have nothing to follow
        (4, [B, B, B], False, True),  # half of the room
        (1, [B, B, B], True, True),  # it goes before all that was claimed
        (1, [T, T, B, B], True, True),
        (1, [T, T, T], True, False),  # as much of its kind is there to begin: it would wait here too
        (4, [T, T, T], True, True),
    ],
)
def test_mail_is_claimed_for_half_the_room_or_when_little_is_left(
    free: int, inbox: list[Purpose], urgent: bool, worth: bool
) -> None:
    sessions = sessions_of(4)
    for purpose in inbox:
        claimed: Any = SimpleNamespace(purpose=purpose)  # Any: only what it is counts
        sessions.put(claimed)
    assert sessions.worth_a_claim(free, urgent=urgent) is worth


class _Store:
    """Commits when it is told to; what a settle would do is not what is tried here."""

    def __init__(self) -> None:
        self.may_commit = asyncio.Semaphore(0)
        self.begun = 0

    async def write(self, work: Callable[[], Work[Settled]]) -> Settled:
        self.begun += 1
        await self.may_commit.acquire()
        return Settled()


@pytest.fixture
def journal(tmp_path: Path) -> Any:  # Any: only told what was settled
    class Told:
        def __init__(self) -> None:
            self.batches: list[list[int]] = []

        def settled(self, attempts: Any) -> None:
            self.batches.append(list(attempts))

    return Told()


async def test_what_ends_while_a_batch_is_written_is_the_next_one(journal: Any) -> None:
    store, done = _Store(), []
    settler = Settler(cast(Any, store), Policy(), cast(Journal, journal), lambda _: None)
    settler.start()
    settler.put(Ended(AttemptId(1), SENT), lambda: done.append(1))
    while not store.begun:
        await asyncio.sleep(0)
    for number in (2, 3, 4):
        settler.put(Ended(AttemptId(number), SENT), lambda number=number: done.append(number))  # type: ignore[misc]
    store.may_commit.release()
    store.may_commit.release()
    await settler.flush()
    assert journal.batches == [[1], [2, 3, 4]]
    assert done == [1, 2, 3, 4]
    await settler.stop()


async def test_outcomes_that_follow_each_other_closely_share_a_commit(journal: Any) -> None:
    store = _Store()
    for _ in range(300):
        store.may_commit.release()
    settler = Settler(cast(Any, store), Policy(), cast(Journal, journal), lambda _: None)
    settler.start()
    settler.put(Ended(AttemptId(1), SENT), lambda: None)
    while not journal.batches:
        await asyncio.sleep(0)
    for number in range(2, 202):
        settler.put(Ended(AttemptId(number), SENT), lambda: None)
        await asyncio.sleep(0)
    await settler.flush()
    assert [one for batch in journal.batches for one in batch] == list(range(1, 202))
    assert len(journal.batches) < 50
    await settler.stop()
