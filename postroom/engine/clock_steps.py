"""What a step of the wall clock means for mail that waits by it.

Set back by an hour, everything due within that hour would wait an hour longer: ready mail, retries, unknown
outcomes, room under caps, holds. So what waits is moved back by as much, slice by slice. Set forward, mail is
due a little early, which harms nobody, and caps are the guard's business; but ages would be wrong, so the
step is written down for who asks how long ago something was (giving up, idempotency).

Alone with its database, a process keeps there how the clocks stand. So a step while nothing ran is noticed
at the next start: exactly within one boot of the machine; after another one only if the clock is behind what
it said. Where processes share a database its clock is everybody's: each pauses its own grants, the one that
leads moves the rows, and the others keep what they noticed for a while, in case it dies of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from postroom.clock import MICROS, Clock
from postroom.engine.caps import BUCKET_US, HOUR_US
from postroom.engine.clock_guard import ClockGuard, Step, counts
from postroom.engine.journal import boot_id
from postroom.engine.settings import EngineSettings
from postroom.errors import PostroomError
from postroom.logs import logger
from postroom.storage import clock_steps, lanes
from postroom.storage.clock_steps import Cursor, Forward, Seen
from postroom.storage.interface import Store, Work

log = logger("engine")
_REMEMBER_EVERY_S = 60.0
_IN_CASE_S = 300.0  # for so long a process that does not lead keeps what it noticed
_LONGEST_US = HOUR_US + BUCKET_US


@dataclass
class _Shift:
    """A step backward whose work is under way. unknowns_at, ready_at: how far it got; None: done."""

    step: Step
    unknowns_at: Cursor | None
    lanes: list[tuple[lanes.Lane, Cursor]]


class ClockSteps:
    """Brings what is stored in line with the clock; `look` is called every second or so."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        guard: ClockGuard,
        settings: EngineSettings,
        boot: str | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """leads: whether this process is the one that moves rows."""
        self._leads, self._shared = leads, settings.leases is not None
        self._store, self._clock, self._guard, self._settings = store, clock, guard, settings
        self._boot = boot_id() if boot is None else boot
        self._forward: list[Step] = []
        self._backward: list[Step] = []
        self._shift: _Shift | None = None
        self._uncut = True
        self._moved_us = 0
        self._remembered_s = self._noticed_s = float("-inf")

    async def at_start(self) -> None:
        """Was it set while nothing ran? Raises Unavailable."""
        if self._shared:
            self._uncut = False
            for step in await self._store.read(clock_steps.forward_steps):
                ends_us = step.before_us + step.by_us + step.by_us  # a pause as long as the step
                left_s = (
                    min(ends_us, step.before_us + step.by_us + _LONGEST_US) - self._clock.now_us()
                ) / MICROS
                self._guard.pause_until(self._clock.steady_s() + left_s)
            return
        seen = await self._store.read(clock_steps.recall)
        if seen is not None:
            self._go_on_from(seen)
        self._take()
        self._moved_us = 0  # nothing waits in memory yet
        await self._work()

    def _go_on_from(self, seen: Seen) -> None:
        paused_until_s = seen.paused_until_s
        if self._boot and self._boot == seen.boot:
            step_us = self._guard.offset_us - seen.offset_us
        else:  # another steady clock: only that it is later than before is certain of the wall clock
            step_us = min(self._clock.now_us() - seen.seen_us, 0)
            paused_until_s += self._clock.steady_s() - seen.steady_s
        self._guard.pause_until(paused_until_s)
        if counts(step_us):
            self._guard.was_set(Step(self._clock.now_us() - step_us, step_us))

    @property
    def at_work(self) -> bool:
        """Whether a step that was noticed is not dealt with yet."""
        return self._uncut or bool(self._forward or self._backward or self._shift)

    async def look(self) -> int:
        """Notice and do what is to be done; by how much what waits was moved, 0 or negative microseconds.

        What the database does not take now is taken up, and told, at the next look.
        """
        self._guard.look()
        self._take()
        try:
            if self._shared and not self._leads():
                self._leave_to_the_leader()
            else:
                await self._work()
            if not self._shared and self._clock.steady_s() - self._remembered_s >= _REMEMBER_EVERY_S:
                await self._remember()
        except PostroomError as error:
            log.debug("a step of the clock is dealt with later", error=str(error))
        if self.at_work and (not self._shared or self._leads()):
            return 0
        moved_us, self._moved_us = self._moved_us, 0
        return moved_us

    def _take(self) -> None:
        for step in self._guard.take_steps():
            (self._forward if step.by_us > 0 else self._backward).append(step)
            self._moved_us += min(step.by_us, 0)
            self._uncut = True
            self._noticed_s = self._clock.steady_s()

    def _leave_to_the_leader(self) -> None:
        if self._clock.steady_s() - self._noticed_s > _IN_CASE_S:
            self._forward.clear()
            self._backward.clear()
            self._uncut = False

    async def _work(self) -> None:
        """Raises PostroomError; what was done until then stays done, the rest is for the next time."""
        while self._forward:
            step = self._forward[0]
            noted = Forward(step.before_us, step.by_us)
            await self._store.write(partial(clock_steps.add_forward, noted, self._same_within_us))
            del self._forward[0]
        while self._backward or self._shift is not None:
            if self._shift is None:
                step = self._backward[0]
                if not await self._was_done(step):
                    await self._begin_shift(step)
                del self._backward[0]
            if self._shift is not None:
                await self._go_on_shifting()
        if self._uncut:
            await self._store.write(self._cut)
            if not self._shared:
                await self._remember()
            self._uncut = False

    @property
    def _same_within_us(self) -> int:
        return int(_IN_CASE_S * MICROS) if self._shared else 0

    async def _was_done(self, step: Step) -> bool:
        """By another process that led before, or leads too."""
        within_us = self._same_within_us
        return self._shared and await self._store.read(
            lambda: clock_steps.was_noted_back(step.before_us, step.by_us, within_us)
        )

    async def _begin_shift(self, step: Step) -> None:
        """Only what lies ahead of the clock as it is now: the rest is due already."""
        first = Cursor(step.before_us + step.by_us)
        with_mail = await self._store.read(lanes.with_mail)
        self._shift = _Shift(step, first, [(lane, first) for lane, _ in with_mail])

    async def _go_on_shifting(self) -> None:
        shift = self._shift
        assert shift is not None
        while shift.unknowns_at is not None:
            shift.unknowns_at = await self._store.write(
                partial(clock_steps.shift_unknowns, shift.unknowns_at, shift.step.by_us)
            )
        while shift.lanes:
            lane, cursor = shift.lanes[-1]
            found = await self._store.write(
                partial(clock_steps.shift_ready, lane.account_id, lane.lane_id, cursor, shift.step.by_us)
            )
            if found is None:
                shift.lanes.pop()
            else:
                shift.lanes[-1] = (lane, found)
        if self._shared:
            step = shift.step
            await self._store.write(lambda: clock_steps.note_back(step.before_us, step.by_us))
        self._shift = None

    def _cut(self) -> Work[None]:
        now_us, settings = self._clock.now_us(), self._settings
        release_us = -(-now_us // BUCKET_US) * BUCKET_US + HOUR_US
        held_us = now_us + int(settings.probe_every_s * MICROS)
        refused_us = now_us + int(settings.policy.sender_refusal_s * MICROS)
        return clock_steps.cut_to(release_us, held_us, refused_us)

    async def _remember(self) -> None:
        steady_s, guard = self._clock.steady_s(), self._guard
        seen = Seen(self._boot, guard.offset_us, self._clock.now_us(), steady_s, guard.paused_until_s)
        await self._store.write(partial(clock_steps.remember, seen))
        self._remembered_s = self._clock.steady_s()
