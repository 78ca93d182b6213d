"""When one way out is in trouble its mail takes another that may send it, and waits where there is none."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.core.event import EventKind
from postroom.core.message import DeliveryState, Purpose
from postroom.ids import ConnectionId
from postroom.transports.interface import Fault
from tests.delivery.faults import play
from tests.support import seed_rows
from tests.support.certs import Certs
from tests.support.fault_bench import LOGIN, STILL, USERS, FaultBench, fault_bench
from tests.support.scripted_smtp import Action, Script, ScriptedServer, Stage, drop, ok, reply

TRANSACTIONAL, BROADCAST = Purpose.TRANSACTIONAL, Purpose.BROADCAST
REFUSED_LOGIN = reply("535 5.7.8 authentication failed")
OTHER_SENDER = "news@example.com"


async def _events(post: FaultBench, *kinds: EventKind) -> list[str]:
    rows = await post.rows("SELECT kind FROM events WHERE connection_id > 0 ORDER BY event_id")
    return [row[0] for row in rows if row[0] in kinds]


async def _sent_by(post: FaultBench) -> dict[ConnectionId, int]:
    rows = await post.rows(
        "SELECT connection_id, COUNT(*) FROM attempts WHERE result = 'sent' GROUP BY connection_id"
    )
    return dict(rows)


async def _failed_at(post: FaultBench, connection: ConnectionId) -> int | None:
    found: int | None = await post.value(
        "SELECT connection_failed_at FROM connections WHERE connection_id = :c", c=connection
    )
    return found


async def _reasons(post: FaultBench) -> dict[int, str]:
    """Why each connection was chosen or not, in the newest decision."""
    text = await post.value("SELECT decision FROM decisions ORDER BY decision_id DESC LIMIT 1")
    return {one["connection_id"]: one["reason"] for one in json.loads(text)["judged"]}


# Each makes the first connection unusable for its first message.
UNUSABLE: dict[str, tuple[Stage, Action, str]] = {
    "it backs off": (Stage.BANNER, drop(), "backing_off"),
    "it dropped the session": (Stage.DATA, drop(), "backing_off"),
    "it said 421": (Stage.RCPT, reply("421 4.3.2 going down"), "backing_off"),
    "it refuses this From": (Stage.MAIL, reply("553 5.1.8 sender address rejected"), "refuses_sender"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("purpose", [TRANSACTIONAL, BROADCAST])
async def test_the_same_message_takes_another_way_at_once(
    name: str, purpose: Purpose, tmp_path: Path
) -> None:
    stage, action, reason = UNUSABLE[name]
    async with (
        ScriptedServer({stage: action}) as bad,
        ScriptedServer() as good,
        fault_bench(tmp_path) as post,
    ):
        first = await post.way_out(bad, hourly_cap=1000)  # first in rank: it has the most room
        second = await post.way_out(good)
        message = await post.mail(purpose, ["someone@example.net"])
        await play.until(lambda: _is_final(post, message))
        assert await play.state_of(post, message) is DeliveryState.SENT
        assert await _sent_by(post) == {second: 1}
        await play.until(lambda: _is_judged(post, first, reason))  # the mail need not wait for that
        assert await post.value("SELECT tries FROM deliveries") == 0
        await post.check_books()
        assert post.complaints() == []


@pytest.mark.parametrize("name", UNUSABLE)
async def test_where_no_other_may_send_it_mail_waits_and_then_goes(name: str, tmp_path: Path) -> None:
    stage, action, _ = UNUSABLE[name]
    async with (
        ScriptedServer({stage: action}) as bad,
        ScriptedServer() as good,
        ScriptedServer() as late,
        fault_bench(tmp_path) as post,
    ):
        first = await post.way_out(bad)
        await post.way_out(good, [BROADCAST])
        message = await post.mail(TRANSACTIONAL, ["someone@example.net"])
        await play.until(lambda: play.at_rest(post, first, message))
        assert await play.state_of(post, message) is DeliveryState.READY
        assert not good.transactions
        third = await post.way_out(late)
        await play.until(lambda: _is_final(post, message))
        assert await _sent_by(post) == {third: 1}


async def test_a_refused_from_stops_no_other_from(tmp_path: Path) -> None:
    refusal = reply("553 5.1.8 sender address rejected: not owned by user")
    async with (
        ScriptedServer({Stage.MAIL: [refusal, ok()]}) as picky,
        ScriptedServer() as good,
        fault_bench(tmp_path) as post,
    ):
        first = await post.way_out(picky, hourly_cap=1000)
        second = await post.way_out(good)
        refused = await post.mail(TRANSACTIONAL, ["one@example.net"])
        await play.until(lambda: _is_final(post, refused))
        other = await post.mail(TRANSACTIONAL, ["two@example.net"], sender=OTHER_SENDER)
        await play.until(lambda: _is_final(post, other))
        assert await _sent_by(post) == {second: 1, first: 1}
        assert [one.sender for one in picky.messages] == [OTHER_SENDER]
        post.time.advance(3601.0)  # the pair is tried again after an hour
        await post.engine.looking.look()
        for number in range(2):  # the first one brings the lane's decision up to date, and may go before it
            again = await post.mail(TRANSACTIONAL, [f"again{number}@example.net"])
            await play.until(lambda: _is_final(post, again))  # noqa: B023  # waited for here
        assert picky.messages[-1].sender == seed_rows.SENDER


async def test_a_login_refused_twice_fails_once_and_comes_back_by_a_probe(
    certs: Certs, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    script: Script = {Stage.AUTH: REFUSED_LOGIN}
    locked = ScriptedServer(script, tls=certs.server(), users=USERS, extensions=LOGIN)
    async with locked, ScriptedServer() as good, fault_bench(tmp_path) as post:
        first = await post.way_out(locked, context=trust)
        message = await post.mail(TRANSACTIONAL, ["someone@example.net"])
        await play.until(lambda: play.at_rest(post, first, message))
        assert await _failed_at(post, first) is None, "one refusal may be the provider's bad moment"
        post.time.advance(61.0)
        await play.until(lambda: _has_failed(post, first))
        await play.until(lambda: _nothing_opens(post))
        assert locked.met.count(Stage.AUTH) == 2, "a login that is refused twice is not tried a third time"
        assert await play.state_of(post, message) is DeliveryState.READY

        second = await post.way_out(good)
        await play.until(lambda: _is_final(post, message))
        assert await _sent_by(post) == {second: 1}
        assert (await _reasons(post))[first] == "failed"

        post.time.advance(590.0)
        await post.engine.looking.look()
        assert locked.met.count(Stage.AUTH) == 2, "it was probed too early"
        post.time.advance(20.0)
        await locked.until(lambda s: s.met.count(Stage.AUTH) == 3)
        await play.until(lambda: _nothing_opens(post))
        assert await _failed_at(post, first) is not None

        locked._script.clear()  # its owner paid the bill
        post.time.advance(601.0)
        await play.until(lambda: _has_recovered(post, first))
        assert await _events(post, EventKind.CONNECTION_FAILED, EventKind.CONNECTION_RECOVERED) == [
            EventKind.CONNECTION_FAILED,
            EventKind.CONNECTION_RECOVERED,
        ]
        await post.do("UPDATE connections SET enabled = 0 WHERE connection_id = :c", c=second)
        post.engine.connection_changed(second)
        await play.check_it_works(post, first, TRANSACTIONAL)


async def test_ten_minutes_without_a_success_is_failed(tmp_path: Path) -> None:
    async with ScriptedServer({Stage.BANNER: drop()}) as dead, fault_bench(tmp_path) as post:
        first = await post.way_out(dead)
        message = await post.mail(BROADCAST, ["someone@example.net"])
        knocks = []
        while await _failed_at(post, first) is None:
            await play.until(lambda: play.at_rest(post, first, message))
            knocks.append(dead.connections)
            assert len(knocks) < 9, "it was never found failed"
            post.time.advance(110.0)
            await dead.until(lambda s: s.connections > knocks[-1] or post.backs_off(first), 5.0)
            await play.until(lambda: _rests_or_failed(post, first))
        assert await _events(post, EventKind.CONNECTION_FAILED) == [EventKind.CONNECTION_FAILED]
        assert dead.connections <= 7  # 50 s doubling: 50, 100, 200, 400
        assert await post.value("SELECT COUNT(*) FROM attempts") == 0
        dead._script.clear()
        post.time.advance(601.0)
        await play.until(lambda: _has_recovered(post, first))
        await play.until(lambda: _is_final(post, message))
        assert await play.state_of(post, message) is DeliveryState.SENT


async def test_a_failed_connection_that_is_switched_off_is_not_probed(
    certs: Certs, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    locked = ScriptedServer({Stage.AUTH: REFUSED_LOGIN}, tls=certs.server(), users=USERS, extensions=LOGIN)
    async with locked, fault_bench(tmp_path) as post:
        first = await post.way_out(locked, context=trust)
        message = await post.mail(TRANSACTIONAL, ["someone@example.net"])
        await play.until(lambda: play.at_rest(post, first, message))
        post.time.advance(61.0)
        await play.until(lambda: _has_failed(post, first))
        await play.until(lambda: _nothing_opens(post))
        await post.do("UPDATE connections SET enabled = 0 WHERE connection_id = :c", c=first)
        await post.engine.looking.refresh(first)
        met = locked.met.count(Stage.AUTH)
        post.time.advance(1300.0)
        await post.engine.looking.look()
        assert not post.runner(first)._tasks
        assert locked.met.count(Stage.AUTH) == met


REFUSALS: dict[str, tuple[Stage, str, Fault]] = {
    "at RCPT": (Stage.RCPT, "554 5.7.1 relay access denied", Fault.RECIPIENT),
    "after the dot": (Stage.AFTER_DOT, "554 5.7.1 identified as spam", Fault.MESSAGE),
    "at MAIL": (Stage.MAIL, "554 5.0.0 no", Fault.MESSAGE),
}


@pytest.mark.parametrize("sessions", [1, 10])
@pytest.mark.parametrize("name", REFUSALS)
async def test_ten_equal_refusals_hold_it_with_one_event(name: str, sessions: int, tmp_path: Path) -> None:
    stage, line, fault = REFUSALS[name]
    settings = replace(STILL, sessions_per_connection=sessions)
    async with ScriptedServer({stage: reply(line)}) as broken, fault_bench(tmp_path, settings) as post:
        first = await post.way_out(broken)
        many = [f"r{number}@example.net" for number in range(80)]
        await post.mail(BROADCAST, many)
        await play.until(lambda: _is_held(post, first))
        await play.until(lambda: _settled(post))
        states = await post.states()
        # Ten and what was on its way: no session begins another one.
        assert 10 <= states["bounced"] <= 9 + 2 * sessions
        assert states["bounced"] + states["ready"] == 80
        assert await _events(post, EventKind.CONNECTION_HELD) == [EventKind.CONNECTION_HELD]
        faults = await post.rows("SELECT DISTINCT fault FROM attempts WHERE result = 'bounced'")
        assert faults == [(fault,)]
        assert await post.value("SELECT COUNT(*) FROM suppressions") == 0
        await play.until(lambda: _is_judged(post, first, "held"))

        async with ScriptedServer() as good:
            second = await post.way_out(good)
            await play.until(lambda: _all_final(post))
            assert await _sent_by(post) == {second: states["ready"]}
        await post.check_books()
        assert post.complaints() == []


async def test_a_held_connection_comes_back_by_itself(tmp_path: Path) -> None:
    settings = replace(STILL, sessions_per_connection=1)
    async with (
        ScriptedServer({Stage.RCPT: reply("554 5.7.1 relay access denied")}) as broken,
        fault_bench(tmp_path, settings) as post,
    ):
        first = await post.way_out(broken)
        await post.mail(BROADCAST, [f"r{number}@example.net" for number in range(30)])
        await play.until(lambda: _is_held(post, first))
        await play.until(lambda: _settled(post))
        waiting = (await post.states())["ready"]
        assert waiting >= 18
        broken._script.clear()
        post.time.advance(601.0)
        await play.until(lambda: _all_final(post))
        assert (await post.states())["sent"] == waiting
        await play.check_it_works(post, first, BROADCAST)
        await post.engine.looking.look()
        lanes = post.engine._book.lanes.values()
        assert not any(lane.stale for lane in lanes), "a hold that is over is looked at again and again"


async def test_different_refusals_or_a_success_between_hold_nothing(tmp_path: Path) -> None:
    refusals = [reply(f"55{n % 2 * 4} 5.7.{n % 2} reason {'ab'[n % 2]}") for n in range(20)]
    mixed: Script = {Stage.RCPT: [*refusals, *([*[reply("554 5.7.1 no")] * 9, ok()] * 3)]}
    settings = replace(STILL, sessions_per_connection=1)
    async with ScriptedServer(mixed) as server, fault_bench(tmp_path, settings) as post:
        first = await post.way_out(server)
        await post.mail(BROADCAST, [f"r{number}@example.net" for number in range(50)])
        await play.until(lambda: _all_final(post))
        assert await post.states() == {"bounced": 47, "sent": 3}
        assert await _events(post, EventKind.CONNECTION_HELD) == []
        await play.check_it_works(post, first, BROADCAST)


async def _is_judged(post: FaultBench, connection: ConnectionId, reason: str) -> bool:
    return (await _reasons(post))[connection] == reason


async def _is_final(post: FaultBench, message: int) -> bool:
    state = await post.value("SELECT state FROM deliveries WHERE message_id = :m", m=message)
    return state in ("sent", "bounced", "unverified")


async def _all_final(post: FaultBench) -> bool:
    states = await post.states()
    return not states["ready"] and not states["claimed"]


async def _settled(post: FaultBench) -> bool:
    return not post.engine.open_attempts and not post.engine.open_sessions


async def _nothing_opens(post: FaultBench) -> bool:
    return not any(runner._opening or runner._tasks for runner in post.engine._runners.values())


async def _rests_or_failed(post: FaultBench, connection: ConnectionId) -> bool:
    return post.backs_off(connection) or await _failed_at(post, connection) is not None


async def _has_failed(post: FaultBench, connection: ConnectionId) -> bool:
    return post.runner(connection).route.failed_at is not None


async def _has_recovered(post: FaultBench, connection: ConnectionId) -> bool:
    return post.runner(connection).route.failed_at is None


async def _is_held(post: FaultBench, connection: ConnectionId) -> bool:
    runner = post.engine._runners.get(connection)
    return runner is not None and runner.route.held_until is not None
