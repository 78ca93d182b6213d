"""Suppressions by hand, and what they do to mail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from postroom.actions import accept, identities, servers, suppressions
from postroom.actions.context import Context
from postroom.actions.servers import ServerChanges
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound, Unavailable
from postroom.ids import ServerId
from postroom.mail.content import Mailbox
from postroom.storage import audit
from postroom.storage.interface import Work
from tests.support.context import ACTOR, Harness
from tests.support.stores import on_both

pytestmark = on_both


def server_of(owner: Owner) -> ServerId:
    assert owner.server_id is not None
    return owner.server_id


async def test_added_once_in_whatever_spelling_and_taken_off_again(ctx: Context, owner: Owner) -> None:
    server = server_of(owner)
    people = ["Ann@Example.net", "ann@example.NET", "x@bücher.example", "no address"]
    first = await suppressions.suppress(ctx, ACTOR, owner, server, people)
    assert first.changed == ("ann@example.net", "x@xn--bcher-kva.example")
    assert first.invalid == ("no address",)
    again = await suppressions.suppress(ctx, ACTOR, owner, server, ["ANN@example.net", "b@example.net"])
    assert (again.changed, again.unchanged) == (("b@example.net",), ("ann@example.net",))
    assert await suppressions.is_suppressed(ctx, owner, server, "aNN@example.net")
    rows, total = await suppressions.list_suppressions(ctx, owner, server)
    assert total == len(rows) == 3
    gone = await suppressions.unsuppress(ctx, ACTOR, owner, server, ["Ann@example.net", "nobody@example.net"])
    assert (gone.changed, gone.unchanged) == (("ann@example.net",), ("nobody@example.net",))
    assert not await suppressions.is_suppressed(ctx, owner, server, "ann@example.net")


async def test_a_streams_list_holds_for_that_stream_only(ctx: Context, owner: Owner) -> None:
    server = server_of(owner)
    await suppressions.suppress(ctx, ACTOR, owner, server, ["a@example.net"], stream="broadcast")
    assert await suppressions.is_suppressed(ctx, owner, server, "a@example.net", stream="broadcast")
    assert not await suppressions.is_suppressed(ctx, owner, server, "a@example.net", stream="outbound")
    with pytest.raises(Invalid):
        await suppressions.suppress(ctx, ACTOR, owner, server, ["a@example.net"], stream="nowhere")


async def test_foreign_servers_do_not_exist(ctx: Context, owner: Owner, stranger: Owner) -> None:
    for call in (suppressions.suppress, suppressions.unsuppress):
        with pytest.raises(NotFound):
            await call(ctx, ACTOR, stranger, server_of(owner), ["a@example.net"])
    with pytest.raises(NotFound):
        await suppressions.is_suppressed(ctx, stranger, server_of(owner), "a@example.net")


async def test_ten_thousand_and_no_more(ctx: Context, owner: Owner) -> None:
    people = [f"p{n}@example.net" for n in range(10_001)]
    with pytest.raises(Invalid):
        await suppressions.suppress(ctx, ACTOR, owner, server_of(owner), people)
    done = await suppressions.suppress(ctx, ACTOR, owner, server_of(owner), people[1:])
    assert len(done.changed) == 10_000


async def test_a_failure_half_way_keeps_the_slices_before_and_asking_again_ends_it(
    harness: Harness, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each 500 are a unit of their own: the third cannot be written, then it can."""
    ctx, server = harness.ctx, server_of(owner)
    people = [f"p{n}@example.net" for n in range(1200)]
    written = harness.store.write
    sizes: list[int] = []

    async def full(work: Callable[[], Work[set[str]]], size_bytes: int = 0) -> set[str]:
        if len(sizes) == 2:
            raise Unavailable("the disk is full")
        found = await written(work, size_bytes)
        sizes.append(len(found))
        return found

    with monkeypatch.context() as broken:
        broken.setattr(harness.store, "write", full)
        with pytest.raises(Unavailable):
            await suppressions.suppress(ctx, ACTOR, owner, server, people)
    assert sizes == [500, 500]
    assert (await suppressions.list_suppressions(ctx, owner, server, limit=1))[1] == 1000
    again = await suppressions.suppress(ctx, ACTOR, owner, server, people)
    assert (len(again.changed), len(again.unchanged)) == (200, 1000)
    lines = await ctx.store.read(
        lambda: audit.list_lines(audit.Wanted(owner.account_id, target=f"server {server}"))
    )
    assert [one.detail.get("count") for one in lines[:3]] == [200, 500, 500]


async def test_one_is_told_with_its_row_and_whether_it_is_new(ctx: Context, owner: Owner) -> None:
    row, new = await suppressions.suppress_one(ctx, ACTOR, owner, server_of(owner), "Ann@Example.net")
    assert (row.address, row.suppression_id, new) == ("ann@example.net", 1, True)
    again, new = await suppressions.suppress_one(ctx, ACTOR, owner, server_of(owner), "ANN@example.net")
    assert (again, new) == (row, False)
    with pytest.raises(Invalid):
        await suppressions.suppress_one(ctx, ACTOR, owner, server_of(owner), "nobody")


async def test_a_suppressed_recipient_is_accepted_and_not_sent(ctx: Context, owner: Owner) -> None:
    server = server_of(owner)
    await identities.trust(ctx, ACTOR, "shop.example", owner.account_id)
    changes = ServerChanges(default_sender="Shop <hello@shop.example>")
    await servers.update_server(ctx, ACTOR, Owner(owner.account_id), server, changes)
    await suppressions.suppress(ctx, ACTOR, owner, server, ["gone@example.net"])
    done = await accept.accept_message(
        ctx,
        accept.Submission(
            account_id=owner.account_id,
            server_id=server,
            purpose=Purpose.TRANSACTIONAL,
            origin="test",
            to=(Mailbox("Gone@Example.net"), Mailbox("here@example.net")),
            subject="Hello",
            text="Hi",
        ),
    )
    assert [state for _, _, state in done.deliveries] == [DeliveryState.SUPPRESSED, DeliveryState.CAPTURED]
