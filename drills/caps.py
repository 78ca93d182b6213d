"""The cap drill: hours of sending in seconds, on a clock that the drill moves, judged by the sink's times.

A queue that never runs dry is sent through one capped connection. Time passes only where this drill lets
it: while a message is being answered (slow sends), and from one release of room to the next. The engine is
stopped and started again, store and all, every few steps. In a queue that is never empty the send number
i + cap takes the room of the send number i, so the time between the two is the proof and the measure at
once: never less than an hour (exact), and on average hardly more (what is wasted).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from postroom.clock import MICROS
from postroom.core.message import Purpose
from postroom.ids import ConnectionId
from tests.support.clock import START_US, FakeClock
from tests.support.engine import QUICK, Bench, bench, sink
from tests.support.sink import Received, SinkRecord, max_in_any_window

HOUR_US = 3600 * MICROS
DAY_US = 24 * HOUR_US
MARGIN_US = 2 * MICROS  # before midnight UTC, in which nothing of a daily cap is granted
PATIENCE_S = 20.0
MOVED = replace(QUICK, look_every_s=0.002)  # the clock jumps; what is due has to be seen soon


@dataclass(frozen=True)
class CapPlan:
    """One run. slow_s: a send takes up to this long, at random. restart_every: steps between restarts."""

    hourly_cap: int
    queued: int
    hours: float
    slow_s: float = 0.0
    restart_every: int = 0
    seed: int = 1
    start_us: int = START_US


@dataclass
class CapResult:
    """Times at the sink, microseconds on the moved clock, in the order taken."""

    plan: CapPlan
    times: list[int] = field(default_factory=list)
    restarts: int = 0

    @property
    def most_in_an_hour(self) -> int:
        """The most sends in any window (a, a + 1 h]."""
        return most_in_any_hour(self.times)

    @property
    def used(self) -> float:
        """Share of the room used: 1 when each send's room was taken again after exactly an hour."""
        cap = self.plan.hourly_cap
        gaps = [late - early for early, late in zip(self.times, self.times[cap:], strict=False)]
        return HOUR_US * len(gaps) / sum(gaps) if gaps else 0.0

    def line(self) -> str:
        plan = self.plan
        return (
            f"cap {plan.hourly_cap}/h, {plan.hours:g} h, sends of up to {plan.slow_s:g} s,"
            f" {self.restarts} restarts, seed {plan.seed}: {len(self.times)} sent,"
            f" at most {self.most_in_an_hour} in any hour, {self.used:.2%} of the room used"
        )

    @property
    def holds(self) -> bool:
        """Whether the run shows what it is for."""
        return self.most_in_an_hour <= self.plan.hourly_cap and self.used >= 0.98


def most_in_any_hour(times: Sequence[int]) -> int:
    """The most of these (microseconds) in any window (a, a + 1 h]."""
    return max_in_any_window(SinkRecord(time_us, "-", "-", 0) for time_us in times)


