"""What an archived stream holds goes when it cannot be taken back any more, with it and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from postroom.actions import accounts, api_errors, identities, servers, streams, suppressions
from postroom.actions.accept import Submission, accept_message
from postroom.actions.api_errors import ApiError
from postroom.actions.streams import StreamDraft, StreamRefused
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.core.stream import StreamType
from postroom.engine.housekeeping import Housekeeping, HousekeepingSettings
from postroom.ids import ServerId
from postroom.mail.content import Content, Mailbox
from postroom.storage import lanes
from postroom.storage.interface import Sql, Work
from postroom.storage.messages import NewDelivery, NewMessage, pack_content
from tests.support import seed_rows
from tests.support.context import ACTOR, Harness, make_harness
from tests.support.stores import on_both

pytestmark = on_both
DAY_S = 86_400


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with make_harness(tmp_path) as made:
        yield made


async def shop(harness: Harness) -> tuple[Owner, ServerId]:
    """A server with mail, a bounce and a suppression on two streams; something waits on one of them."""
    ctx = harness.ctx
    account = await accounts.create_account(ctx, ACTOR, "Acme")
    server = (await servers.create_server(ctx, ACTOR, account.account_id, "Shop")).server_id
    owner = Owner(account.account_id, server)
    await identities.trust(ctx, ACTOR, "shop.example", account.account_id)
    await streams.create_stream(ctx, ACTOR, owner, server, StreamDraft("news", "News", StreamType.BROADCAST))
    for stream in ("news", "broadcast"):
        who = [f"{stream}@example.net"]
        await suppressions.suppress(ctx, ACTOR, owner, server, who, stream=stream)
        await api_errors.record(ctx, ApiError(owner.account_id, server, stream, who, "No.", "", 400))
        sent = Submission(
            owner.account_id, server, Purpose.BROADCAST, "test", [Mailbox("ann@example.net")],
            sender=Mailbox("a@shop.example"), text="Hello.", stream=stream, options={"tag": "t"},
        )  # fmt: skip
        await accept_message(ctx, sent)
    await suppressions.suppress(ctx, ACTOR, owner, server, ["everywhere@example.net"])
    await ctx.store.write(lambda: waiting(owner, server))
    return owner, server


def waiting(owner: Owner, server: ServerId) -> Work[None]:
    """A message on the stream that is ready to be sent."""
    sender = "a@shop.example"
    lane = yield from lanes.ensure(owner.account_id, server, Purpose.BROADCAST, "news", sender)
    body = pack_content(Content(Mailbox(sender), (Mailbox("b@example.net"),), subject="s", text="x"))
    yield from seed_rows.insert(
        NewMessage(
            account_id=owner.account_id,
            server_id=server,
            key_id=None,
            public_id="waiting",
            stream="news",
            purpose=Purpose.BROADCAST,
            sender=sender,
            subject="s",
            rfc_message_id="<waiting@shop.example>",
            body=body,
            size_bytes=len(body),
            captured=False,
            origin="test",
            options={},
            deliveries=[NewDelivery("b@example.net", "b@example.net", "to", DeliveryState.READY)],
        ),
        lane,
    )


async def counts(harness: Harness) -> Mapping[str, int]:
    tables = ("messages", "deliveries", "events", "contents", "labels", "bounces", "suppressions", "ready")

    def work() -> Work[dict[str, int]]:
        found = {}
        for name in tables:
            rows = yield Sql(f"SELECT COUNT(*) FROM {name}")
            found[name] = rows[0][0]
        return found

    return await harness.ctx.store.read(work)


def house(harness: Harness) -> Housekeeping:
    settings = HousekeepingSettings(keep_content_s=1e9, keep_events_s=1e9, pause_s=0)
    return Housekeeping(harness.store, harness.clock, settings)


async def test_it_goes_after_45_days_and_nothing_else_does(harness: Harness) -> None:
    owner, server = await shop(harness)
    await streams.archive_stream(harness.ctx, ACTOR, owner, server, "news")
    before = await counts(harness)
    harness.clock.advance(44 * DAY_S)
    assert "archived_streams" not in (await house(harness).run_once()).counts()
    assert await counts(harness) == before
    harness.clock.advance(DAY_S)
    with pytest.raises(StreamRefused):
        await streams.unarchive_stream(harness.ctx, ACTOR, owner, server, "news")
    assert (await house(harness).run_once(dry=True)).counts()["archived_streams"] == 2
    assert await counts(harness) == before
    assert (await house(harness).run_once()).counts()["archived_streams"] > 2
    assert await counts(harness) == {
        "messages": 1,
        "deliveries": 1,
        "events": 1,
        "contents": 1,
        "labels": 1,
        "bounces": 1,
        "suppressions": 2,
        "ready": 0,
    }
    names = [one.stream for one in await streams.list_streams(harness.ctx, owner, server)]
    assert names == ["broadcast", "inbound", "outbound"]
    assert "archived_streams" not in (await house(harness).run_once()).counts()

    def lines() -> Work[list[tuple[str, ...]]]:
        rows = yield Sql("SELECT actor, target, detail FROM audit WHERE action = 'stream.purge'")
        return [tuple(row) for row in rows]

    assert await harness.ctx.store.read(lines) == [("housekeeping", f"server {server}", '{"stream": "news"}')]


async def test_what_a_worker_holds_is_waited_for(harness: Harness) -> None:
    owner, server = await shop(harness)
    await streams.archive_stream(harness.ctx, ACTOR, owner, server, "news")

    def claim(state: str) -> Work[None]:
        yield Sql("DELETE FROM ready")
        yield Sql("UPDATE deliveries SET state = :state WHERE recipient = 'b@example.net'", {"state": state})

    await harness.ctx.store.write(lambda: claim("claimed"))
    harness.clock.advance(45 * DAY_S)
    before = await counts(harness)
    await house(harness).run_once()
    held = await counts(harness)
    assert (held["messages"], held["deliveries"]) == (before["messages"], before["deliveries"])
    await harness.ctx.store.write(lambda: claim("sent"))
    await house(harness).run_once()
    assert (await counts(harness))["messages"] == 1
