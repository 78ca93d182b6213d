"""The engine's state machine under random life: claims, dots, replies, kills, losses, and time.

The machine drives the real units of work on a real database with a real journal, and plays the peer
itself: `sink` is what the peer received and when. After every step what must always hold is checked,
and at the end everything is driven to rest and counted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroom.clock import MICROS
from postroom.core.event import EventKind
from postroom.core.message import FINAL_STATES, Purpose
from postroom.engine import caps, unknowns
from postroom.engine.claim import LOWEST, Claimed, Pick, Refusal, Worker, claim
from postroom.engine.clock_guard import ClockGuard
from postroom.engine.clock_steps import ClockSteps
from postroom.engine.journal import LOST, Journal, discard, replay
from postroom.engine.recover import find_former, open_attempts, raise_epoch, settle_left
from postroom.engine.retry import Policy
from postroom.engine.settings import EngineSettings
from postroom.engine.settle import Ended, settle
from postroom.ids import AttemptId, ConnectionId, DecisionId, LaneId, MessageId, WorkerId
from postroom.storage import messages, pauses, queue, room
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.pauses import PauseScope
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.direct_store import Direct
from tests.support.stores import Kind

T = TypeVar("T")
WORKER = WorkerId(1)
SESSIONS = 3
START_US = 1_709_078_400 * MICROS  # 28 February 2024: the day after the next is a leap day's morrow
SENT = Outcome(Result.SENT, Fault.NONE, Phase.DONE, 250, text="ok", begun=True)
EARLY = {
    "deferred": Outcome(Result.DEFERRED, Fault.RECIPIENT, Phase.RCPT, 451, text="later"),
    "bounced": Outcome(Result.BOUNCED, Fault.RECIPIENT, Phase.RCPT, 550, "5.1.1", "no such user"),
    "returned": Outcome(Result.RETURNED, Fault.CONNECTION, Phase.MAIL, 421, text="busy"),
    "cut in the body": Outcome(Result.RETURNED, Fault.CONNECTION, Phase.BODY, text="reset", begun=True),
}
LATE = {
    "sent": SENT,
    "deferred": Outcome(Result.DEFERRED, Fault.MESSAGE, Phase.DONE, 451, text="later", begun=True),
    "bounced": Outcome(Result.BOUNCED, Fault.MESSAGE, Phase.DONE, 554, text="spam", begun=True),
    "unknown": Outcome(Result.UNKNOWN, Fault.CONNECTION, Phase.DOT, text="dropped", begun=True),
}


@dataclass
class Open:
    """One attempt on a session of the living worker."""

    claimed: Claimed
    stage: str = "claimed"  # claimed, begun, dotted
    received: bool = False  # the peer has the whole message


@dataclass
class Books:
    """What we know from outside."""

    accepted: int = 0
    sink: list[tuple[int, int]] = field(default_factory=list)  # (when by a clock nobody sets, delivery)
    days: list[int] = field(default_factory=list)  # the day of each by our own clock
    excused: int = 0  # attempts that were at their dot when knowledge of them was lost, or unknown
    claims: int = 0
    resent: Counter[int] = field(default_factory=Counter)  # by a person, for each delivery
    resets: list[int] = field(default_factory=lambda: [0])  # how much the sink had at each


class Engine(RuleBasedStateMachine):
    kind = Kind.SQLITE

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock(START_US)
        self.place = ExitStack()
        self.place.enter_context(stores.on(self.kind))
        self.database = Direct(self.folder, self.clock)
        self.policy = Policy(give_up_bulk_s=6 * 3600, give_up_transactional_s=3 * 3600)
        self.books = Books()
        self.open: dict[AttemptId, Open] = {}
        self.ended: list[Ended] = []
        self.ghosts: list[Ended] = []
        self.lanes: dict[LaneId, Purpose] = {}
        self.messages: list[MessageId] = []
        self.paused: set[PauseScope] = set()

    def run(self, work: Callable[[], Work[T]]) -> T:
        return self.database.run(work)

    def rows(self, text: str, **params: object) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text, params))

        return self.database.look(work)

    @initialize(hourly=st.sampled_from([3, 5, 15]), daily=st.sampled_from([None, None, 30]))
    def start(self, hourly: int, daily: int | None) -> None:
        self.hourly, self.daily = hourly, daily
        self.run(seed_rows.tenants)
        self.connection: ConnectionId = self.run(lambda: seed_rows.connection(hourly, daily))
        self.boot = 1
        self.take_over(lost=False)

    def take_over(self, *, lost: bool) -> None:
        """What `recover.take_over` does, step by step, on the synchronous database."""
        former = self.run(lambda: find_former(WORKER))
        if former is not None:
            found = LOST if lost else replay(self.folder, "i", WORKER, former.epoch, str(self.boot))
            while self.run(lambda: open_attempts(WORKER, 1)):
                self.run(lambda: settle_left(WORKER, found, self.policy))
        epoch = self.run(lambda: raise_epoch(WORKER))
        if former is not None:
            discard(self.folder, WORKER, former.epoch)
        self.worker = Worker(WORKER, epoch)
        self.journal = Journal(self.folder, "i", WORKER, epoch, str(self.boot))
        self.guard = ClockGuard(self.clock)
        self.clock_steps = ClockSteps(
            self.database.store,
            self.clock,
            self.guard,
            EngineSettings(policy=self.policy),
            str(self.boot),
        )
        self.database.finish(self.clock_steps.at_start())
        self.open.clear()
        self.ended.clear()

    # --- what happens ----------------------------------------------------------------------------------

    @rule(n=st.integers(1, 4), purpose=st.sampled_from([Purpose.TRANSACTIONAL, Purpose.BROADCAST]))
    def accept(self, n: int, purpose: Purpose) -> None:
        name = f"m{self.books.accepted}"
        people = [f"r{self.books.accepted + i}@example.net" for i in range(n)]
        message, lane = self.run(lambda: seed_rows.message(purpose, people, name))
        self.books.accepted += n
        self.lanes[lane] = purpose
        self.messages.append(message)

    @rule(wanted=st.integers(1, 2 * SESSIONS), floor_s=st.sampled_from([None, -600, -1, 0]))
    def claim(self, wanted: int, floor_s: int | None = None) -> None:
        floor_us = LOWEST if floor_s is None else self.clock.now_us() + floor_s * MICROS
        wanted = min(wanted, 2 * SESSIONS - len(self.open) - len(self.ended))
        if wanted <= 0 or self.guard.paused():
            return
        picks = [
            Pick(lane, seed_rows.SERVER, purpose, "a@b", DecisionId(1), wanted, floor_us)
            for lane, purpose in sorted(
                self.lanes.items(), key=lambda item: item[1] is not Purpose.TRANSACTIONAL
            )
        ]
        claims = self.run(lambda: claim(self.worker, seed_rows.ACCOUNT, self.connection, 1, picks, wanted))
        stopped = self.paused if picks else self.paused - {PauseScope.SERVER}  # that is asked lane by lane
        assert claims.refusal is (Refusal.PAUSED if stopped else None)
        assert not (self.paused and (claims.claimed or claims.ended))  # nothing of it is even looked at
        for one in claims.claimed:
            self.open[one.attempt_id] = Open(one)
            self.books.claims += 1

    def at(self, *stages: str) -> list[AttemptId]:
        return [attempt for attempt, one in self.open.items() if one.stage in stages]

    def accept_and_claim(self, n: int, purpose: Purpose) -> None:
        self.accept(n, purpose)
        self.claim(2 * SESSIONS)

    @rule(
        n=st.integers(1, 2 * SESSIONS),
        purpose=st.sampled_from([Purpose.TRANSACTIONAL, Purpose.BROADCAST]),
        replies=st.lists(st.sampled_from(["sent", *sorted(LATE)]), min_size=2, max_size=6),
        settled=st.booleans(),
        seconds=st.sampled_from([0, 5, 3585, 3611]),
    )
    def busy(self, n: int, purpose: Purpose, replies: list[str], settled: bool, seconds: int) -> None:
        """Most of a life is this: time passes, mail is accepted, claimed, written, answered, settled."""
        self.clock.advance(seconds)
        self.accept_and_claim(n, purpose)
        self.work(["arrives"] * 6)
        self.reply(replies)
        if settled:
            self.settle()

    @precondition(lambda self: self.at("claimed", "begun"))
    @rule(steps=st.lists(st.sampled_from(["begin", "lost", "arrives", *EARLY]), min_size=1, max_size=6))
    def work(self, steps: list[str]) -> None:
        """Each session in turn: compose only, go past the dot, or end before it."""
        for attempt, step in zip(self.at("claimed", "begun"), steps, strict=False):
            one = self.open[attempt]
            if one.stage == "claimed":
                self.journal.begin(attempt)
                one.stage = "begun"
            if step in EARLY:
                self.end(attempt, EARLY[step])
            elif step != "begin":
                self.dot(attempt, arrives=step == "arrives")

    def dot(self, attempt: AttemptId, arrives: bool) -> None:
        one = self.open[attempt]
        if not self.is_its_day(one.claimed):
            self.end(attempt, EARLY["returned"])
            return
        self.journal.dot(attempt)
        one.stage, one.received = "dotted", arrives
        if arrives:
            self.arrive(one.claimed)

    def is_its_day(self, claimed: Claimed) -> bool:
        return claimed.not_before_us <= self.clock.now_us() < claimed.deadline_us

    def arrive(self, claimed: Claimed) -> None:
        self.books.sink.append((round(self.clock.steady_s() * MICROS), claimed.delivery_id))
        self.books.days.append(self.clock.now_us() // caps.DAY_US)

    @precondition(lambda self: self.at("dotted"))
    @rule(replies=st.lists(st.sampled_from(sorted(LATE)), min_size=1, max_size=6))
    def reply(self, replies: list[str]) -> None:
        for attempt, how in zip(self.at("dotted"), replies, strict=False):
            if self.open[attempt].received:
                how = how if how in ("sent", "unknown") else "sent"
            elif how == "sent":
                how = "unknown"
            self.books.excused += how == "unknown"
            self.end(attempt, LATE[how])

    def end(self, attempt: AttemptId, outcome: Outcome) -> None:
        self.journal.outcome(attempt, outcome)
        del self.open[attempt]
        self.ended.append(Ended(attempt, outcome))

    @rule()
    def settle(self) -> None:
        ended, self.ended = self.ended, []
        settled = self.run(lambda: settle(ended, self.policy))
        assert not settled.unexpected
        self.journal.settled(one.attempt_id for one in ended)
        self.note_lanes(settled.woken)

    def note_lanes(self, woken: dict[LaneId, list[int]]) -> None:
        for lane in woken:
            rows = self.rows("SELECT purpose FROM lanes WHERE lane_id = :id", id=lane)
            self.lanes.setdefault(lane, Purpose(rows[0][0]))

    @rule()
    def end_unknowns(self) -> None:
        self.note_lanes(self.run(lambda: unknowns.end_due(self.policy)))

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.messages))
        self.run(lambda: queue.cancel_message(seed_rows.ACCOUNT, message))

    @rule(scope=st.sampled_from(PauseScope), again=st.integers(1, 2))
    def pause(self, scope: PauseScope, again: int) -> None:
        """By a person; what is claimed goes on, or is given back, as it likes."""
        for _ in range(again):
            self.run(lambda: pauses.add(self.pause_of(scope)))
        self.paused.add(scope)

    def pause_of(self, scope: PauseScope) -> pauses.Pause:
        targets = {PauseScope.SERVER: seed_rows.SERVER, PauseScope.CONNECTION: self.connection}
        account = pauses.EVERYTHING if scope is PauseScope.ALL else seed_rows.ACCOUNT
        return pauses.Pause(account, scope, targets.get(scope, 0), self.clock.now_us(), "Ada", "")

    @precondition(lambda self: len(self.books.resets) < 4)
    @rule()
    def reset_window(self) -> None:
        self.run(lambda: room.reset(seed_rows.ACCOUNT, self.connection, self.clock.now_us()))
        self.books.resets.append(len(self.books.sink))

    @precondition(lambda self: self.paused)
    @rule(most=st.integers(1, 3))
    def resume(self, most: int) -> None:
        for scope in sorted(self.paused)[:most]:
            one = self.pause_of(scope)
            assert self.run(partial(pauses.remove, one.account_id, one.scope, one.target_id))
            self.paused.remove(scope)

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), kind=st.sampled_from([EventKind.RETRIED, EventKind.RESENT]))
    def put_in_by_hand(self, data: st.DataObject, kind: EventKind) -> None:
        """A person tries again what did not go out, or sends again what did or may have."""
        number = data.draw(st.sampled_from(self.messages))
        retried = {"ready", "bounced"}
        states = retried if kind is EventKind.RETRIED else {"sent", "unknown", "unverified"}
        message = self.run(lambda: messages.get(seed_rows.ACCOUNT, None, number))
        looked = self.run(lambda: queue.look(seed_rows.ACCOUNT, number))
        chosen = [one for one in looked if one.state.value in states and not one.suppressed]
        chosen = [one for one in chosen if kind is EventKind.RESENT or not one.may_have_gone]
        if message is None or not chosen:
            return
        now_us = self.clock.now_us()
        self.run(lambda: queue.put_in(message, chosen, kind, "again", "Ada", now_us))
        if kind is EventKind.RESENT:
            self.books.excused += len(chosen)
            self.books.resent.update(one.delivery_id for one in chosen)

    @rule(seconds=st.sampled_from([1, 31, 1800, 3590, 3601, 7201, 50_000]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(
        step_s=st.sampled_from([2, 3600, 86_400, -2, -3600, -86_400, 9000, -9000]),
        seen=st.booleans(),
        killed=st.booleans(),
    )
    def set_the_clock(self, step_s: int, seen: bool, killed: bool) -> None:
        """An hour, a day, across a leap day's midnight; the engine's look may come later, if by a second."""
        self.database.finish(self.clock_steps.look())
        self.accept_and_claim(6, Purpose.BROADCAST)
        self.work(["arrives"] * 6)
        self.reply(["sent"] * 6)
        self.settle()
        self.clock.step(step_s)
        if seen:
            self.database.finish(self.clock_steps.look())
        if killed:
            self.forget()
            self.take_over(lost=False)
        self.accept_and_claim(6, Purpose.BROADCAST)
        self.work(["arrives"] * 6)

    # --- how it dies -----------------------------------------------------------------------------------

    def forget(self) -> None:
        """The process dies: what was at its dot without a recorded reply is excused."""
        self.books.excused += len(self.at("dotted"))
        self.journal.close(remove=False)

    @rule(how=st.sampled_from(["killed", "power lost", "machine lost", "frozen"]), sending=st.booleans())
    def die(self, how: str, sending: bool) -> None:
        """Killed: the page cache lives. Power lost: absence in the journal proves nothing. Machine lost:
        no journal. Frozen: taken for dead while it still holds outcomes, which it settles later."""
        if sending:
            self.clock.advance(3611)
            self.accept_and_claim(4, Purpose.BROADCAST)
            self.work(["arrives", "lost", "arrives", "begin"])
        if how != "killed":  # with the machine goes the steady clock, which alone tells of a step forward
            self.database.finish(self.clock_steps.look())
        if how == "power lost":
            self.books.excused += len(self.at("claimed", "begun"))
            self.boot += 1
        if how == "machine lost":
            self.books.excused += len(self.at("claimed", "begun")) + len(self.ended)
        if how == "frozen":
            self.ghosts += self.ended
        self.forget()
        self.take_over(lost=how == "machine lost")

    @precondition(lambda self: self.ghosts)
    @rule()
    def ghost_settles(self) -> None:
        ghosts, self.ghosts = self.ghosts, []
        settled = self.run(lambda: settle(ghosts, self.policy))
        assert len(settled.unexpected) == len(ghosts)

    @rule()
    def second_epoch(self) -> None:
        """A claim under an old epoch takes nothing."""
        old = Worker(WORKER, self.worker.epoch - 1)
        claims = self.run(lambda: claim(old, seed_rows.ACCOUNT, self.connection, 1, [], 1))
        assert claims.refusal is not None

    # --- what must always hold -------------------------------------------------------------------------

    def count(self, text: str) -> int:
        value: int = self.rows(text)[0][0]
        return value

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "connection"):
            return
        held = self.count("SELECT COALESCE(SUM(held), 0) FROM cap")
        waiting = self.count("SELECT COALESCE(SUM(n), 0) FROM cap_release")
        unsettled = self.count("SELECT COUNT(*) FROM attempts WHERE result IS NULL")
        assert held == waiting + unsettled
        assert held <= self.hourly
        assert unsettled == len(self.open) + len(self.ended)
        assert self.count("SELECT COALESCE(SUM(held), 0) FROM cap_day") == unsettled

    @invariant()
    def every_state_has_its_row(self) -> None:
        assert (
            self.count(
                "SELECT COUNT(*) FROM (SELECT lane_id, due, delivery_id FROM deliveries WHERE state = 'ready'"
                " EXCEPT SELECT lane_id, due, delivery_id FROM ready) x"
            )
            == 0
        )
        ready = self.count("SELECT COUNT(*) FROM ready")
        assert ready == self.count("SELECT COUNT(*) FROM deliveries WHERE state = 'ready'")
        unknown = self.count("SELECT COUNT(*) FROM unknowns")
        assert unknown == self.count("SELECT COUNT(*) FROM deliveries WHERE state = 'unknown'")
        claimed = self.count("SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'")
        assert claimed == len(self.open) + len(self.ended)
        assert self.count("SELECT COUNT(*) FROM deliveries") == self.books.accepted

    @invariant()
    def caps_are_exact(self) -> None:
        """Between two resets by hand, which begin the windows anew."""
        for begin, end in pairwise([*self.books.resets, len(self.books.sink)]):
            times = sorted(when for when, _ in self.books.sink[begin:end])
            for i, first in enumerate(times):
                assert sum(t < first + caps.HOUR_US for t in times[i:]) <= getattr(self, "hourly", 0)
            if getattr(self, "daily", None) is not None:
                per_day = Counter(self.books.days[begin:end])
                assert max(per_day.values(), default=0) <= (self.daily or 0)

    @invariant()
    def copies_are_few(self) -> None:
        arrived = Counter(delivery for _, delivery in self.books.sink)
        assert sum(n - 1 for n in arrived.values()) <= self.books.excused
        for delivery, copies in arrived.items():
            assert copies <= 1 + self.policy.unknown_resends + self.books.resent[delivery]
        rows = self.rows(
            "SELECT d.delivery_id FROM deliveries d JOIN messages m ON m.message_id = d.message_id"
            " WHERE m.purpose = 'broadcast'"
        )
        # What is unknown is never sent again, unless a person says so.
        assert all(arrived[row[0]] <= 1 + self.books.resent[row[0]] for row in rows)

    @invariant()
    def sent_means_received(self) -> None:
        arrived = {delivery for _, delivery in self.books.sink}
        rows = self.rows("SELECT delivery_id FROM deliveries WHERE state = 'sent'")
        assert {row[0] for row in rows} <= arrived

    def teardown(self) -> None:
        try:
            if hasattr(self, "connection"):
                self.come_to_rest()
        finally:
            self.journal.close(remove=True) if hasattr(self, "journal") else None
            self.database.close()
            self.place.close()
            shutil.rmtree(self.folder)

    def come_to_rest(self) -> None:
        """From here on the peer takes everything: all ends by itself and nothing is lost."""
        if self.paused:
            self.resume(3)
        self.database.finish(self.clock_steps.look())
        # What is due is due within the longest wait there is, however the clock was set.
        furthest = self.clock.now_us() + int(self.policy.retry_longest_wait_s * MICROS)
        assert self.count("SELECT COALESCE(MAX(due), 0) FROM ready") <= furthest
        assert self.count("SELECT COALESCE(MAX(due), 0) FROM cap_release") <= self.clock.now_us() + (
            caps.HOUR_US + caps.BUCKET_US
        )
        for _ in range(400):
            self.claim(2 * SESSIONS)
            for attempt in list(self.open):
                if self.open[attempt].stage == "claimed":
                    self.journal.begin(attempt)
                    self.open[attempt].stage = "begun"
            for attempt in list(self.open):
                one = self.open[attempt]
                if one.stage == "begun":
                    if not self.is_its_day(one.claimed):
                        self.end(attempt, EARLY["returned"])
                        continue
                    self.journal.dot(attempt)
                    one.received = True
                    self.arrive(one.claimed)
                    self.end(attempt, SENT)
                elif one.received:
                    self.end(attempt, SENT)
                else:
                    self.end(attempt, LATE["deferred"])
            self.settle()
            self.end_unknowns()
            left = self.count(
                "SELECT COUNT(*) FROM deliveries WHERE state NOT IN"
                f" ({', '.join(repr(state.value) for state in FINAL_STATES)})"
            )
            if left == 0:
                break
            self.clock.advance(1800)
        assert left == 0
        self.caps_are_exact()
        self.copies_are_few()
        self.books_balance()
        arrived = {delivery for _, delivery in self.books.sink}
        rows = self.rows(
            "SELECT delivery_id, state FROM deliveries WHERE state NOT IN ('bounced', 'cancelled')"
        )
        lost = [row for row in rows if row[1] == "sent" and row[0] not in arrived]
        assert lost == []


class EngineOnPostgreSQL(Engine):
    kind = Kind.POSTGRESQL


_quiet = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
_LIVES = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestEngine = _quiet(Engine.TestCase)
TestEngine.settings = _LIVES
TestEngineOnPostgreSQL = _quiet(EngineOnPostgreSQL.TestCase)
TestEngineOnPostgreSQL.settings = settings(_LIVES, max_examples=15)
