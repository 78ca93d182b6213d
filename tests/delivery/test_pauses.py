"""What a person paused is not sent until they resume it, whatever else happens; then it goes on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.actions import pauses
from postroom.actions.context import Actor, Context
from postroom.actions.pauses import Target
from postroom.actions.suppressions import suppress_one
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.engine.attempt import Attempt
from postroom.engine.explain import explain
from postroom.ids import ConnectionId, ServerId
from tests.support import seed_rows
from tests.support.acting import context
from tests.support.clock import FakeClock
from tests.support.engine import QUICK, Bench, bench, sink
from tests.support.sink import Sink

ACTOR = Actor("Ada")
OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)
ALL = Target.everything()
SERVER = Target.server(OWNER, seed_rows.SERVER)


def target_of(scope: str, connection: ConnectionId) -> Target:
    return {"all": ALL, "server": SERVER}.get(scope) or Target.connection(OWNER, connection)


@asynccontextmanager
async def paused(folder: Path, scope: str) -> AsyncIterator[tuple[Bench, Sink, Context, Target]]:
    """One connection, and this pause over it."""
    async with sink(folder) as out, bench(folder) as post:
        target = target_of(scope, await post.connection(out.port))
        ctx = context(post)
        await pauses.pause(ctx, ACTOR, target, "moving house")
        yield post, out, ctx, target


async def looks(post: Bench, count: int = 5) -> None:
    """The engine looks at everything, again and again."""
    for _ in range(count):
        post.engine.looking.reread_s = -1e9
        await post.engine.looking.look()


@pytest.mark.parametrize("scope", ["all", "server", "connection"])
async def test_nothing_leaves_until_it_is_resumed_and_then_at_once(tmp_path: Path, scope: str) -> None:
    async with paused(tmp_path, scope) as (post, _, ctx, target):
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        await post.send(Purpose.BROADCAST, ["b@example.net"])
        await looks(post)
        await post.restart()
        ctx = context(post)
        await looks(post)
        assert await post.states() == {"ready": 2}
        assert await post.rows("SELECT 1 FROM attempts") == []
        await pauses.resume(ctx, ACTOR, target)
        assert await post.until_settled() == {"sent": 2}


@pytest.mark.parametrize("scope", ["all", "server", "connection"])
async def test_explain_says_who_paused_it_when_and_why(tmp_path: Path, scope: str) -> None:
    async with paused(tmp_path, scope) as (post, _, ctx, _):
        message = await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        await looks(post)
        told = (await explain(ctx, post.engine, OWNER, str(message))).deliveries[0]
        (candidate,) = told.candidates
        reasons = {"all": "all_paused", "server": "server_paused", "connection": "paused"}
        assert candidate.reason == reasons[scope]
        assert "by Ada at 20" in candidate.meaning
        assert candidate.meaning.endswith("(moving house)")
        assert told.waits_for is not None
        if scope == "connection":
            assert "(paused)" in told.waits_for
        else:
            assert "by Ada at 20" in told.waits_for


async def test_the_mail_of_a_paused_connection_takes_another_one(tmp_path: Path) -> None:
    async with paused(tmp_path, "connection") as (post, out, _, target):
        other = await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net", "b@example.net"])
        assert await post.until_settled() == {"sent": 2}
        assert await post.rows("SELECT DISTINCT connection_id FROM attempts") == [(other,)]
        assert other != target.target_id


async def test_pauses_add_up(tmp_path: Path) -> None:
    async with paused(tmp_path, "connection") as (post, _, ctx, target):
        await pauses.pause(ctx, ACTOR, ALL)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        await pauses.resume(ctx, ACTOR, target)
        await looks(post)
        assert await post.states() == {"ready": 1}
        await pauses.resume(ctx, ACTOR, ALL)
        assert await post.until_settled() == {"sent": 1}


async def test_another_servers_mail_goes_on(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        made = await post.connection(out.port)
        await post.do("UPDATE connections SET server_id = NULL WHERE connection_id = :c", c=made)
        await post.do(
            "INSERT INTO servers (account_id, server_id, name, created_at, updated_at)"
            " VALUES (1, 2, 'other', 0, 0)"
        )
        await pauses.pause(context(post), ACTOR, Target.server(OWNER, ServerId(2)))
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        assert await post.until_settled() == {"sent": 1}


@pytest.mark.parametrize("scope", ["all", "server", "connection"])
async def test_what_was_claimed_and_not_begun_goes_back_and_uses_no_room(
    tmp_path: Path, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One session hangs at its dot and holds the next one too: that comes back, and only that."""
    monkeypatch.setattr("postroom.engine.sessions.SLOW_S", 60.0)  # else it comes back for being slow
    settings = replace(QUICK, sessions_per_connection=1)
    async with sink(tmp_path) as out, bench(tmp_path, settings=settings) as post:
        connection = await post.connection(out.port, hourly_cap=100)
        await post.send(Purpose.TRANSACTIONAL, ["hang+dot@example.net", "next@example.net"])
        await until(lambda: any(one.past_dot for one in post.engine._attempts.values()))
        assert await post.states() == {"claimed": 2}
        done = await pauses.pause(context(post), ACTOR, target_of(scope, connection))
        assert done.on_their_way == 1
        await post.until(lambda s: s == {"claimed": 1, "ready": 1}, 1.5)
        assert await post.rows("SELECT held FROM cap") == [(1,)]
        for slot in post.engine._runners[connection].sessions:
            slot.session.abort()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.005)


