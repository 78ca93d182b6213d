"""The dispatcher: joins lanes, routing, runners and settling into the running engine of one process.

Everything that may change whose turn it is ends in the pump, which looks once, soon. A missed call costs time
only: about every second everything is looked at, and now and then the lanes are read anew (`looking`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from postroom.clock import Clock
from postroom.core.connection import Connection, DeliveryMethod
from postroom.engine import health, waiting
from postroom.engine.attempt import Attempt
from postroom.engine.caps import ClockWasSet
from postroom.engine.claim import Claimed, Claims, Pick, Refusal, Worker, claim
from postroom.engine.clock_guard import ClockGuard
from postroom.engine.clock_steps import ClockSteps
from postroom.engine.composer import CannotCompose, Composer
from postroom.engine.evidence import Evidence
from postroom.engine.host import Deliver
from postroom.engine.lane_book import LaneBook
from postroom.engine.lanes import MANY, LaneState
from postroom.engine.looking import Looking
from postroom.engine.membership import DELIVERS, Alone, Leased, Membership, this_process
from postroom.engine.pauses import Pausing
from postroom.engine.pump import Pump
from postroom.engine.recover import Recovery
from postroom.engine.router import FRESH, Health, Router
from postroom.engine.runner import Runner
from postroom.engine.settings import EngineSettings
from postroom.engine.settle import Ended, HeldDelivery, Settled
from postroom.engine.signing import Signing, rules_of
from postroom.engine.tasks import Tasks
from postroom.engine.telling import Telling
from postroom.engine.term import Term
from postroom.engine.terms import Terms
from postroom.engine.under_way import UnderWay
from postroom.errors import PostroomError, Unavailable
from postroom.ids import AccountId, AttemptId, ConnectionId, DecisionId, DeliveryId, LaneId
from postroom.logs import logger
from postroom.storage.database_clock import DatabaseClock, measure
from postroom.storage.interface import Store, Work
from postroom.storage.pauses import Pause
from postroom.storage.routes import Route
from postroom.storage.workers import Identity
from postroom.tally import Tally
from postroom.tracking.links import MailLinks
from postroom.transports.interface import Fault, Outcome, Phase, Result, Transport

log = logger("engine")
_HINDERED_WAIT_S = 1.0
_SPEAKS = frozenset(DeliveryMethod)


def speaks(route: Route) -> bool:
    """Whether this version has a transport for a connection's delivery method."""
    return route.delivery_method in _SPEAKS


