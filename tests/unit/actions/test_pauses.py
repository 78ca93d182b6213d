"""Pausing and resuming: once, with a name and a reason, and only what is one's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postroom.actions import connections, pauses, servers
from postroom.actions.connection_draft import ConnectionDraft
from postroom.actions.context import Context
from postroom.actions.pauses import Target
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound
from postroom.ids import AccountId, ConnectionId, ServerId
from postroom.storage import audit
from postroom.storage.pauses import PauseScope
from tests.support.context import ACTOR, Harness
from tests.support.stores import on_both

pytestmark = on_both

DRAFT = ConnectionDraft(label="Out", host="localhost", port=25, for_transactional=True)


async def actions_of(ctx: Context, owner: Owner) -> list[tuple[str, str]]:
    lines = await ctx.store.read(lambda: audit.list_lines(audit.Wanted(owner.account_id)))
    return [(one.action, one.target) for one in reversed(lines) if one.action.startswith("queue.")]


async def test_a_pause_is_made_once_and_ended_once(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    made = await connections.create_connection(ctx, ACTOR, owner, DRAFT)
    target = Target.connection(owner, made.connection_id)
    harness.hearer.on_their_way = 3

    first = await pauses.pause(ctx, ACTOR, target, "  asked their support ")
    harness.clock.advance(60)
    again = await pauses.pause(ctx, replace(ACTOR, name="key 3"), target, "other words")

    assert (first.made, again.made) == (True, False)
    assert first.on_their_way == 3
    assert again.pause == first.pause
    assert (first.pause.actor, first.pause.reason) == ("test", "asked their support")
    assert await pauses.list_pauses(ctx, owner) == [first.pause]
    assert await pauses.resume(ctx, ACTOR, target) == first.pause
    assert await pauses.resume(ctx, ACTOR, target) is None
    assert await pauses.list_pauses(ctx) == []
    assert (
        harness.hearer.pauses == [first.pause] * 3
    )  # the engine hears of each, and not of a resume of nothing
    name = f"connection {made.connection_id}"
    assert await actions_of(ctx, owner) == [("queue.pause", name), ("queue.resume", name)]


async def test_what_is_anothers_looks_like_nothing(ctx: Context, owner: Owner, stranger: Owner) -> None:
    theirs = await connections.create_connection(ctx, ACTOR, stranger, DRAFT)
    assert stranger.server_id is not None
    for target in (
        Target.connection(owner, theirs.connection_id),
        Target.connection(owner, ConnectionId(2**70)),
        Target.connection(owner, ConnectionId(0)),
        Target.server(owner, stranger.server_id),
        Target.server(owner, ServerId(-1)),
    ):
        with pytest.raises(NotFound):
            await pauses.pause(ctx, ACTOR, target)
        with pytest.raises(NotFound):
            await pauses.resume(ctx, ACTOR, target)
    await pauses.pause(ctx, ACTOR, Target.server(stranger, stranger.server_id))
    assert await pauses.list_pauses(ctx, owner) == []
    await pauses.pause(ctx, ACTOR, Target.everything())
    assert [one.scope for one in await pauses.list_pauses(ctx, owner)] == [PauseScope.ALL]
    assert len(await pauses.list_pauses(ctx)) == 2


@pytest.mark.parametrize("reason", ["x" * 501, "two\nlines", "a\x00b", "a\u202eb"])
async def test_a_reason_is_one_line_of_text(ctx: Context, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        await pauses.pause(ctx, ACTOR, Target.everything(), reason)
    assert caught.value.errors[0].field == "reason"
    assert await pauses.list_pauses(ctx) == []


async def test_what_is_deleted_is_paused_no_more(ctx: Context, owner: Owner) -> None:
    assert owner.server_id is not None
    shared = await connections.create_connection(ctx, ACTOR, Owner(owner.account_id), DRAFT)
    mine = await connections.create_connection(ctx, ACTOR, owner, DRAFT)
    whole = Owner(owner.account_id, whole_account=True)
    for target in (
        Target.connection(whole, shared.connection_id),
        Target.connection(whole, mine.connection_id),
        Target.server(whole, owner.server_id),
    ):
        await pauses.pause(ctx, ACTOR, target)
    await connections.delete_connection(ctx, ACTOR, whole, shared.connection_id)
    assert len(await pauses.list_pauses(ctx)) == 2
    await servers.delete_server(ctx, ACTOR, Owner(owner.account_id), owner.server_id)
    assert await pauses.list_pauses(ctx) == []
    assert await pauses.list_pauses(ctx, Owner(AccountId(owner.account_id))) == []
