"""What a deleted server leaves behind goes: a small one's at once, a large one's in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from postroom.actions import accounts, identities, keys, servers, suppressions, templates
from postroom.actions.accept import Idempotency, Submission, accept_message
from postroom.actions.servers import ServerRules
from postroom.actions.template_rules import TemplateDraft
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.core.template import TemplateKind
from postroom.engine.housekeeping import Housekeeping, HousekeepingSettings
from postroom.ids import DeliveryId
from postroom.mail.content import Content, Mailbox
from postroom.storage import lanes, purge
from postroom.storage.interface import Sql, Work
from postroom.storage.messages import NewDelivery, NewMessage, pack_content
from postroom.storage.tables import metadata
from postroom.templates.letter import Sources
from tests.support import seed_rows
from tests.support.context import ACTOR, Harness, make_harness
from tests.support.stores import on_both

pytestmark = on_both

# Of everything a message leaves: tables that name no server.
BEHIND = ("contents", "attempts", "hits", "ready", "unknowns", "idempotency")


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with make_harness(tmp_path) as made:
        yield made


def test_every_table_with_a_server_in_it_is_thought_of() -> None:
    with_a_server = {table.name for table in metadata.tables.values() if "server_id" in table.c}
    named = {table.name for table in (*purge.OWN, *purge.WALKED)} | set(purge.STAYS)
    assert with_a_server - named == set(), "what of these goes with a deleted server?"


async def shop(harness: Harness, name: str) -> Owner:
    """A server with one of everything."""
    ctx = harness.ctx
    account = await accounts.create_account(ctx, ACTOR, name)
    rules = ServerRules(with_token=True)
    server = await servers.create_server(ctx, ACTOR, account.account_id, name, rules=rules)
    owner = Owner(account.account_id, server.server_id)
    await identities.trust(ctx, ACTOR, f"{name}.example", account.account_id, server.server_id)
    await suppressions.suppress(ctx, ACTOR, owner, server.server_id, ["gone@example.net"])
    draft = TemplateDraft("Hello", TemplateKind.STANDARD, Sources("Hello", text="Hi {{name}}"))
    await templates.create_template(ctx, ACTOR, owner, server.server_id, draft)
    key, _ = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    for number in range(3):
        sent = Submission(
            owner.account_id,
            server.server_id,
            Purpose.TRANSACTIONAL,
            "test",
            [Mailbox("ann@example.net"), Mailbox("gone@example.net")],
            sender=Mailbox(f"shop@{name}.example"),
            text="Hello.",
            idempotency=Idempotency(key.key_id, f"n{number}", b"f"),
            options={"tag": "welcome", "metadata": {"order": str(number)}},
        )
        await accept_message(ctx, sent)
    return owner


def waiting(owner: Owner, count: int) -> Work[list[DeliveryId]]:
    """A message to so many that is ready to be sent; its deliveries."""
    account_id, server_id = owner.account_id, owner.server_id
    assert server_id is not None
    sender = "shop@one.example"
    lane = yield from lanes.ensure(account_id, server_id, Purpose.TRANSACTIONAL, "outbound", sender)
    body = pack_content(Content(Mailbox(sender), (Mailbox("b@example.net"),), subject="s", text="x"))
    names = [f"b{number}@example.net" for number in range(count)]
    _, made = yield from seed_rows.insert(
        NewMessage(
            account_id=account_id,
            server_id=server_id,
            key_id=None,
            public_id="waiting",
            stream="outbound",
            purpose=Purpose.TRANSACTIONAL,
            sender=sender,
            subject="s",
            rfc_message_id="<waiting@example.com>",
            body=body,
            size_bytes=len(body),
            captured=False,
            origin="test",
            options={},
            deliveries=[NewDelivery(one, one, "to", DeliveryState.READY) for one in names],
        ),
        lane,
    )
    return made


async def counts(harness: Harness, owner: Owner) -> Mapping[str, int]:
    """How many rows each table has of this owner, where it has any."""
    tables = [*(one.name for one in (*purge.OWN, *purge.WALKED)), *BEHIND]

    def work() -> Work[dict[str, int]]:
        found = {}
        for name in tables:
            where = " WHERE account_id = :account" if "account_id" in metadata.tables[name].c else ""
            rows = yield Sql(
                f"SELECT COUNT(*) FROM {name}{where}", {"account": owner.account_id} if where else {}
            )
            if rows[0][0]:
                found[name] = rows[0][0]
        return found

    return await harness.ctx.store.read(work)


async def test_a_small_server_is_gone_when_its_deletion_is_told(harness: Harness) -> None:
    mine, other = await shop(harness, "one"), await shop(harness, "two")
    before = await counts(harness, other)
    known = {"messages", "deliveries", "events", "contents", "idempotency", "labels", "server_secrets"}
    assert {*known, "templates"} <= set(before)
    assert await counts(harness, mine) == before
    assert mine.server_id is not None
    await servers.delete_server(harness.ctx, ACTOR, mine, mine.server_id)
    assert await counts(harness, mine) == {}
    assert await counts(harness, other) == before
    assert await harness.ctx.store.read(lambda: purge.due(10)) == []


async def test_a_large_one_goes_in_the_background(harness: Harness) -> None:
    mine, other = await shop(harness, "one"), await shop(harness, "two")
    before = await counts(harness, other)
    assert mine.server_id is not None
    await harness.ctx.store.write(lambda: waiting(mine, 5_500))
    done = await servers.delete_server(harness.ctx, ACTOR, mine, mine.server_id)
    assert done.cancelled == 5_500
    assert await counts(harness, mine)
    house = Housekeeping(harness.store, harness.clock, HousekeepingSettings(pause_s=0))
    told = (await house.run_once(dry=True)).counts()
    assert told["deleted_servers"] > 0
    cleared = await house.run_once()
    assert cleared.counts()["deleted_servers"] > 0
    assert await counts(harness, mine) == {}
    assert await counts(harness, other) == before
    assert "deleted_servers" not in (await house.run_once()).counts()


async def test_nothing_goes_while_something_is_on_its_way(harness: Harness) -> None:
    mine = await shop(harness, "one")
    assert mine.server_id is not None
    (held, *_) = await harness.ctx.store.write(lambda: waiting(mine, 1))

    def claim() -> Work[None]:
        yield Sql("DELETE FROM ready WHERE delivery_id = :id", {"id": held})
        yield Sql("UPDATE deliveries SET state = 'claimed' WHERE delivery_id = :id", {"id": held})
        yield Sql(
            "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch, decision_id,"
            " day, granted_at) VALUES (:account, :id, 1, 1, 1, 1, 1, 1)",
            {"account": mine.account_id, "id": held},
        )

    def end() -> Work[None]:
        yield Sql("UPDATE attempts SET result = 'unknown' WHERE delivery_id = :id", {"id": held})
        yield Sql("UPDATE deliveries SET state = 'unknown' WHERE delivery_id = :id", {"id": held})
        yield Sql(
            "INSERT INTO unknowns (due, delivery_id, account_id) VALUES (9, :id, :account)",
            {"id": held, "account": mine.account_id},
        )

    await harness.ctx.store.write(claim)
    before = await counts(harness, mine)
    await servers.delete_server(harness.ctx, ACTOR, mine, mine.server_id)
    house = Housekeeping(harness.store, harness.clock, HousekeepingSettings(pause_s=0))
    await house.run_once()
    after = await counts(harness, mine)
    assert {name: after[name] for name in ("messages", "attempts")} == {
        name: before[name] for name in ("messages", "attempts")
    }
    await harness.ctx.store.write(end)
    await house.run_once()
    assert await counts(harness, mine) == {}
