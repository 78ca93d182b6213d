"""Accepting a message: what is refused, what is decided, and that it is all or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as but

from postroom.actions import connections, identities, servers
from postroom.actions.accept import Accepted, Idempotency, Submission, accept_message
from postroom.actions.connection_draft import ConnectionDraft
from postroom.actions.context import Context, Limits
from postroom.actions.servers import ServerChanges
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.engine.clock_guard import ClockGuard
from postroom.engine.clock_steps import ClockSteps
from postroom.engine.housekeeping import Housekeeping
from postroom.engine.settings import EngineSettings
from postroom.errors import Conflict, Denied, Invalid, NotFound, PostroomError, TooLarge
from postroom.ids import KeyId
from postroom.mail.content import Attachment, Mailbox
from postroom.storage import messages
from postroom.storage.interface import Rows, Sql, Work
from postroom.tracing import Received, Tried
from tests.support.context import ACTOR, Harness
from tests.support.stores import on_both

pytestmark = on_both

SENDER = "Shop <hello@shop.example>"


@pytest.fixture
async def shop(ctx: Context, owner: Owner) -> Submission:
    """A message that is fine, from a server with a default sender that is trusted."""
    assert owner.server_id is not None
    await identities.trust(ctx, ACTOR, "shop.example", owner.account_id)
    changes = ServerChanges(default_sender=SENDER)
    await servers.update_server(ctx, ACTOR, Owner(owner.account_id), owner.server_id, changes)
    return Submission(
        account_id=owner.account_id,
        server_id=owner.server_id,
        purpose=Purpose.TRANSACTIONAL,
        origin="test",
        to=(Mailbox("ann@example.net", "Ann"),),
        subject="Hello",
        text="Hi",
    )


async def connect(ctx: Context, owner: Owner, *purposes: Purpose) -> None:
    await connections.create_connection(
        ctx,
        ACTOR,
        owner,
        ConnectionDraft(
            label="out",
            for_transactional=Purpose.TRANSACTIONAL in purposes,
            for_broadcast=Purpose.BROADCAST in purposes,
            host="127.0.0.1",
            port=25,
        ),
    )


async def count(ctx: Context, table: str) -> int:
    def work() -> Work[Rows]:
        return (yield Sql(f"SELECT COUNT(*) FROM {table}"))

    rows = await ctx.store.read(work)
    found: int = rows[0][0]
    return found


def states(accepted: Accepted) -> list[DeliveryState]:
    return [state for _, _, state in accepted.deliveries]


async def test_what_is_accepted_is_stored_and_the_engine_told(
    harness: Harness, owner: Owner, shop: Submission
) -> None:
    await connect(harness.ctx, owner, Purpose.TRANSACTIONAL)
    done = await accept_message(
        harness.ctx,
        but(shop, cc=(Mailbox("bob@example.net"),), bcc=(Mailbox("ANN@example.net"),)),
    )
    assert states(done) == [DeliveryState.READY] * 2  # Ann once
    assert not done.captured
    stored = await harness.store.read(lambda: messages.get(shop.account_id, shop.server_id, done.message_id))
    assert stored is not None
    assert stored.sender == "hello@shop.example"
    assert stored.rfc_message_id == f"<{done.public_id}@shop.example>"
    content = await harness.store.read(lambda: messages.content(shop.account_id, stored.content_id))
    assert content is not None
    assert content.sender == Mailbox("hello@shop.example", "Shop")
    assert content.cc == (Mailbox("bob@example.net"),)
    assert harness.hearer.woken[-1][1] == 2


async def test_captured_where_no_connection_ever_was(ctx: Context, owner: Owner, shop: Submission) -> None:
    done = await accept_message(ctx, shop)
    assert done.captured
    assert states(done) == [DeliveryState.CAPTURED]
    assert await count(ctx, "ready") == 0
    await connect(ctx, owner, Purpose.TRANSACTIONAL)
    assert states(await accept_message(ctx, shop)) == [DeliveryState.READY]


async def test_later_trouble_never_captures(ctx: Context, owner: Owner, shop: Submission) -> None:
    await connect(ctx, owner, Purpose.TRANSACTIONAL)
    (made,), _ = await connections.list_connections(ctx, owner, limit=5)
    await connections.delete_connection(ctx, ACTOR, owner, made.connection_id)
    assert states(await accept_message(ctx, shop)) == [DeliveryState.READY]


async def test_a_shared_connection_of_the_account_counts(
    ctx: Context, owner: Owner, shop: Submission
) -> None:
    await connect(ctx, Owner(owner.account_id), Purpose.BROADCAST)
    with pytest.raises(Invalid, match="no connection of this server is switched on for transactional"):
        await accept_message(ctx, shop)
    assert states(await accept_message(ctx, but(shop, purpose=Purpose.BROADCAST))) == [DeliveryState.READY]


async def test_a_sandbox_captures_always(ctx: Context, owner: Owner, shop: Submission) -> None:
    await connect(ctx, owner, Purpose.TRANSACTIONAL)
    changes = ServerChanges(sandbox=True)
    await servers.update_server(ctx, ACTOR, Owner(owner.account_id), shop.server_id, changes)
    assert states(await accept_message(ctx, shop)) == [DeliveryState.CAPTURED]


LONG = "x" * 100


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"to": ()}, Invalid, "to"),
        ({"to": (Mailbox("no address"),)}, Invalid, "to"),
        ({"to": tuple(Mailbox(f"p{n}@example.net") for n in range(501))}, Invalid, "to"),
        ({"to": (Mailbox("a@example.net", "x\r\nBcc: b@example.net"),)}, Invalid, "to"),
        ({"bcc": (Mailbox("a@b@c"),)}, Invalid, "bcc"),
        ({"subject": "a\r\nBcc: b@example.net"}, Invalid, "subject"),
        ({"text": None}, Invalid, "body"),
        ({"headers": (("Bcc", "b@example.net"),)}, Invalid, "headers"),
        ({"reply_to": (Mailbox("nobody"),)}, Invalid, "reply_to"),
        ({"sender": Mailbox("a@b@c")}, Invalid, "from"),
        ({"sender": Mailbox("ceo@else.example")}, Denied, ""),
        ({"stream": "nowhere"}, Invalid, "stream"),
        ({"attachments": (Attachment("a", "text/plain", b"x" * (26 << 20)),)}, TooLarge, ""),
        ({"attachments": (Attachment("a\r\nX: y", "text/plain", b"x"),)}, Invalid, "attachments"),  # H1
        ({"attachments": (Attachment("a.txt", "text/plain\r\nX: y", b"x"),)}, Invalid, "attachments"),
        ({"attachments": (Attachment("a.png", "image/png", b"x", "a> <b"),)}, Invalid, "attachments"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    ctx: Context, shop: Submission, change: dict[str, object], error: type[PostroomError], field: str
) -> None:
    with pytest.raises(error) as refused:
        await accept_message(ctx, but(shop, **change))
    if isinstance(refused.value, Invalid):
        assert refused.value.errors[0].field == field
    for table in ("messages", "contents", "deliveries", "ready", "events", "lanes"):
        assert await count(ctx, table) == 0


async def test_without_any_sender_it_is_refused(ctx: Context, owner: Owner, shop: Submission) -> None:
    changes = ServerChanges(default_sender=None)
    await servers.update_server(ctx, ACTOR, Owner(owner.account_id), shop.server_id, changes)
    with pytest.raises(Invalid, match="no default sender"):
        await accept_message(ctx, shop)


async def test_a_foreign_server_does_not_exist(ctx: Context, stranger: Owner, shop: Submission) -> None:
    with pytest.raises(NotFound):
        await accept_message(ctx, but(shop, account_id=stranger.account_id))


def named(name: str = "order-1", body: bytes = b"1", key: int = 1) -> Idempotency:
    return Idempotency(KeyId(key), name, body)


async def test_the_same_request_is_one_message(ctx: Context, shop: Submission) -> None:
    first = await accept_message(ctx, but(shop, idempotency=named()))
    again = await accept_message(ctx, but(shop, idempotency=named()))
    assert (again.message_id, again.replayed) == (first.message_id, True)
    other_key = await accept_message(ctx, but(shop, idempotency=named(key=2)))
    assert other_key.message_id != first.message_id
    with pytest.raises(Invalid) as refused:
        await accept_message(ctx, but(shop, idempotency=named(body=b"2")))
    assert refused.value.errors[0].field == "Idempotency-Key"
    assert await count(ctx, "messages") == 2


async def test_a_name_is_free_again_after_a_day(harness: Harness, shop: Submission) -> None:
    first = await accept_message(harness.ctx, but(shop, idempotency=named()))
    harness.clock.advance(86_401)
    later = await accept_message(harness.ctx, but(shop, idempotency=named(body=b"2")))
    assert later.message_id != first.message_id
    again = await accept_message(harness.ctx, but(shop, idempotency=named(body=b"2")))
    assert again.message_id == later.message_id


@pytest.mark.parametrize("step_s", [86_400, 90_000, -86_400])
async def test_a_name_is_not_free_before_a_day_because_the_clock_was_set(
    harness: Harness, shop: Submission, step_s: int
) -> None:
    steps = ClockSteps(harness.store, harness.clock, ClockGuard(harness.clock), EngineSettings(), "boot")
    harness.clock.advance(10)
    first = await accept_message(harness.ctx, but(shop, idempotency=named()))
    harness.clock.advance(10)
    harness.clock.step(step_s)
    await steps.look()
    for seconds in (0, 40_000, 40_000):
        harness.clock.advance(seconds)
        await Housekeeping(harness.store, harness.clock).run_once()
        again = await accept_message(harness.ctx, but(shop, idempotency=named()))
        assert again.message_id == first.message_id
    harness.clock.advance(7_000 if step_s > 0 else 100_000)
    later = await accept_message(harness.ctx, but(shop, idempotency=named()))
    assert later.message_id != first.message_id


async def test_a_request_still_running_conflicts_and_a_failed_one_does_not(
    ctx: Context, shop: Submission
) -> None:
    ctx.running.add((1, "order-1"))
    with pytest.raises(Conflict):
        await accept_message(ctx, but(shop, idempotency=named()))
    ctx.running.clear()
    with pytest.raises(Denied):
        await accept_message(ctx, but(shop, sender=Mailbox("x@else.example"), idempotency=named()))
    done = await accept_message(ctx, but(shop, idempotency=named()))
    assert not done.replayed


async def test_limits_are_settings(ctx: Context, shop: Submission) -> None:
    tight = replace(ctx, limits=Limits(max_recipients=1, max_message_bytes=50))
    with pytest.raises(Invalid, match="more than 1 "):
        await accept_message(tight, but(shop, cc=(Mailbox("b@example.net"),)))
    with pytest.raises(TooLarge):
        await accept_message(tight, but(shop, text=LONG))


class BrokenTraces:
    """Raises whatever it is told."""

    def received(self, one: Received) -> None:
        raise RuntimeError("no exporter")

    def tried(self, one: Tried) -> None:
        raise RuntimeError("no exporter")

    async def close(self) -> None:
        """Nothing to end."""


async def test_who_was_accepted_hears_a_yes_though_it_cannot_be_traced(
    ctx: Context, shop: Submission
) -> None:
    """An error after the commit would make the caller hand the message in once more."""
    accepted = await accept_message(replace(ctx, traces=BrokenTraces()), shop)
    assert (await ctx.store.read(lambda: messages.find(shop.account_id, accepted.public_id))) is not None
