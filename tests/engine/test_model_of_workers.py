"""Several workers under random life: kills, stops, lost machines, a database that hangs, clocks that are set.

The machine drives real memberships, journals and units of work on a real database and plays the peer itself.
A worker that is stopped wakes in the middle of what it did. After every step what must hold is checked,
and at the end everything is driven to rest and counted.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroom.clock import MICROS
from postroom.core.message import FINAL_STATES, Purpose
from postroom.engine import caps, unknowns
from postroom.engine.claim import Claimed, Pick, claim
from postroom.engine.clock_guard import ClockGuard
from postroom.engine.membership import DELIVERS, Joined, Leased
from postroom.engine.retry import Policy
from postroom.engine.settings import Leases
from postroom.engine.settle import Ended, settle
from postroom.ids import AttemptId, DecisionId, LaneId
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.workers import Identity
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support import seed_rows, stores
from tests.support.clock import FakeClock
from tests.support.direct_store import Direct
from tests.support.stores import Kind

T = TypeVar("T")
SESSIONS = 2
HOSTS = ("here", "there")
LEASES = Leases()
GIVES_UP_S = 600.0  # a peer does not wait for longer
SENT = Outcome(Result.SENT, Fault.NONE, Phase.DONE, 250, text="ok", begun=True)
UNKNOWN = Outcome(Result.UNKNOWN, Fault.CONNECTION, Phase.DOT, text="dropped", begun=True)
RETURNED = Outcome(Result.RETURNED, Fault.OURS, Phase.MAIL, text="cut")


@dataclass
class Open:
    """One attempt of a worker. stage: claimed, begun, at_dot (the last check is behind it), dotted."""

    claimed: Claimed
    stage: str = "claimed"
    received: bool = False


@dataclass
class Member:
    """One process."""

    host: str
    membership: Leased
    joined: Joined
    guard: ClockGuard
    open: dict[AttemptId, Open] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    stopped_s: float | None = None  # since when, by SIGSTOP

    @property
    def runs(self) -> bool:
        return self.stopped_s is None

    @property
    def claims(self) -> bool:
        return self.runs and not self.joined.lease.over


class Workers(RuleBasedStateMachine):
    kind = Kind.SQLITE

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.place = ExitStack()
        self.place.enter_context(stores.on(self.kind))
        self.database = Direct(self.folder, self.clock)
        self.runner = self.database._loop or asyncio.Runner()
        self.policy = Policy(unknown_wait_s=30)
        self.members: list[Member] = []
        self.accepted = 0
        self.lanes: dict[LaneId, Purpose] = {}
        self.sink: list[tuple[float, int]] = []
        self.excused: set[AttemptId] = set()  # what became of them was not known when they were sent again

    def wait(self, work: Coroutine[object, object, T]) -> T:
        return self.runner.run(work)

    def run(self, work: Callable[[], Work[T]]) -> T:
        return self.wait(self.database.store.write(work))

    def rows(self, text: str) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text))

        return self.wait(self.database.store.read(work))

    def count(self, text: str) -> int:
        value: int = self.rows(text)[0][0]
        return value

    @initialize(hourly=st.sampled_from([4, 9, 30]))
    def start(self, hourly: int) -> None:
        self.hourly = hourly
        self.run(seed_rows.tenants)
        self.connection = self.run(lambda: seed_rows.connection(hourly))
        self.join("here")
        self.join("there")

    # --- processes -------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.members) < 4)
    @rule(host=st.sampled_from(HOSTS))
    def join(self, host: str) -> None:
        identity = Identity(host, len(self.members), "boot", DELIVERS, "1")
        membership = Leased(
            self.database.store, self.clock, self.folder / host, "i", self.policy, LEASES, identity
        )
        self.members.append(Member(host, membership, self.wait(membership.join()), ClockGuard(self.clock)))

    def mind(self, *living: Member) -> None:
        """Whoever may be taken for dead now may be so: what it has under way is in doubt."""
        for member in living:
            for other in self.members:
                if other not in living:
                    self.excused.update(a for a, one in other.open.items() if one.stage == "dotted")
                    if other.host != member.host:
                        self.excused.update(one.attempt_id for one in other.ended)
            if member.claims:
                self.wait(member.membership.mind())
        for member in living:
            if member.runs and member.joined.lease.over:
                self.begin_anew(member)

    def begin_anew(self, member: Member) -> None:
        """As `Terms` does it: cut, settle under the old term, end it, join as another worker."""
        for attempt, one in list(member.open.items()):
            unsure = one.stage in ("dotted", "at_dot")
            if unsure and one.received:
                self.excused.add(attempt)
            self.end(member, attempt, UNKNOWN if unsure else RETURNED)
        self.settle_all(member)
        clean = self.wait(member.membership.leave(member.joined.worker))
        assert clean
        member.joined.journal.close(remove=clean)
        member.joined = self.wait(member.membership.join())

    @rule(seconds=st.sampled_from([5, 30, 120, 300, 1800]), cut_off=st.sets(st.integers(0, 3)))
    def time_passes(self, seconds: int, cut_off: set[int]) -> None:
        """Those that run mind their leases, but for some that cannot reach the database."""
        living = [one for n, one in enumerate(self.members) if one.runs and n not in cut_off]
        while seconds > 0:
            self.clock.advance(min(seconds, LEASES.lease_renew_s))
            seconds -= int(LEASES.lease_renew_s)
            self.mind(*living)

    @rule(seconds=st.sampled_from([20, 60, 85, 200]))
    def database_hangs(self, seconds: int) -> None:
        """Nobody is dead for it."""
        dead = self.count("SELECT COUNT(*) FROM workers WHERE ended_at IS NOT NULL")
        for member in self.members:
            member.membership._reaper.forget()  # what they watched before is another matter
        self.clock.advance(seconds)
        living = [one for one in self.members if one.runs]
        over = sum(one.joined.lease.over for one in living)
        self.mind(*living)
        assert self.count("SELECT COUNT(*) FROM workers WHERE ended_at IS NOT NULL") <= dead + over

    @precondition(lambda self: any(one.runs for one in self.members))
    @rule(data=st.data(), at_dot=st.booleans())
    def stop(self, data: st.DataObject, at_dot: bool) -> None:
        """SIGSTOP; at_dot: with one delivery between the last look at the lease and the dot."""
        member = data.draw(st.sampled_from([one for one in self.members if one.runs]))
        for attempt, one in member.open.items():
            if at_dot and one.stage == "begun" and not member.joined.lease.over:
                member.joined.journal.dot(attempt)
                one.stage, at_dot = "at_dot", False
                self.excused.add(attempt)
        member.stopped_s = self.clock.steady_s()

    @precondition(lambda self: any(not one.runs for one in self.members))
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        self.go_on(data.draw(st.sampled_from([one for one in self.members if not one.runs])))

    def go_on(self, member: Member) -> None:
        assert member.stopped_s is not None
        waits = self.clock.steady_s() - member.stopped_s < GIVES_UP_S
        member.stopped_s = None
        for one in member.open.values():
            if one.stage == "at_dot":
                one.stage = "dotted"
                if waits:
                    self.arrive(one)
        self.mind(member)

    def forget(self, member: Member) -> None:
        self.excused.update(a for a, one in member.open.items() if one.stage in ("dotted", "at_dot"))
        member.joined.journal.close(remove=False)
        self.members.remove(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), everybody=st.booleans())
    def kill(self, data: st.DataObject, everybody: bool) -> None:
        for member in list(self.members) if everybody else [data.draw(st.sampled_from(self.members))]:
            self.forget(member)

    @rule(host=st.sampled_from(HOSTS))
    def lose_machine(self, host: str) -> None:
        for member in [one for one in self.members if one.host == host]:
            self.excused.update(member.open)
            self.excused.update(one.attempt_id for one in member.ended)
            self.forget(member)
        for path in (self.folder / host).glob("*.journal"):
            self.excused.update(self.open_of(int(path.name.split("-")[0])))
            path.unlink()

    def open_of(self, worker_id: int) -> list[AttemptId]:
        rows = self.rows(f"SELECT attempt_id FROM attempts WHERE worker_id = {worker_id} AND result IS NULL")
        return [row[0] for row in rows]

    @rule(step_s=st.sampled_from([3600, -3600, 100_000, -100_000]))
    def set_the_clock(self, step_s: int) -> None:
        """Leases do not go by it; grants pause."""
        self.clock.step(step_s)
        for member in self.members:
            member.guard.look()
        self.mind(*[one for one in self.members if one.runs])

    # --- mail ------------------------------------------------------------------------------------------

    @rule(n=st.integers(1, 4), purpose=st.sampled_from([Purpose.TRANSACTIONAL, Purpose.BROADCAST]))
    def accept(self, n: int, purpose: Purpose) -> None:
        people = [f"r{self.accepted + i}@example.net" for i in range(n)]
        _, lane = self.run(lambda: seed_rows.message(purpose, people, f"m{self.accepted}"))
        self.accepted += n
        self.lanes[lane] = purpose

    @precondition(lambda self: self.members)
    @rule(data=st.data(), wanted=st.integers(1, 4), steps=st.integers(0, 3), settles=st.booleans())
    def work(self, data: st.DataObject, wanted: int, steps: int, settles: bool) -> None:
        """Claim, and take what is open some steps further."""
        member = data.draw(st.sampled_from(self.members))
        if not member.runs:
            return
        self.claim(member, wanted)
        for _ in range(steps):
            for attempt in list(member.open):
                self.go_further(member, attempt, data.draw(st.sampled_from(["well", "well", "lost"])))
        if settles:
            self.settle_all(member)

    def claim(self, member: Member, wanted: int) -> None:
        wanted = min(wanted, 2 * SESSIONS - len(member.open) - len(member.ended))
        if wanted <= 0 or not member.claims or member.guard.paused():
            return
        picks = [
            Pick(lane, seed_rows.SERVER, purpose, "a@b", DecisionId(1), wanted)
            for lane, purpose in sorted(self.lanes.items())
        ]
        worker = member.joined.worker
        claims = self.run(lambda: claim(worker, seed_rows.ACCOUNT, self.connection, 1, picks, wanted))
        for one in claims.claimed:
            member.open[one.attempt_id] = Open(one)

    def go_further(self, member: Member, attempt: AttemptId, how: str) -> None:
        one, journal = member.open[attempt], member.joined.journal
        if one.stage == "claimed":
            journal.begin(attempt)
            one.stage = "begun"
        elif one.stage == "begun":
            journal.dot(attempt)
            if member.joined.lease.over:  # looked at between the record and the dot
                self.end(member, attempt, RETURNED)
                return
            one.stage = "dotted"
            if how == "well":
                self.arrive(one)
        else:
            self.end(member, attempt, SENT if one.received else UNKNOWN)

    def arrive(self, one: Open) -> None:
        one.received = True
        self.sink.append((self.clock.steady_s(), one.claimed.delivery_id))

    def end(self, member: Member, attempt: AttemptId, outcome: Outcome) -> None:
        member.joined.journal.outcome(attempt, outcome)
        del member.open[attempt]
        member.ended.append(Ended(attempt, outcome))

    def settle_all(self, member: Member) -> None:
        ended, member.ended = member.ended, []
        settled = self.run(lambda: settle(ended, self.policy))
        member.joined.journal.settled(one.attempt_id for one in ended)
        self.note_lanes(settled.woken)

    def note_lanes(self, woken: dict[LaneId, list[int]]) -> None:
        for lane in woken:
            rows = self.rows(f"SELECT purpose FROM lanes WHERE lane_id = {lane}")
            self.lanes.setdefault(lane, Purpose(rows[0][0]))

    @rule()
    def end_unknowns(self) -> None:
        self.note_lanes(self.run(lambda: unknowns.end_due(self.policy)))

    # --- what must always hold -------------------------------------------------------------------------

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "connection"):
            return
        held = self.count("SELECT COALESCE(SUM(held), 0) FROM cap")
        waiting = self.count("SELECT COALESCE(SUM(n), 0) FROM cap_release")
        assert held == waiting + self.count("SELECT COUNT(*) FROM attempts WHERE result IS NULL")
        assert held <= self.hourly
        assert self.count("SELECT COUNT(*) FROM deliveries") == self.accepted
        ready = self.count("SELECT COUNT(*) FROM ready")
        assert ready == self.count(
            "SELECT COUNT(*) FROM deliveries d JOIN ready r ON r.delivery_id = d.delivery_id"
            " AND r.lane_id = d.lane_id AND r.due = d.due WHERE d.state = 'ready'"
        )
        assert ready == self.count("SELECT COUNT(*) FROM deliveries WHERE state = 'ready'")
        unknown = self.count("SELECT COUNT(*) FROM unknowns")
        assert unknown == self.count(
            "SELECT COUNT(*) FROM deliveries d JOIN unknowns u ON u.delivery_id = d.delivery_id"
            " AND u.due = d.due WHERE d.state = 'unknown'"
        )
        assert self.count("SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'") == self.count(
            "SELECT COUNT(*) FROM attempts WHERE result IS NULL"
        )

    @invariant()
    def caps_are_exact(self) -> None:
        times = sorted(when for when, _ in self.sink)
        for i, first in enumerate(times):
            assert sum(t < first + caps.HOUR_US / MICROS for t in times[i:]) <= self.hourly

    @invariant()
    def copies_are_few(self) -> None:
        arrived = Counter(delivery for _, delivery in self.sink)
        assert sum(n - 1 for n in arrived.values()) <= len(self.excused)
        bulk = self.rows(
            "SELECT d.delivery_id FROM deliveries d JOIN messages m ON m.message_id = d.message_id"
            " WHERE m.purpose = 'broadcast'"
        )
        assert all(arrived[row[0]] <= 1 for row in bulk)  # what is unknown is never sent again
        sent = self.rows("SELECT delivery_id FROM deliveries WHERE state = 'sent'")
        assert {row[0] for row in sent} <= set(arrived)

    def teardown(self) -> None:
        try:
            if hasattr(self, "connection"):
                self.come_to_rest()
        finally:
            for member in self.members:
                member.joined.journal.close(remove=True)
            runner = self.runner if self.database._loop is None else None
            self.database.close()
            if runner is not None:
                runner.close()
            self.place.close()
            shutil.rmtree(self.folder)

    def come_to_rest(self) -> None:
        """From here on all goes well: everything ends by itself and nothing is lost."""
        for member in [one for one in self.members if not one.runs]:
            self.go_on(member)
        if not self.members:
            self.join("here")
        final = ", ".join(repr(state.value) for state in FINAL_STATES)
        left = 1
        for _ in range(200):
            for member in self.members:
                self.claim(member, 2 * SESSIONS)
                while member.open:
                    for attempt in list(member.open):
                        self.go_further(member, attempt, "well")
                self.settle_all(member)
            self.end_unknowns()
            left = self.count(f"SELECT COUNT(*) FROM deliveries WHERE state NOT IN ({final})")
            if left == 0 and len(self.members) == self.count(
                "SELECT COUNT(*) FROM workers WHERE ended_at IS NULL"
            ):
                break
            for _ in range(20):
                self.clock.advance(LEASES.lease_renew_s * 2)
                self.mind(*self.members)
        assert left == 0
        self.books_balance()
        self.caps_are_exact()
        self.copies_are_few()
        arrived = {delivery for _, delivery in self.sink}
        lost = [
            row for row in self.rows("SELECT delivery_id, state FROM deliveries") if row[0] not in arrived
        ]
        assert {row[1] for row in lost} <= {"unverified"}
        assert len(self.members) == self.count("SELECT COUNT(*) FROM workers WHERE ended_at IS NULL")


class WorkersOnPostgreSQL(Workers):
    kind = Kind.POSTGRESQL


_quiet = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
_LIVES = settings(
    max_examples=10,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestWorkers = _quiet(Workers.TestCase)
TestWorkers.settings = _LIVES
TestWorkersOnPostgreSQL = _quiet(WorkersOnPostgreSQL.TestCase)
TestWorkersOnPostgreSQL.settings = settings(_LIVES, max_examples=2)
