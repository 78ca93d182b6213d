"""Accounts and servers through their actions."""

from __future__ import annotations

from functools import partial

import pytest

from postroom.actions import accounts, connections, identities, keys, servers, streams
from postroom.actions.connection_draft import ConnectionDraft
from postroom.actions.context import Context
from postroom.actions.servers import ServerChanges
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.core.stream import StreamType
from postroom.errors import Invalid, NotFound, Unauthenticated
from postroom.ids import AccountId, DeliveryId, ServerId
from postroom.mail.content import Content, Mailbox
from postroom.storage import audit, lanes
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.messages import NewDelivery, NewMessage, pack_content
from tests.support import seed_rows
from tests.support.context import ACTOR, Harness
from tests.support.stores import on_both

pytestmark = on_both


async def rows(ctx: Context, text: str) -> Rows:
    def work() -> Work[Rows]:
        return (yield Sql(text))

    return await ctx.store.read(work)


async def test_accounts(ctx: Context) -> None:
    one = await accounts.create_account(ctx, ACTOR, " Acme ")
    two = await accounts.create_account(ctx, ACTOR, "Rival")
    assert one.name == "Acme"
    assert await accounts.get_account(ctx, one.account_id) == one
    assert await accounts.list_accounts(ctx) == [one, two]
    assert await accounts.list_accounts(ctx, limit=1, offset=1) == [two]
    for number in (99, 0, -1, 2**70):
        with pytest.raises(NotFound):
            await accounts.get_account(ctx, AccountId(number))
    with pytest.raises(Invalid):
        await accounts.create_account(ctx, ACTOR, "")


async def test_a_server_is_born_with_three_streams(ctx: Context, owner: Owner) -> None:
    assert owner.server_id is not None
    born = await streams.list_streams(ctx, owner, owner.server_id)
    assert [(one.stream, one.type) for one in born] == [
        ("broadcast", StreamType.BROADCAST),
        ("inbound", StreamType.INBOUND),
        ("outbound", StreamType.TRANSACTIONAL),
    ]


async def test_create_checks_every_field(ctx: Context, owner: Owner) -> None:
    with pytest.raises(Invalid) as caught:
        await servers.create_server(ctx, ACTOR, owner.account_id, "", default_sender="nobody")
    assert [error.field for error in caught.value.errors] == ["name", "default_sender"]
    for number in (99, 2**70):
        with pytest.raises(NotFound):
            await servers.create_server(ctx, ACTOR, AccountId(number), "Shop")


