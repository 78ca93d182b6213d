"""Suppressions by hand, and what they do to mail."""

from __future__ import annotations

import pytest

from postroom.actions import accept, identities, servers, suppressions
from postroom.actions.context import Context
from postroom.actions.servers import ServerChanges
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound
from postroom.ids import ServerId
from postroom.mail.content import Mailbox
from tests.support.context import ACTOR


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