class Dispatcher:
    """The engine of one process. Implements `actions.context.Hearer`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        transport_for: Callable[[Connection], Transport | None],
        load_connection: Callable[[AccountId, ConnectionId], Awaitable[Connection]],
        journal_folder: Path,
        instance: str,
        settings: EngineSettings,
        links: MailLinks,
        telling: Telling | None = None,
        signing: Signing | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.clock, self.settings = clock, settings
        self._telling = telling or Telling(clock, Tally())
        self.store = store
        self._book = LaneBook()
        self._runners: dict[ConnectionId, Runner] = {}
        self._router = Router(store, self.health_of, speaks)
        self._signing = signing
        self._composer = Composer(store, links, signing)
        self._guard = ClockGuard(clock)
        self._clock_steps = ClockSteps(store, clock, self._guard, settings, leads=lambda: self.leads)
        self._attempts = UnderWay(clock)
        self._pausing = Pausing(store, self._book, self._runners, self._attempts)
        self._tasks = Tasks("dispatcher")
        self.terms = Terms(
            store,
            self._membership(journal_folder, instance, identity),
            settings.policy,
            self._attempts,
            self._settled,
            self._cut,
            self._tasks,
        )
        self.looking = Looking(
            self,
            self.terms,
            self._book,
            self._runners,
            lambda route: Runner(self, route, transport_for, load_connection),
            self._pausing,
            self._clock_steps,
            Evidence(store, clock, self._transport_of),
            self._tasks,
        )
        self._pump = Pump(
            clock,
            self._book,
            self._runners,
            self._router,
            self._tasks,
            settings.sessions_per_connection,
            lambda: self.running and not self.fenced,
        )
        self._claims_again_s = 0.0
        self.running = False
        self.tell_judged: Callable[[ConnectionId], None] = lambda _: None  # to the other processes
        # For who can reach the other processes: theirs may be the second try.
        self.tell_overtaken: Callable[[Collection[AttemptId]], None] = self.overtaken
        self.news_of_held: deque[HeldDelivery] = deque(maxlen=100)  # for whoever gives notice of them

    def _membership(self, folder: Path, instance: str, identity: Identity | None) -> Membership:
        store, clock, policy, leases = self.store, self.clock, self.settings.policy, self.settings.leases
        if leases is None:
            return Alone(store, clock, folder, instance, policy)
        identity = identity or this_process(DELIVERS)
        return Leased(store, clock, folder, instance, policy, leases, identity, self._settled)

    def _cut(self) -> None:
        for runner in self._runners.values():
            runner.cut()

    # --- life ------------------------------------------------------------------------------------------

    async def start(self) -> Recovery:
        """Take over what a former worker left, then begin. Raises Unavailable."""
        await self._clock_steps.at_start()
        recovery = await self.terms.begin()
        self.running = True
        await self.looking.reread()
        self._tasks.spawn(self.terms.membership.keep())
        self._tasks.spawn(self.looking.tick())
        self.pump()
        return recovery

    async def stop(self, drain_s: float = 30.0) -> None:
        """Claim nothing more, let what is on its way end, settle everything, end cleanly."""
        if not self.running:
            return
        self.running = False
        await asyncio.gather(*(runner.stop(drain_s) for runner in self._runners.values()))
        await self._tasks.cancel()
        await self.terms.stop(max(5.0, drain_s))
        if self._signing is not None:
            await self._signing.close()

    # --- Hearer: what actions tell us after their commit -----------------------------------------------

    def wake(self, lanes: Sequence[tuple[LaneId, int]]) -> None:
        """So many deliveries became ready on these lanes."""
        if not self.running:
            return
        now_us = self.clock.now_us()
        for lane_id, count in lanes:
            state = self._book.lanes.get(lane_id)
            if state is None:
                self._tasks.spawn(self.looking.learn_lane(lane_id, now_us, count))
            else:
                self._book.wake(state, now_us, count)
        self._pump.soon()

    def connection_changed(self, connection_id: ConnectionId) -> None:
        """A connection was made, changed, tested, switched or deleted."""
        if self.running:
            self._tasks.spawn(self.looking.refresh(connection_id))

    def room_changed(self, connection_id: ConnectionId) -> None:
        """Its counters were set back."""
        runner = self._runners.get(connection_id)
        if self.running and runner is not None and runner.room.came_back():
            self.health_changed(runner)

    def facts_changed(self, account_id: AccountId) -> None:
        """Identities or other facts of an account changed; 0: of everybody."""
        if self._signing is not None:
            self._signing.forget()
        for state in self._book.of_account(account_id):
            self._book.doubt(state)
        self._pump.soon()

    async def pauses_changed(self, about: Pause) -> int:
        """A person paused or resumed this: in force when it returns. How many of it are on their way."""
        if not self.running:
            return 0
        await self.look_at_pauses()
        return self._pausing.on_their_way(about)

    async def look_at_pauses(self) -> None:
        """Put in force what is paused now."""
        if not self.running:
            return
        try:
            await self._pausing.look()
            self._pump.soon()
        except PostroomError as error:  # the claim's own look stops it meanwhile
            log.warning("pauses could not be read", error=str(error))

    async def cancel_claims(self, deliveries: Sequence[DeliveryId]) -> frozenset[DeliveryId]:
        """Stop these before their final dot; returns which could not be stopped."""
        return await self._attempts.stop(set(deliveries))

    def overtaken(self, attempts: Collection[AttemptId]) -> None:
        """Earlier tries of what these carry were sent after all: what is not at its dot yet stops."""
        self._attempts.overtake(attempts)

    async def let_go(self, connection_id: ConnectionId) -> frozenset[DeliveryId]:
        """Give back what this connection holds; returns what is still on its way after half a minute."""
        if not self.running:
            return frozenset()
        await self.looking.refresh(connection_id)
        return await self._attempts.give_back(connection_id)

    def waits(self, lane_id: LaneId) -> int | None:
        """About how many deliveries wait on a lane; None: this engine does not run."""
        if not self.running:
            return None
        state = self._book.lanes.get(lane_id)
        return MANY if state is None else state.backlog

    def stop_attempts(self, attempts: Collection[AttemptId], *, cancel: bool) -> None:
        """Cancel these before their final dot, or give them back unless they are on their way."""
        self._attempts.mark(attempts, cancel=cancel)

    async def reread(self) -> None:
        """Look at everything that a missed call could have told. Raises PostroomError."""
        if self.running:
            await self.looking.reread()
            self.pump()

    # --- Host: what runners need -----------------------------------------------------------------------

    def health_of(self, connection_id: ConnectionId) -> Health:
        """What only the running engine knows of a connection."""
        runner = self._runners.get(connection_id)
        return runner.health if runner is not None else FRESH

    def work_for(self, runner: Runner) -> tuple[int, bool]:
        """About how many deliveries wait for this runner, and whether any is transactional."""
        return self._pump.work_for(runner)

    def call(self, runner: Runner) -> None:
        """It can take more than before: look soon whether there is something for it."""
        self._pump.call(runner)

    async def _claim(self, worker: Worker, route: Route, picks: Sequence[Pick], wanted: int) -> Claims:
        def step(known: Container[int] | None) -> Callable[[], Work[Claims]]:
            whose = worker, route.account_id, route.connection_id, route.version
            return lambda: claim(*whose, picks, wanted, known, self._guard.latest_us)

        try:
            return await self.store.write(step(self._composer.known))
        except (ClockWasSet, Unavailable):
            raise
        except Exception as error:  # a content that cannot be read holds its own delivery, no other
            log.warning("contents could not be read with a claim", cause=type(error).__name__)
            return await self.store.write(step(None))

    async def claim(self, runner: Runner, wanted: int, wanted_bulk: int) -> Claims | None:
        """Claim for this runner; None when nothing is there for it, or grants pause."""
        term = self.terms.present
        if term is None or term.over or not self.running:
            return None
        if self._guard.paused() and (
            runner.route.hourly_cap is not None or runner.route.daily_cap is not None
        ):
            return None
        began_s = self.clock.steady_s()
        if began_s < self._claims_again_s:
            return None
        now_us = self.clock.now_us()
        most = max(wanted_bulk, 0)
        picked = self._book.pick(
            runner.connection_id,
            wanted,
            now_us,
            lambda s: self._pump.allowance(s, runner, wanted if s.transactional else min(wanted, most)),
            bulk=most,
        )
        if not picked:
            return None
        picks = [
            Pick(
                lane.lane_id,
                lane.server_id,
                lane.purpose,
                lane.sender,
                DecisionId(s.decision_id),
                quota,
                s.floor.at(began_s),
            )
            for s, quota in picked
            for lane in (s.lane,)
        ]
        seen = {s.lane.lane_id: s.changes for s, _ in picked}
        number = term.claim_begins()
        try:
            claims = await self._claim(term.worker, runner.route, picks, wanted)
            self._take(term, claims, now_us)
        except ClockWasSet:
            await self._look_at_clock()
            return None
        except Unavailable:
            self.terms.claim_in_doubt()
            raise
        finally:
            term.claiming.discard(number)
        self._account_for(claims, seen, began_s)
        self._pump.left_over(s for s, _ in picked)
        self._pump.soon()  # of what ran short more may be due
        for lane_id, count in claims.moved.items():
            self._tasks.spawn(self.looking.learn_lane(lane_id, now_us, count))
        if claims.refusal is Refusal.WORKER_LOST:
            log.error("another worker holds our epoch; nothing more goes out", worker=term.worker.worker_id)
            term.lease.lose()
        elif claims.refusal is Refusal.PAUSED:
            await self.look_at_pauses()  # other lanes may have been claimed from, which must not get lost
        elif claims.refusal is not None:
            await self.looking.refresh(runner.connection_id)
        self._composer.keep(claims.bodies)
        return claims

    async def _look_at_clock(self) -> None:
        """The database's is ahead of ours: the guard is to know by how much before anything is granted."""
        if isinstance(self.clock, DatabaseClock):
            await measure(self.store, self.clock)
        self._guard.look()

    def _take(self, term: Term, claims: Claims, began_us: int) -> None:
        for one in claims.claimed:
            attempt = self._attempts[one.attempt_id] = Attempt(one, self.clock, term)
            self._telling.claimed(attempt, began_us)
            if self._pausing.now.stop_claimed(one):  # paused after this claim's commit
                attempt.withdraw()

    def _account_for(self, claims: Claims, seen: dict[LaneId, int], began_s: float) -> None:
        for lane_id, due in claims.next_due.items():
            self._book.looked(self._book.lanes[lane_id], seen[lane_id], due)
            self._book.lanes[lane_id].floor.drop()
        for lane_id, (due_us, from_lowest) in claims.reached.items():
            self._book.lanes[lane_id].floor.reached(due_us, began_s, from_lowest=from_lowest)
        # A lane is charged once for all of a claim: one by one, whoever comes later in it would be charged
        # for its waiting too.
        for lane_id, count in Counter(one.lane_id for one in claims.claimed).items():
            self._book.claimed(self._book.lanes[lane_id], count, full=lane_id in claims.reached)

    def attempt(self, claimed: Claimed) -> Attempt:
        """The checks and the journal of one attempt."""
        return self._attempts[claimed.attempt_id]

    async def envelope_outcome(self, attempt: Attempt, deliver: Deliver) -> Outcome:
        """Compose and hand over to `deliver`."""
        try:
            attempt.begin()
            route = self._runners[attempt.claimed.connection_id].route
            attempt.envelope = await self._composer.envelope(attempt.claimed, route.offer, rules_of(route))
        except CannotCompose as error:
            log.error("delivery held", delivery=attempt.claimed.delivery_id, cause=str(error))
            return Outcome(Result.HELD, Fault.OURS, Phase.CONNECT, text=str(error))
        except (OSError, Unavailable) as error:
            attempt.hindered = True
            return Outcome(Result.RETURNED, Fault.OURS, Phase.CONNECT, text=f"could not begin: {error}")
        outcome = await deliver(attempt)
        signed = attempt.envelope.signed
        return replace(outcome, signed=signed) if signed else outcome

    def ended(self, attempt: Attempt, outcome: Outcome, done: Callable[[], None]) -> None:
        """Record and settle."""
        attempt.ended(outcome)
        if attempt.hindered:  # it goes back unchanged, so it would be tried again as fast as we can
            self._claims_again_s = self.clock.steady_s() + _HINDERED_WAIT_S
        attempt_id, account_id = attempt.claimed.attempt_id, attempt.claimed.account_id

        def settled() -> None:
            self._attempts.pop(attempt_id, None)
            done()
            self._telling.settled(attempt, outcome)

        ended = Ended(
            attempt_id, outcome, account_id, cancelled=attempt.cancelled, overtaken=attempt.overtaken
        )
        attempt.term.settler.put(ended, settled)

    def health_changed(self, runner: Runner) -> None:
        """Routing has to look again at every lane of the account that this connection may serve."""
        self.facts_changed(runner.route.account_id)

    async def judged(self, runner: Runner, verdict: health.Verdict) -> None:
        """Store what became of a connection: failed, held, or well again."""
        route = runner.route
        who = (route.account_id, route.server_id, route.connection_id)
        if verdict is health.Verdict.FAIL:
            text = runner.troubles.last_text
            log.info("connection failed", connection=route.connection_id, cause=text)
            await self.store.write(lambda: health.record_failed(*who, route.version, text))
            runner.failed_now()
        elif verdict is health.Verdict.HOLD:
            text = runner.troubles.last_text
            log.info("connection held", connection=route.connection_id, cause=text)
            await self.store.write(lambda: health.record_held(*who, self.settings.probe_every_s, text))
        else:
            log.info("connection recovered", connection=route.connection_id)
            await self.store.write(lambda: health.record_recovered(*who, route.version))
        await self.looking.refresh(route.connection_id)
        self.tell_judged(route.connection_id)

    def backed_off(self, runner: Runner) -> None:
        """Note that trouble began."""
        route, text = runner.route, runner.troubles.last_text
        self._tasks.spawn(
            self.store.write(
                lambda: health.note_back_off(
                    route.account_id, route.connection_id, text, self.settings.failed_after_s
                )
            )
        )

    def pump(self) -> None:
        """Look soon, at everything, whose turn it is."""
        self._pump.everything()

    def soon(self) -> None:
        """Look soon at the lanes there is news of."""
        self._pump.soon()

    def _settled(self, settled: Settled) -> None:
        """After each settle's commit."""
        for lane_id, dues in settled.woken.items():
            state = self._book.lanes.get(lane_id)
            if state is None:
                self._tasks.spawn(self.looking.learn_lane(lane_id, min(dues), len(dues)))
            else:
                self._book.wake(state, min(dues), len(dues))
        for lane_id in settled.moved:
            waiting.moved(self._book.lanes.get(lane_id))
        for connection_id, lane_id in settled.lacking:
            known = self._book.lanes.get(lane_id)
            if known is not None:
                self._book.refused(known, connection_id)
        for connection_id, sender in settled.sender_refused:
            runner = self._runners.get(connection_id)
            for state in self._book.of_account(runner.route.account_id) if runner is not None else ():
                if state.lane.sender in (sender, ""):
                    self._book.refused(state, connection_id)
        self.news_of_held.extend(settled.held)
        if settled.overtaken:
            self.tell_overtaken(settled.overtaken)
        if settled.unknown:
            self._tasks.spawn(self.looking.look_at_unknowns())
        self._pump.soon()

    async def _transport_of(self, connection_id: ConnectionId) -> Transport | None:
        runner = self._runners.get(connection_id)
        return None if runner is None else await runner.way.transport()

    # --- for the operator ------------------------------------------------------------------------------

    @property
    def open_attempts(self) -> int:
        """Attempts claimed and not yet settled."""
        return len(self._attempts)

    @property
    def open_sessions(self) -> int:
        """Sessions open in this process."""
        return sum(len(runner.sessions) for runner in self._runners.values())

    @property
    def runners(self) -> Mapping[ConnectionId, Runner]:
        """Every connection's runner, those of deleted ones included."""
        return self._runners

    @property
    def lanes(self) -> Mapping[LaneId, LaneState]:
        """Every lane this process knows."""
        return self._book.lanes

    @property
    def fenced(self) -> bool:
        """Nothing more may go out: another holds our epoch, or our lease is over."""
        return self.running and self.terms.over

    @property
    def leads(self) -> bool:
        """This process does what one engine does for all."""
        return self.terms.membership.leads

    @property
    def epoch(self) -> int:
        """Of this worker; 0: it has not started."""
        return 0 if self.terms.present is None else self.terms.present.worker.epoch

    @property
    def journal_bytes(self) -> int:
        """Size of the outcome journal."""
        return 0 if self.terms.present is None else self.terms.present.journal.size_bytes

    @property
    def grants_pause_s(self) -> float:
        """For how long no room under a cap is granted, because the clock was set forward."""
        return self._guard.pause_left_s if self._guard.paused() else 0.0