async def test_what_is_stopped_before_its_body_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused between composing and MAIL: nothing of it goes out."""
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port, hourly_cap=100)
        composing, go_on = asyncio.Event(), asyncio.Event()
        envelope = post.engine._composer.envelope

        async def slowly(*what: object) -> object:
            composing.set()
            await go_on.wait()
            return await envelope(*what)  # type: ignore[arg-type]  # handed through

        monkeypatch.setattr(post.engine._composer, "envelope", slowly)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        async with asyncio.timeout(10):
            await composing.wait()
        done = await pauses.pause(context(post), ACTOR, Target.connection(OWNER, connection))
        go_on.set()
        assert done.on_their_way == 0
        assert await post.until(lambda s: s["claimed"] == 0) == {"ready": 1}
        assert await post.rows("SELECT held FROM cap") == [(0,)]


async def test_a_claim_that_races_with_a_pause_takes_nothing_or_gives_back(tmp_path: Path) -> None:
    """Pauses fall at any moment of a busy engine: once each has returned, no new attempt is granted."""
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port)
        ctx = context(post)
        for number in range(12):
            await post.send(Purpose.BROADCAST, [f"r{number}.{i}@example.net" for i in range(12)])
            await post.until(lambda s, n=number: s["sent"] > 6 * n)  # type: ignore[misc]  # bound at once
            target = target_of(("all", "server", "connection")[number % 3], connection)
            await pauses.pause(ctx, ACTOR, target)
            newest = await post.rows("SELECT MAX(attempt_id) FROM attempts")
            await post.until(lambda s: s["claimed"] == 0)
            await looks(post, 2)
            assert await post.rows("SELECT MAX(attempt_id) FROM attempts") == newest
            await pauses.resume(ctx, ACTOR, target)
        assert await post.until_settled() == {"sent": 144}


async def test_idle_sessions_of_a_paused_connection_are_closed(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        await post.until_settled()
        await until(lambda: post.engine.open_sessions > 0)
        await pauses.pause(context(post), ACTOR, Target.connection(OWNER, connection))
        await until(lambda: post.engine.open_sessions == 0)


async def test_paused_mail_is_not_reported_as_trouble(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        connection = await post.connection(out.port)
        for scope in ("all", "server", "connection"):
            target = target_of(scope, connection)
            await pauses.pause(context(post), ACTOR, target)
            await post.send(Purpose.TRANSACTIONAL, [f"{scope}@example.net"])
            for _ in range(3):
                await looks(post, 2)
                await post.until(lambda _: not post.engine._pump.deciding)
                clock.advance(61)
            await looks(post)
            assert await post.rows("SELECT 1 FROM events WHERE kind = 'waiting'") == []
            await pauses.resume(context(post), ACTOR, target)
            await post.until(lambda s: s["ready"] == 0)


def test_a_pause_lets_finish_what_is_on_its_way() -> None:
    attempt = object.__new__(Attempt)
    attempt.withdrawn, attempt.on_its_way = False, True
    attempt.withdraw()
    assert not attempt.withdrawn


async def test_q13_who_is_suppressed_while_mail_is_paused_gets_none_of_it(tmp_path: Path) -> None:
    """Q13: the suppression comes while the message is in the queue; it is looked at in the claim's commit."""
    async with paused(tmp_path, "connection") as (post, _, ctx, target):
        await post.send(Purpose.TRANSACTIONAL, ["gone@example.net", "here@example.net"])
        await suppress_one(ctx, ACTOR, OWNER, seed_rows.SERVER, "Gone@example.net")
        await pauses.resume(ctx, ACTOR, target)
        assert await post.until_settled() == {"suppressed": 1, "sent": 1}
        assert await post.rows("SELECT delivery_id FROM attempts") == [(2,)]
