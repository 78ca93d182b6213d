"""One connection at work: its sessions, what it claimed, and how it fares.

A session is opened first and pulls then: nothing is claimed for a login that may fail. At most two
deliveries are claimed for each open session, so that is all a lost machine can leave unknown. Sessions
take from one small shared queue, transactional mail first, so a slow message delays only its own session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from postroom.clock import MICROS
from postroom.core.connection import Connection
from postroom.core.message import Purpose
from postroom.engine.attempt import Attempt
from postroom.engine.claim import Claimed, Refusal
from postroom.engine.health import Troubles, Verdict
from postroom.engine.host import Host
from postroom.engine.room import QUOTA_AGAIN_S, Room
from postroom.engine.router import Health
from postroom.engine.tasks import Tasks
from postroom.engine.transitions import uses_room
from postroom.errors import PostroomError
from postroom.ids import AccountId, ConnectionId
from postroom.logs import Trouble, logger
from postroom.storage.quotas import Mark
from postroom.storage.routes import Route
from postroom.transports.interface import (
    Account,
    Fault,
    OpenFailed,
    Outcome,
    Phase,
    Quota,
    Result,
    Session,
    Transport,
)

log = logger("engine")
PER_SESSION = 2
QUOTA_EVERY_S = 300.0
GIVEN_BACK = Outcome(
    Result.RETURNED, Fault.OURS, Phase.CONNECT, text="given back before it was tried", session_usable=False
)
_CUT_S = 5.0  # for a session that was cut to say what became of its message
_SLOW_S = 1.0  # a delivery that takes longer holds up what was claimed to follow it
_RESTED_S = 1.0  # a session that waited for longer may have been closed by its peer meanwhile


@dataclass(eq=False)
class _Slot:
    """One open session and its task."""

    session: Session
    version: int
    idle_since_s: float
    waiting: asyncio.Future[Claimed | None] | None = None
    used: int = 0
    bulk: bool = False  # what it delivers now
    stopping: bool = False
    busy_since_s: float | None = None
    slow: bool = False  # its last delivery took long


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
        self._transport_for, self._load_connection = transport_for, load_connection
        self.troubles = Troubles(host.clock, host.settings)
        self.outstanding = 0  # claimed and not yet settled
        self.outstanding_bulk = 0
        self.room = Room()
        self.opening_since_s: float | None = None
        self._opening = 0
        self._slots: set[_Slot] = set()
        self._inbox: deque[Claimed] = deque()
        self._idle: deque[_Slot] = deque()
        self._claim_trouble = Trouble(log)
        self._claiming = False
        self._claim_again = False
        self._transport: tuple[int, Transport] | None = None
        self._tasks = Tasks(f"connection {route.connection_id}")
        self._probed_s = host.clock.steady_s() - host.settings.probe_every_s  # one found failed: at once
        self._handed_s = host.clock.steady_s()
        self._quota: Quota | None = None  # as the transport said it last, stored
        self._quota_s = host.clock.steady_s()
        self._reading_quota = False
        self._waits_to_probe = False
        self._condemned = False  # found failed or to be held, which is being stored
        self._paused = False  # by a person: it, its server or everything
        self.draining = False

    # --- what others ask -------------------------------------------------------------------------------

    @property
    def connection_id(self) -> ConnectionId:
        return self.route.connection_id

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._slots)

    @property
    def busy(self) -> int:
        """Of these, how many deliver now."""
        return sum(slot.busy_since_s is not None for slot in self._slots)

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
            self._next_probe_us(),
            room.quota_full,
            self.troubles.last_text,
        )

    @property
    def free(self) -> int:
        """Deliveries that may be claimed now."""
        most = sum(1 if slot.slow or self._hangs(slot) else PER_SESSION for slot in self._slots)
        return max(0, most - self.outstanding)

    def _hangs(self, slot: _Slot) -> bool:
        since_s = slot.busy_since_s
        return since_s is not None and self._host.clock.steady_s() - since_s > _SLOW_S

    def blocked(self, *, transactional: bool) -> bool:
        """No room under the caps for this kind of mail."""
        return self.room.blocked(self._host.clock.now_us(), transactional=transactional)

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
        if self._slots or self._opening == 0:
            return len(self._slots) + self._opening < self._most_sessions(transactional=transactional)
        return True

    # --- looking for work ------------------------------------------------------------------------------

    def kick(self) -> None:
        """Open sessions and claim, as far as there is work and nothing stands against it."""
        if self.draining or self._host.fenced or self.off or self.troubles.backing_off:
            return
        waiting, transactional = self._host.work_for(self)
        if waiting <= 0:
            return
        if self.free > 0:
            if self._claiming:
                self._claim_again = True  # what called us may have come too late for the claim under way
            else:
                self._claiming = True
                self._tasks.spawn(self._claim())
        self._open_more(waiting, transactional)

    def _open_more(self, waiting: int, transactional: bool) -> None:
        most = 1 if self.troubles.probing else self._most_sessions(transactional=transactional)
        hang = sum(self._hangs(slot) for slot in self._slots)
        others = max(0, waiting + self.outstanding - hang)
        wanted = min(most, hang + -(-others // PER_SESSION) + transactional)
        # No more at once than are open: a dead peer sees one knock, a good one is soon at full strength.
        ramp = max(1, len(self._slots)) - self._opening
        for _ in range(min(wanted - len(self._slots) - self._opening, ramp)):
            self._open_one()

    def _open_one(self) -> None:
        self._opening += 1
        if self.opening_since_s is None:
            self.opening_since_s = self._host.clock.steady_s()
        self._tasks.spawn(self._open())

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
                    self._put(claimed)
                self._give_back_withdrawn()
                self._feed()
                if not self._slots:  # the last session ended meanwhile: nobody is there to take it
                    self._give_back()
                if claims.refusal is Refusal.CONNECTION_CHANGED:
                    self.close_idle()
                if not claims.claimed and not claims.ended:
                    return
        except PostroomError as error:
            self._claim_trouble.met("claim failed", connection=self.connection_id, error=str(error))
        finally:
            self._claiming = False
            if self._claim_again:
                self._claim_again = False
                self._host.pump()

    def _put(self, claimed: Claimed) -> None:
        """Transactional mail goes before bulk, and each in the order it was claimed."""
        if claimed.purpose is Purpose.TRANSACTIONAL:
            urgent = sum(one.purpose is Purpose.TRANSACTIONAL for one in self._inbox)
            self._inbox.insert(urgent, claimed)
        else:
            self._inbox.append(claimed)

    def _most_sessions(self, *, transactional: bool) -> int:
        """Sessions this kind of mail may use: one is kept from bulk where transactional mail may come."""
        most = self._host.settings.sessions_per_connection
        keeps = most >= 2 and Purpose.TRANSACTIONAL in self.route.purposes
        return most - 1 if keeps and not transactional else most

    def _bulk_room(self) -> int:
        """Bulk that may be claimed now."""
        alone = sum(slot.bulk and (slot.slow or self._hangs(slot)) for slot in self._slots)
        limit = PER_SESSION * self._most_sessions(transactional=False) - (PER_SESSION - 1) * alone
        return max(0, min(self.free, limit - self.outstanding_bulk))

    # --- sessions --------------------------------------------------------------------------------------

    async def _open(self) -> None:
        session: Session | None = None
        version = self.route.version
        try:
            session = await self._new_session()
            await self._note_quota()
        except OpenFailed as failed:
            await self._judge(failed.outcome)
        except PostroomError as error:
            outcome = Outcome(Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text=str(error))
            await self._judge(outcome)
        finally:
            self._opening -= 1
            if self._opening == 0:
                self.opening_since_s = None
        if session is None:
            return
        self.troubles.opened()
        slot = _Slot(session, version, self._host.clock.steady_s())
        self._slots.add(slot)
        try:
            await self._run(slot)
        finally:
            self._slots.discard(slot)
            if not self._slots:
                self._give_back()
            self._feed()
            await slot.session.close()
            self._host.pump()

    async def _new_session(self) -> Session:
        """Raises OpenFailed."""
        return await (await self.transport()).open()

    async def transport(self) -> Transport:
        """How its mail goes out, with the settings of now. Raises OpenFailed when there is no way."""
        version = self.route.version
        if self._transport is None or self._transport[0] != version:
            connection = await self._load_connection(self.route.account_id, self.connection_id)
            transport = self._transport_for(connection)
            if transport is None:
                raise OpenFailed(
                    Outcome(
                        Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text="no transport for its method"
                    )
                )
            self._transport = (connection.version, transport)
        return self._transport[1]

    async def _run(self, slot: _Slot) -> None:
        """Deliver what comes until the session ends."""
        while True:
            claimed = await self._next(slot)
            if claimed is None:
                return
            attempt = self._host.attempt(claimed)
            if self.troubles.backing_off or self.draining or self.off or attempt.withdrawn:
                self._end(attempt, GIVEN_BACK)
                continue
            slot.busy_since_s = self._host.clock.steady_s()
            outcome = await self._try(slot, attempt)
            slot.slow, slot.busy_since_s = self._hangs(slot), None
            self._end(attempt, outcome)
            await self._judge(outcome)
            if not slot.session.usable or slot.used >= self._host.settings.session_max_deliveries:
                return

    async def _try(self, slot: _Slot, attempt: Attempt) -> Outcome:
        """One attempt; a fault of ours in it ends this session and nothing else."""
        try:
            return await self._host.envelope_outcome(attempt, lambda a: self._deliver(slot, a))
        except Exception as error:
            log.exception("an attempt failed unexpectedly", delivery=attempt.claimed.delivery_id)
            slot.session.abort()
            text = f"a fault of ours: {type(error).__name__}"
            if attempt.past_dot:
                return Outcome(Result.UNKNOWN, Fault.OURS, Phase.DOT, text=text, begun=True)
            return Outcome(Result.DEFERRED, Fault.OURS, Phase.CONNECT, text=text, begun=attempt.on_its_way)

    async def _deliver(self, slot: _Slot, attempt: Attempt) -> Outcome:
        # A spare session that was never used goes stale as well.
        rested = self._host.clock.steady_s() - slot.idle_since_s >= _RESTED_S
        outcome = await slot.session.deliver(attempt.envelope, attempt)
        slot.used += 1
        reused = slot.used > 1 or rested
        stale = reused and outcome.before_mail_reply and outcome.fault is Fault.CONNECTION
        if outcome.result is not Result.RETURNED or not stale or attempt.stopped:
            return outcome
        await slot.session.close()
        try:
            slot.session = await self._new_session()
        except OpenFailed as failed:
            return failed.outcome
        except PostroomError as error:  # deleted, or unreadable now: no step of the delivery's schedule
            return Outcome(
                Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text=str(error), session_usable=False
            )
        slot.used = 1
        return await slot.session.deliver(attempt.envelope, attempt)

    async def _next(self, slot: _Slot) -> Claimed | None:
        """What this session delivers next; None when it is to end."""
        slot.bulk = False
        if (
            slot.stopping
            or self.draining
            or slot.version != self.route.version
            or (self.off and not self._inbox)
        ):
            return None
        if self._may_start():
            return self._hand(slot)
        slot.waiting = asyncio.get_running_loop().create_future()
        slot.idle_since_s = self._host.clock.steady_s()
        self._idle.append(slot)
        self._host.pump()
        try:
            return await slot.waiting
        finally:
            slot.waiting = None
            if slot in self._idle:
                self._idle.remove(slot)

    def _feed(self) -> None:
        """Give what was claimed to the sessions that wait."""
        while self._idle and self._may_start():
            slot = self._idle.popleft()
            if slot.waiting is not None and not slot.waiting.done():
                slot.waiting.set_result(self._hand(slot))

    def _may_start(self) -> bool:
        """Whether what comes next may go out now: bulk leaves one session to transactional mail."""
        if not self._inbox or self._inbox[0].purpose is Purpose.TRANSACTIONAL:
            return bool(self._inbox)
        return sum(slot.bulk for slot in self._slots) < self._most_sessions(transactional=False)

    def _hand(self, slot: _Slot) -> Claimed:
        claimed = self._inbox.popleft()
        self._handed_s = self._host.clock.steady_s()
        slot.bulk = claimed.purpose is not Purpose.TRANSACTIONAL
        return claimed

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        bulk = attempt.claimed.purpose is not Purpose.TRANSACTIONAL

        def done() -> None:
            self.outstanding -= 1
            self.outstanding_bulk -= bulk
            if not uses_room(outcome) and self.room.came_back():
                self._host.health_changed(self)
            self._host.pump()

        self._host.ended(attempt, outcome, done)

    def _give_back(self) -> None:
        while self._inbox:
            self._end(self._host.attempt(self._inbox.popleft()), GIVEN_BACK)

    def _give_back_withdrawn(self) -> None:
        """What a pause stopped after it was claimed, and nobody took yet."""
        inbox, self._inbox = self._inbox, deque()
        for claimed in inbox:
            attempt = self._host.attempt(claimed)
            if attempt.withdrawn:
                self._end(attempt, GIVEN_BACK)
            else:
                self._inbox.append(claimed)

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
        self.close_idle()

    def pause(self, *, paused: bool) -> None:
        """What people paused has changed; `paused`: this connection may claim nothing."""
        self._paused = paused
        self._give_back_withdrawn()
        if paused:
            self.close_idle()

    def close_idle(self, older_than_s: float = 0.0) -> None:
        """End the sessions that have waited for longer than this."""
        now_s = self._host.clock.steady_s()
        for slot in list(self._idle):
            if now_s - slot.idle_since_s >= older_than_s and slot.waiting and not slot.waiting.done():
                slot.waiting.set_result(None)

    def clock_set_back(self, by_us: int) -> None:
        """The wall clock was moved by `by_us`, which is negative: waits stay as long as they were."""
        self.troubles.clock_set_back(by_us)
        self.room.came_back()  # the next claim says how it is

    def care(self) -> None:
        """Called about every second: idle sessions, room that came back, and probing where it has failed."""
        if self.room.look(self._host.clock.now_us()):
            self._host.health_changed(self)
        self.close_idle(self._host.settings.session_idle_s)
        busy = [slot for slot in self._slots if slot.busy_since_s is not None]
        if self._inbox and busy and all(self._hangs(slot) for slot in busy):
            self._give_back()  # to a new session or another connection, not to wait for these
        self._end_wait()
        now_s = self._host.clock.steady_s()
        self._pass_by(now_s)
        self._mind_quota(now_s)
        failed = self.route.failed_at is not None and self.route.enabled and not self.route.deleted
        if failed and now_s - self._probed_s >= self._host.settings.probe_every_s and not self.draining:
            self._probed_s = now_s
            self._tasks.spawn(self._probe())

    def _pass_by(self, now_s: float) -> None:
        """What was claimed and waits behind slow mail gets a session of its own."""
        if self.draining or self._host.fenced or self.off or self.troubles.backoff_until_us is not None:
            return
        if not self._may_start() or now_s - self._handed_s < _SLOW_S or self._opening:
            return
        urgent = self._inbox[0].purpose is Purpose.TRANSACTIONAL
        if len(self._slots) < self._most_sessions(transactional=urgent):
            self._open_one()

    def _next_probe_us(self) -> int | None:
        if self.route.failed_at is None or not self.route.enabled or self.route.deleted:
            return None
        clock = self._host.clock
        left_s = self._probed_s + self._host.settings.probe_every_s - clock.steady_s()
        return clock.now_us() + int(max(0.0, left_s) * MICROS)

    def _mind_quota(self, now_s: float) -> None:
        """What the vendor allows, where it says so: read now and then, more often while it is used up."""
        account = self._transport[1] if self._transport is not None else None
        if not isinstance(account, Account) or self._reading_quota or self.off or self.draining:
            return
        every_s = QUOTA_AGAIN_S if self.room.quota_full else QUOTA_EVERY_S
        ask = now_s - self._quota_s >= every_s and self.troubles.backoff_until_us is None
        if ask or account.quota is not self._quota:
            self._reading_quota = True
            self._tasks.spawn(self._read_quota(account, ask=ask))

    async def _read_quota(self, account: Account, *, ask: bool) -> None:
        try:
            mark = await self._host.quota_mark(self) if ask else None
            before = account.quota
            if ask:
                await account.check()
            if ask and account.quota is before:  # nothing new was said: what was granted since counts on
                self._quota_s = self._host.clock.steady_s()
            else:
                await self._keep_quota(account, mark)
        except PostroomError as error:
            log.warning("a quota could not be stored", connection=self.connection_id, error=str(error))
        finally:
            self._reading_quota = False
        if self.room.came_back():
            self._host.health_changed(self)

    async def _note_quota(self) -> None:
        """What was said at a session's login, before anything is claimed for it."""
        account = self._transport[1] if self._transport is not None else None
        if not isinstance(account, Account) or account.quota is self._quota:
            return
        try:
            await self._keep_quota(account, None)
        except PostroomError as error:  # no trouble of the connection's; `_mind_quota` tries again
            log.warning("a quota could not be stored", connection=self.connection_id, error=str(error))

    async def _keep_quota(self, account: Account, mark: Mark | None) -> None:
        quota, self._quota_s = account.quota, self._host.clock.steady_s()
        if quota is not None:
            await self._host.quota_read(self, quota, mark)
        self._quota = quota

    async def _probe(self) -> None:
        """Does it work again? Opens a session and closes it."""
        try:
            session = await self._new_session()
        except (OpenFailed, PostroomError) as error:
            log.info("probe failed", connection=self.connection_id, cause=str(error))
            return
        await session.close()
        await self._host.judged(self, Verdict.FINE)

    def failed_now(self) -> None:
        """It was found failed: the first probe comes after a whole interval."""
        self._probed_s = self._host.clock.steady_s()
        self._give_back()

    async def stop(self, drain_s: float) -> None:
        """Give back what was not begun, let what is on its way end, then cut."""
        self.draining = True
        self._give_back()
        self.close_idle()
        await self._tasks.wait(drain_s)
        for slot in self._slots:
            slot.session.abort()
        await self._tasks.wait(_CUT_S)
        await self._tasks.cancel()
        self._give_back()  # what a claim under way brought meanwhile
