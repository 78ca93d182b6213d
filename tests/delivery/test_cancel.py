"""Cancelling says what is true: what may have gone out is not called cancelled, and is not sent again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from postroom.actions.context import Actor
from postroom.actions.messages import cancel_message, release_message
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.engine.retry import Policy
from tests.support import seed_rows
from tests.support.acting import context
from tests.support.engine import QUICK, bench, sink
from tests.support.sink import Received
from tests.support.stores import on_both

pytestmark = on_both

ACTOR = Actor("test")
OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)


async def test_what_may_have_gone_out_is_not_called_cancelled(tmp_path: Path) -> None:
    seen: list[Received] = []
    settings = replace(QUICK, policy=Policy(unknown_wait_s=600))
    async with sink(tmp_path, seen.append) as out, bench(tmp_path, settings=settings) as post:
        await post.connection(out.port)
        message = await post.send(Purpose.TRANSACTIONAL, ["drop+dot@example.net"])
        await post.until(lambda s: s["unknown"] == 1)
        done = await cancel_message(context(post), ACTOR, OWNER, str(message))
        assert done.cancelled == ()
        assert len(done.past_dot) == 1
        assert await post.states() == {"unverified": 1}
        assert await post.rows("SELECT * FROM unknowns") == []
        rows = await post.rows("SELECT kind, COUNT(*) FROM events GROUP BY kind")
        assert dict(rows) == {"accepted": 1, "unknown": 1, "unverified": 1}
        assert len(seen) == 1


async def test_what_waits_is_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        message = await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        done = await cancel_message(context(post), ACTOR, OWNER, str(message))
        assert len(done.cancelled) == 1
        assert done.past_dot == ()
        assert await post.states() == {"cancelled": 1}


async def test_what_was_stopped_on_its_way_is_named_as_cancelled(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        message = await post.send(Purpose.TRANSACTIONAL, ["hang@example.net"])
        await post.until(lambda s: s["claimed"] == 1)
        done = await cancel_message(context(post), ACTOR, OWNER, str(message))
        assert done.cancelled == (1,)
        assert done.past_dot == ()
        assert await post.states() == {"cancelled": 1}


async def test_what_was_past_its_dot_and_then_unknown_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply never came, long after the person who cancelled was told that it was too late."""
    monkeypatch.setattr("postroom.engine.under_way.WAIT_S", 0.0)
    seen: list[Received] = []
    async with sink(tmp_path, seen.append) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port)
        message = await post.send(Purpose.TRANSACTIONAL, ["hang+dot+once@example.net"])
        await post.until(lambda _: len(seen) == 1)
        done = await cancel_message(context(post), ACTOR, OWNER, str(message))
        assert (done.cancelled, done.past_dot) == ((), (1,))
        for slot in post.engine._runners[connection].sessions:
            slot.session.abort()
        assert await post.until_settled() == {"unverified": 1}
        assert len(seen) == 1


async def test_released_mail_of_several_lanes_leaves_at_once(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        message = await post.send(Purpose.TRANSACTIONAL, ["first@example.net"])
        assert await post.until_settled() == {"sent": 1}
        other = await post.send(Purpose.BROADCAST, ["second@example.net"])
        assert await post.until_settled() == {"sent": 2}
        await post.do("UPDATE deliveries SET state = 'held', message_id = :m", m=message)
        assert other != message
        assert await release_message(context(post), ACTOR, OWNER, str(message)) == 2
        assert await post.until_settled(5.0) == {"sent": 2}


async def test_mail_left_behind_by_a_deleted_server_is_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        await post.do("UPDATE servers SET deleted_at = 1")
        await post.do("DELETE FROM identities")
        await post.restart()
        await post.until(lambda s: s["cancelled"] == 1, 5.0)


async def test_q14_a_cancel_that_races_with_sending_is_one_or_the_other(tmp_path: Path) -> None:
    """Q14: whatever moment a cancel meets, what it calls cancelled never arrives, and what it calls too
    late is never cancelled; the rest of the answer is the state."""
    seen: list[Received] = []
    async with sink(tmp_path, seen.append) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        ctx = context(post)
        cancelled: set[int] = set()
        late: set[int] = set()
        for number in range(25):
            people = [f"r{number}.{i}@example.net" for i in range(8)]
            message = await post.send(Purpose.TRANSACTIONAL, people)
            await post.until(lambda _, n=number: len(seen) > 4 * n or n % 5 == 0)  # type: ignore[misc]  # bound at once
            done = await cancel_message(ctx, ACTOR, OWNER, str(message))
            cancelled.update(done.cancelled)
            late.update(done.past_dot)
            seen_now = len(seen)
            await post.until(lambda s: s["claimed"] == 0)
            assert len(seen) >= seen_now
        await post.until_settled()
        rows = await post.rows("SELECT delivery_id, state, recipient FROM deliveries")
        arrived = {one.recipients[0] for one in seen}
        states = {row[0]: row[1] for row in rows}
        assert not cancelled & late
        assert {states[one] for one in cancelled} <= {"cancelled"}
        assert {states[one] for one in late} <= {"sent"}
        assert {row[0] for row in rows if row[2] in arrived} == {n for n, s in states.items() if s == "sent"}
        assert cancelled == {n for n, state in states.items() if state == "cancelled"}
        assert len(seen) == len(arrived)
        assert len(cancelled) > 0
        assert len(arrived) > 0