async def test_update_names_only_what_it_changes(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    server = await servers.create_server(
        ctx, ACTOR, owner.account_id, "Shop", default_sender="Shop <a@example.com>", options={"Color": "red"}
    )
    harness.clock.advance(5)
    changed = await servers.update_server(
        ctx,
        ACTOR,
        Owner(owner.account_id),
        server.server_id,
        ServerChanges(sandbox=True, options={"Color": None, "Size": 1}),
    )
    assert (changed.name, changed.default_sender, changed.sandbox) == ("Shop", "Shop <a@example.com>", True)
    assert changed.options == {"Size": 1}
    assert changed.updated_at_us == server.updated_at_us + 5_000_000
    assert await servers.get_server(ctx, Owner(owner.account_id), server.server_id) == changed
    cleared = await servers.update_server(
        ctx, ACTOR, Owner(owner.account_id), server.server_id, ServerChanges(default_sender=None)
    )
    assert cleared.default_sender is None
    assert harness.hearer.facts == [owner.account_id] * 2
    line = (await ctx.store.read(lambda: audit.list_lines(audit.Wanted(owner.account_id), limit=1)))[0]
    assert (line.action, line.detail) == (
        "server.update",
        {"before": {"default_sender": "Shop <a@example.com>"}, "after": {"default_sender": None}},
    )
    with pytest.raises(Invalid):
        await servers.update_server(
            ctx, ACTOR, owner, owner.server_id or ServerId(0), ServerChanges(options={"x": "y" * 70_000})
        )


async def test_an_update_that_asks_for_no_change_changes_nothing(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    one = await servers.create_server(ctx, ACTOR, owner.account_id, "Two", options={"Color": "red"})
    before = await ctx.store.read(lambda: audit.list_lines(audit.Wanted(owner.account_id)))
    harness.clock.advance(60)
    for changes in (
        ServerChanges(),
        ServerChanges(name=" Two ", default_sender="", sandbox=False, options={"Color": "red", "Size": None}),
    ):
        account = Owner(owner.account_id)
        assert await servers.update_server(ctx, ACTOR, account, one.server_id, changes) == one
    assert await ctx.store.read(lambda: audit.list_lines(audit.Wanted(owner.account_id))) == before


async def test_who_sees_which_server(ctx: Context, owner: Owner, stranger: Owner) -> None:
    sibling = await servers.create_server(ctx, ACTOR, owner.account_id, "Sibling")
    seen, total = await servers.list_servers(ctx, Owner(owner.account_id))
    assert ([one.name for one in seen], total) == (["Shop", "Sibling"], 2)
    seen, total = await servers.list_servers(ctx, owner)
    assert ([one.name for one in seen], total) == (["Shop"], 1)
    assert await servers.list_servers(ctx, owner, limit=2**70, offset=-1) == (seen, 1)
    assert await servers.list_servers(ctx, owner, limit=-1, offset=2**70) == ([], 1)
    for caller, number in [
        (owner, sibling.server_id),
        (stranger, owner.server_id),
        (Owner(stranger.account_id), owner.server_id),
        (Owner(owner.account_id), ServerId(2**70)),
    ]:
        assert number is not None
        for call in (
            servers.get_server(ctx, caller, number),
            streams.list_streams(ctx, caller, number),
            servers.update_server(ctx, ACTOR, caller, number, ServerChanges(name="x")),
            servers.delete_server(ctx, ACTOR, caller, number),
        ):
            with pytest.raises(NotFound, match="server not found"):
                await call


def _accepted(owner: Owner, recipients: int) -> Work[list[DeliveryId]]:
    """A message as accept would store it, one delivery a recipient."""
    assert owner.server_id is not None
    sender = "shop@example.com"
    lane = yield from lanes.ensure(
        owner.account_id, owner.server_id, Purpose.TRANSACTIONAL, "outbound", sender
    )
    addresses = [f"r{number}@example.org" for number in range(recipients)]
    packed = pack_content(Content(Mailbox(sender), subject="s", text="t"))
    _, made = yield from seed_rows.insert(
        NewMessage(
            account_id=owner.account_id,
            server_id=owner.server_id,
            key_id=None,
            public_id=f"m{owner.server_id}",
            stream="outbound",
            purpose=Purpose.TRANSACTIONAL,
            sender=sender,
            subject="s",
            rfc_message_id="<m@example.com>",
            body=packed,
            size_bytes=len(packed),
            captured=False,
            origin="test",
            options={},
            deliveries=[NewDelivery(one, one, "to", DeliveryState.READY) for one in addresses],
        ),
        lane,
    )
    return made


def _claim(owner: Owner, delivery_id: DeliveryId) -> Work[None]:
    yield Sql("DELETE FROM ready WHERE delivery_id = :id", {"id": delivery_id})
    yield Sql("UPDATE deliveries SET state = 'claimed' WHERE delivery_id = :id", {"id": delivery_id})
    yield Sql(
        "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch, decision_id, day,"
        " granted_at) VALUES (:account, :id, 1, 1, 1, 1, 1, 1)",
        {"account": owner.account_id, "id": delivery_id},
    )


def _ended(owner: Owner, delivery_id: DeliveryId) -> Work[None]:
    yield from _claim(owner, delivery_id)
    yield Sql("UPDATE attempts SET result = 'sent' WHERE delivery_id = :id", {"id": delivery_id})
    yield Sql("UPDATE deliveries SET state = 'sent' WHERE delivery_id = :id", {"id": delivery_id})


async def test_deleting_a_server_takes_all_that_is_its_own(
    harness: Harness, owner: Owner, stranger: Owner
) -> None:
    ctx, hearer = harness.ctx, harness.hearer
    assert owner.server_id is not None
    draft = ConnectionDraft(label="Out", host="localhost", port=25, for_transactional=True)
    mine = await connections.create_connection(ctx, ACTOR, owner, draft)
    shared = await connections.create_connection(ctx, ACTOR, Owner(owner.account_id), draft)
    _, text = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    _, account_text = await keys.create_key(ctx, ACTOR, Owner(owner.account_id), "ops", ["all"])
    await keys.authenticate(ctx, text.reveal())
    await identities.trust(ctx, ACTOR, "example.com", owner.account_id, owner.server_id)
    await identities.trust(ctx, ACTOR, "example.net", owner.account_id)
    made = await ctx.store.write(lambda: _accepted(owner, 1203))
    others = await ctx.store.write(lambda: _accepted(stranger, 2))
    sibling = await servers.create_server(ctx, ACTOR, owner.account_id, "Sibling")
    beside = Owner(owner.account_id, sibling.server_id)
    siblings = await ctx.store.write(lambda: _accepted(beside, 1))
    for whose, held in ((owner, made[0]), (owner, made[1]), (beside, siblings[0]), (stranger, others[0])):
        await ctx.store.write(partial(_claim, whose, held))
    await ctx.store.write(partial(_ended, owner, made[2]))
    hearer.connections.clear()
    hearer.past_dot = frozenset(made[:1])

    gone = await servers.delete_server(ctx, ACTOR, owner, owner.server_id)

    assert (gone.cancelled, gone.past_dot) == (1200, frozenset(made[:1]))
    assert sorted(hearer.claims) == made[:2]
    assert hearer.connections == [mine.connection_id]
    states = await rows(ctx, "SELECT server_id, state, count(*) FROM deliveries GROUP BY 1, 2 ORDER BY 1, 2")
    assert states == [
        (owner.server_id, "cancelled", 1200),
        (owner.server_id, "claimed", 2),
        (owner.server_id, "sent", 1),
        (stranger.server_id, "claimed", 1),
        (stranger.server_id, "ready", 1),
        (sibling.server_id, "claimed", 1),
    ]
    with pytest.raises(NotFound):
        await servers.get_server(ctx, owner, owner.server_id)
    with pytest.raises(NotFound):
        await connections.get_connection(ctx, owner, mine.connection_id)
    with pytest.raises(NotFound):
        await connections.create_connection(ctx, ACTOR, owner, draft)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(ctx, text.reveal())
    assert (await keys.authenticate(ctx, account_text.reveal())).label == "ops"
    everything = Owner(owner.account_id, whole_account=True)
    left, _ = await connections.list_connections(ctx, everything, limit=9)
    assert [one.connection_id for one in left] == [shared.connection_id]
    trusted = await identities.list_identities(ctx, owner.account_id)
    assert [one.value for one in trusted] == ["example.net"]
    wanted = audit.Wanted(owner.account_id, target=f"server {owner.server_id}")
    lines = await ctx.store.read(lambda: audit.list_lines(wanted, limit=2))
    assert lines[0].detail == {"past_dot": made[:1]}
    assert lines[1].detail["connections"] == [mine.connection_id]
