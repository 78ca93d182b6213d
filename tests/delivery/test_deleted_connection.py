"""A deleted connection gives back what it holds before the answer, and nothing more goes through it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from postroom.actions.connections import delete_connection
from postroom.actions.context import Actor
from postroom.core.message import Purpose
from postroom.core.server import Owner
from tests.support import seed_rows
from tests.support.acting import context
from tests.support.engine import QUICK, bench, sink
from tests.support.sink import Received

ACTOR = Actor("Ada")
OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)


@pytest.fixture(autouse=True)
def slow_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits behind a slow delivery does not come back for that."""
    monkeypatch.setattr("postroom.engine.sessions.SLOW_S", 60.0)


async def test_what_it_holds_is_settled_before_the_answer(tmp_path: Path) -> None:
    """One hangs at its dot until the peer's time is over, one waits behind it: unknown, and back."""
    settings = replace(QUICK, sessions_per_connection=1)
    async with sink(tmp_path) as out, bench(tmp_path, settings=settings) as post:
        made = await post.connection(out.port)
        await post.send(Purpose.BROADCAST, ["hang+dot@example.net", "next@example.net"])
        attempts = post.engine._attempts
        await post.until(lambda _: any(one.past_dot for one in attempts.values()))
        assert await post.states() == {"claimed": 2}
        assert await delete_connection(context(post), ACTOR, OWNER, made) == frozenset()
        assert await post.states() == {"unverified": 1, "ready": 1}
        assert await post.rows("SELECT 1 FROM attempts WHERE result IS NULL") == []


async def test_what_is_late_is_named_in_the_answer_and_in_the_audit_trail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.engine.under_way.WAIT_S", 0.05)
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        made = await post.connection(out.port)
        await post.send(Purpose.BROADCAST, ["hang+dot@example.net"])
        attempts = post.engine._attempts
        await post.until(lambda _: any(one.past_dot for one in attempts.values()))
        assert await delete_connection(context(post), ACTOR, OWNER, made) == {1}
        rows = await post.rows("SELECT action, detail FROM audit ORDER BY audit_id")
        assert rows[1] == ("connection.delete", '{"past_dot": [1]}')
        for slot in post.engine._runners[made].sessions:
            slot.session.abort()


async def test_q8_1000_queued_wait_for_another_connection_and_never_take_anothers(tmp_path: Path) -> None:
    """Q8: the connection is deleted, then disabled again on another; another account's is never taken."""
    theirs: list[Received] = []
    mine: list[Received] = []
    async with (
        sink(tmp_path, theirs.append) as other,
        sink(tmp_path, mine.append) as out,
        bench(tmp_path) as post,
    ):
        foreign = await post.connection(other.port)
        await post.do("INSERT INTO accounts (account_id, name, created_at) VALUES (2, 'rival', 0)")
        await post.do("UPDATE connections SET account_id = 2, server_id = NULL, version = 2")
        post.engine.connection_changed(foreign)
        made = await post.connection(out.port, hourly_cap=15)
        for number in range(4):
            await post.send(Purpose.BROADCAST, [f"r{number}.{i}@example.net" for i in range(250)])
        await post.until(lambda s: s["sent"] == 15 and s["claimed"] == 0)
        await delete_connection(context(post), ACTOR, OWNER, made)
        again = await post.connection(out.port)
        await post.do("UPDATE connections SET enabled = 0 WHERE connection_id = :c", c=again)
        post.engine.connection_changed(again)
        for _ in range(3):
            post.engine.looking.reread_s = -1e9
            await post.engine.looking.look()
        await post.until(lambda s: s["claimed"] == 0)
        sent = (await post.states())["sent"]
        assert sent + (await post.states())["ready"] == 1000
        assert theirs == []
        await post.do("UPDATE connections SET enabled = 1 WHERE connection_id = :c", c=again)
        post.engine.connection_changed(again)
        assert await post.until_settled() == {"sent": 1000}
        assert (len(mine), theirs) == (1000, [])