class Watch:
    """The sink's eyes on the moved clock: notes each dot's time, then lets the answer take its time."""

    def __init__(self, clock: FakeClock, slow_s: float = 0.0, seed: int = 1) -> None:
        self.clock, self.slow_s = clock, slow_s
        self.times: list[int] = []
        self.recipients: list[str] = []
        self._chance = random.Random(seed)

    def __call__(self, received: Received) -> None:
        self.times.append(self.clock.now_us())
        self.recipients += received.recipients
        if self.slow_s:
            self.clock.advance(self._chance.uniform(0.0, self.slow_s))

    @property
    def per_day(self) -> Counter[int]:
        """Sends of each UTC day, by days since 1970."""
        return Counter(time_us // DAY_US for time_us in self.times)


_STATES = """
SELECT (SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'),
       (SELECT COUNT(*) FROM deliveries WHERE state = 'ready'), ({taken})
"""
_OF_THE_HOUR = """
SELECT held - (SELECT COALESCE(SUM(n), 0) FROM cap_release r
               WHERE r.connection_id = cap.connection_id AND r.due <= :now)
FROM cap WHERE connection_id = :connection
"""
_OF_THE_DAY = "SELECT used + held FROM cap_day WHERE connection_id = :connection AND day = :day"


async def until_hour_spent(post: Bench, connection: ConnectionId, cap: int, kept_back: int = 0) -> None:
    """Wait until nothing is on its way, and the queue is empty or the hour's room used, save what is kept.

    Raises TimeoutError when mail waits while there is room: the engine leaves room unused.
    """
    await _until_spent(post, connection, _OF_THE_HOUR, lambda taken: taken >= cap - kept_back)


async def until_day_spent(post: Bench, connection: ConnectionId, cap: int) -> None:
    """The same for a daily cap, of which nothing is granted in the two seconds before midnight UTC."""
    await _until_spent(
        post,
        connection,
        _OF_THE_DAY,
        lambda taken: taken >= cap or 0 < -post.clock.now_us() % DAY_US <= MARGIN_US,
    )


async def _until_spent(
    post: Bench, connection: ConnectionId, taken: str, enough: Callable[[int], bool]
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            now_us = post.clock.now_us()
            # One statement: what is read one after the other may never have been true together.
            rows = await post.rows(
                _STATES.format(taken=taken), connection=connection, now=now_us, day=now_us // DAY_US
            )
            claimed, ready, used = rows[0]
            if not claimed and (not ready or enough(used or 0)):
                return
            await asyncio.sleep(0.002)


async def next_release_us(post: Bench) -> int | None:
    """When room comes back, or None when none is held."""
    rows = await post.rows("SELECT MIN(due) FROM cap_release")
    due: int | None = rows[0][0]
    return due


def move_to(clock: FakeClock, when_us: int) -> None:
    """Let time pass until then, to the microsecond; nothing when it is over already."""
    clock.advance(max(0.0, (when_us - clock.now_us() + 0.5) / MICROS))


async def run(folder: Path, plan: CapPlan) -> CapResult:
    """Run one plan. Raises TimeoutError when the engine leaves room unused while mail waits."""
    clock = FakeClock(plan.start_us)
    watch = Watch(clock, plan.slow_s, plan.seed)
    chance = random.Random(plan.seed)
    result = CapResult(plan, watch.times)
    ends_us = clock.now_us() + int(plan.hours * HOUR_US)
    async with sink(folder, watch) as out, bench(folder, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=plan.hourly_cap)
        for number in range(0, plan.queued, 500):
            count = min(500, plan.queued - number)
            await post.send(Purpose.BROADCAST, [f"r{number + i}@example.net" for i in range(count)])
        step = 0
        while True:
            await until_hour_spent(post, connection, plan.hourly_cap)
            due = await next_release_us(post)
            assert due is not None
            if due > ends_us:
                break
            step += 1
            now_us = clock.now_us()
            # Halfway, or one microsecond before room comes back: nothing may go; then the moment itself.
            before = chance.choice((now_us + (due - now_us) // 2, due - 1, None))
            if before is not None:
                move_to(clock, before)
                await until_hour_spent(post, connection, plan.hourly_cap)
            if plan.restart_every and step % plan.restart_every == 0:
                await post.restart()
                result.restarts += 1
            # The engine looks about once a second.
            move_to(clock, due + chance.randrange(MICROS))
        states = await post.states()
        assert states["ready"], "the queue ran dry: the plan needs more mail"
    return result


PLANS = (
    CapPlan(15, 1000, 48, restart_every=7),
    CapPlan(15, 1000, 48, slow_s=8.0, restart_every=5, seed=2),
    CapPlan(500, 6500, 12, restart_every=5, seed=3),
    CapPlan(500, 6500, 12, slow_s=2.0, restart_every=5, seed=4),
)
