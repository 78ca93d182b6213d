"""The wall clock is set while mail waits: nothing waits longer for it, nothing is lost, caps stay exact.

Each test moves a clock that stands still, under the real engine with a real store and a real sink. What must
hold after any step at any moment is the model's (tests/engine/test_model.py).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drills.caps import DAY_US, MOVED, Watch, most_in_any_hour, move_to, until_day_spent, until_hour_spent
from postroom.clock import MICROS
from postroom.core.message import Purpose
from postroom.engine.attempt import Attempt
from postroom.engine.claim import Claimed
from postroom.engine.clock_guard import counts
from postroom.ids import (
    AccountId,
    AttemptId,
    ConnectionId,
    DecisionId,
    DeliveryId,
    LaneId,
    MessageId,
    ServerId,
)
from tests.support.clock import FakeClock
from tests.support.engine import Bench, bench, sink

HOUR_S, DAY_S = 3600, 86_400
BACKWARD = [pytest.param(-HOUR_S, id="an hour back"), pytest.param(-DAY_S, id="a day back")]
STEPS = [*BACKWARD, pytest.param(HOUR_S, id="an hour on"), pytest.param(DAY_S, id="a day on")]


def at(year: int, month: int, day: int, hour: int = 12) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * MICROS


async def noticed(post: Bench) -> None:
    """Until the engine has looked at the clock and the rows are moved."""
    guard, steps = post.engine._guard, post.engine._clock_steps
    await post.until(
        lambda _: not (counts(guard._measure() - guard.offset_us) or guard._steps or steps.at_work)
    )


@pytest.mark.parametrize("step_s", STEPS)
async def test_ready_mail_leaves_at_once(tmp_path: Path, step_s: int) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        await post.send(Purpose.TRANSACTIONAL, [f"r{n}@example.net" for n in range(20)])
        clock.step(step_s)
        await post.connection(out.port)
        assert await post.until_settled(5.0) == {"sent": 20}


@pytest.mark.parametrize("step_s", STEPS)
async def test_ready_mail_leaves_at_once_when_the_clock_was_set_while_nothing_ran(
    tmp_path: Path, step_s: int
) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        await post.send(Purpose.TRANSACTIONAL, [f"r{n}@example.net" for n in range(20)])
        await post.engine.stop()
        clock.step(step_s)
        await post.restart()
        await post.connection(out.port)
        assert await post.until_settled(5.0) == {"sent": 20}


async def many_lanes_and_slices(post: Bench) -> None:
    for purpose in (Purpose.BROADCAST, Purpose.TRANSACTIONAL):
        for _ in range(2):
            await post.send(purpose, [f"{purpose}{post.sent}-{n}@example.net" for n in range(400)])


async def test_a_backlog_of_several_slices_is_moved_whole(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        await many_lanes_and_slices(post)
        clock.step(-DAY_S)
        await post.connection(out.port)
        assert await post.until_settled() == {"sent": 1600}


@pytest.mark.parametrize("step_s", BACKWARD)
async def test_a_retry_comes_after_its_wait_and_not_after_the_step_too(tmp_path: Path, step_s: int) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["defer451@example.net"])
        tries = "SELECT tries FROM deliveries"
        await _until_tries(post, tries, 1)
        clock.step(step_s)
        await noticed(post)
        assert await post.rows(tries) == [(1,)]  # its wait is not over either
        clock.advance(301)
        await _until_tries(post, tries, 2)


async def _until_tries(post: Bench, text: str, count: int) -> None:
    found = 0
    while found != count:
        found = (await post.rows(text))[0][0]
        await post.until(lambda _: True)


@pytest.mark.parametrize("step_s", BACKWARD)
async def test_what_backs_off_is_tried_again_after_its_wait(tmp_path: Path, step_s: int) -> None:
    clock = FakeClock()
    async with bench(tmp_path, clock=clock, settings=MOVED) as post:
        async with sink(tmp_path) as out:
            port = out.port
        connection = await post.connection(port)  # nobody listens there any more
        await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        runners = post.engine._runners
        await post.until(lambda _: connection in runners and runners[connection].troubles.backing_off)
        clock.step(step_s)
        await post.until(lambda _: not _waits_for_long(post, connection, clock))
        async with sink(tmp_path, port=port):
            clock.advance(1)
            assert await post.until_settled(5.0) == {"sent": 1}


def _waits_for_long(post: Bench, connection: object, clock: FakeClock) -> bool:
    until = next(r for c, r in post.engine._runners.items() if c == connection).troubles.backoff_until_us
    return until is not None and until - clock.now_us() > MICROS


@pytest.mark.parametrize("step_s", STEPS)
async def test_the_hour_s_cap_is_exact_by_a_clock_that_nobody_sets(tmp_path: Path, step_s: int) -> None:
    clock = FakeClock()
    watch = Watch(clock)
    real: list[int] = []

    def seen(received: object) -> None:
        watch.times.append(0)
        real.append(round(clock.steady_s() * MICROS))

    async with sink(tmp_path, seen) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        connection = await post.connection(out.port, hourly_cap=15)
        await post.send(Purpose.BROADCAST, [f"r{n}@example.net" for n in range(40)])
        await until_hour_spent(post, connection, 15)
        clock.step(step_s)
        await noticed(post)
        for _ in range(60):  # an hour and some more, by minutes
            clock.advance(60)
            await noticed(post)
        clock.advance(30)
        await post.until(lambda states: states["sent"] == 30)
        assert most_in_any_hour(real) == 15


@pytest.mark.parametrize(
    "midnight_us",
    [
        pytest.param(at(2024, 2, 29, 0), id="before 29 February"),
        pytest.param(at(2024, 3, 1, 0), id="after 29 February"),
        pytest.param(at(2025, 3, 1, 0), id="28 February of another year"),
        pytest.param(at(2027, 1, 1, 0), id="end of the year"),
        pytest.param(at(2017, 1, 1, 0), id="after a leap second"),
    ],
)
async def test_q12_a_day_s_cap_is_exact_across_midnight_with_fifty_sessions(
    tmp_path: Path, midnight_us: int
) -> None:
    clock = FakeClock(midnight_us - 10 * MICROS)
    watch = Watch(clock, slow_s=0.2, seed=3)
    settings = replace(MOVED, sessions_per_connection=50)
    async with sink(tmp_path, watch) as out, bench(tmp_path, clock=clock, settings=settings) as post:
        connection = await post.connection(out.port, daily_cap=45)
        await post.send(Purpose.BROADCAST, [f"r{n}@example.net" for n in range(200)])
        await until_day_spent(post, connection, 45)
        move_to(clock, midnight_us - 1)
        await until_day_spent(post, connection, 45)
        today = midnight_us // DAY_US
        assert watch.per_day[today] == 0
        move_to(clock, midnight_us)
        await until_day_spent(post, connection, 45)
        assert watch.per_day[today - 1] <= 45
        assert watch.per_day[today] == 45


def test_what_a_day_granted_does_not_leave_on_another(tmp_path: Path) -> None:
    clock = FakeClock(at(2024, 3, 1, 0) + MICROS)
    day = clock.now_us() // DAY_US

    class Paper:
        over, journal = False, None

    claimed = Claimed(
        attempt_id=AttemptId(1),
        delivery_id=DeliveryId(1),
        account_id=AccountId(1),
        server_id=ServerId(1),
        message_id=MessageId(1),
        lane_id=LaneId(1),
        connection_id=ConnectionId(1),
        purpose=Purpose.BROADCAST,
        recipient="someone@example.net",
        sender="shop@example.com",
        from_mailbox=None,
        content_id=1,
        rfc_message_id="<a@example.com>",
        accepted_us=0,
        crashes=0,
        decision_id=DecisionId(1),
        not_before_us=day * DAY_US,
        deadline_us=(day + 1) * DAY_US - 2 * MICROS,
    )
    attempt = Attempt(claimed, clock, Paper())  # type: ignore[arg-type]  # a term on paper
    assert attempt.before_data()
    clock.step(-2)
    assert not attempt.before_data()
    clock.step(DAY_S)
    assert not attempt.before_data()


async def test_a_day_s_step_forward_gives_nothing_up(tmp_path: Path) -> None:
    """Transactional mail is given up after a day of trying; a clock that is set is not a day of trying."""
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock, settings=MOVED) as post:
        await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["defer451@example.net"])
        tries = "SELECT tries FROM deliveries"
        await _until_tries(post, tries, 1)
        clock.step(DAY_S)
        await noticed(post)
        await _until_tries(post, tries, 2)  # the step made it due
        clock.advance(DAY_S / 2)
        await _until_tries(post, tries, 3)
        assert await post.states() == {"ready": 1}
        clock.advance(DAY_S / 2)
        assert await post.until(lambda states: not states["ready"] and not states["claimed"]) == {
            "bounced": 1
        }
