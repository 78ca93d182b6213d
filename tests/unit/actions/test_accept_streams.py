"""A message goes on a stream of its own class, and counts with all it carries against what may wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from msgspec.structs import replace

from postroom.actions import identities, servers
from postroom.actions.accept import Idempotency, Submission, accept_message
from postroom.actions.context import Context
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.errors import Invalid
from postroom.ids import KeyId
from postroom.mail.content import Mailbox
from postroom.storage.interface import Work
from tests.support.context import ACTOR
from tests.support.stores import on_both

pytestmark = on_both

T = TypeVar("T")


async def message(
    ctx: Context, owner: Owner, purpose: Purpose, stream: str | None, raw: bytes | None = None
) -> Submission:
    assert owner.server_id is not None
    await identities.trust(ctx, ACTOR, "shop.example", owner.account_id)
    return Submission(
        account_id=owner.account_id,
        server_id=owner.server_id,
        purpose=purpose,
        origin="test",
        to=(Mailbox("ann@example.net"),),
        sender=Mailbox("hello@shop.example"),
        text=None if raw else "Hi",
        raw=raw,
        stream=stream,
    )


@pytest.mark.parametrize(
    ("purpose", "stream"),
    [
        (Purpose.TRANSACTIONAL, "broadcast"),  # would go before all bulk
        (Purpose.BROADCAST, "outbound"),  # would reach those who unsubscribed
        (Purpose.SEQUENCE, "outbound"),
        (Purpose.TRANSACTIONAL, "inbound"),
        (Purpose.BROADCAST, "inbound"),
    ],
)
async def test_a_stream_of_another_class_is_refused(
    ctx: Context, owner: Owner, purpose: Purpose, stream: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await accept_message(ctx, await message(ctx, owner, purpose, stream))
    assert refused.value.errors[0].field == "stream"


@pytest.mark.parametrize(
    ("purpose", "stream"),
    [
        (Purpose.TRANSACTIONAL, "outbound"),
        (Purpose.BROADCAST, "broadcast"),
        (Purpose.SEQUENCE, "broadcast"),
        (Purpose.TRANSACTIONAL, None),
        (Purpose.BROADCAST, None),
    ],
)
async def test_its_own_class_is_taken(
    ctx: Context, owner: Owner, purpose: Purpose, stream: str | None
) -> None:
    assert (await accept_message(ctx, await message(ctx, owner, purpose, stream))).captured


async def test_one_idempotency_key_does_not_serve_two_servers(ctx: Context, owner: Owner) -> None:
    """An account's key may name either; taken for new, the first request's retry would be a second copy."""
    asked = replace(
        await message(ctx, owner, Purpose.TRANSACTIONAL, None),
        idempotency=Idempotency(KeyId(7), "order-1", b"same"),
    )
    other = await servers.create_server(ctx, ACTOR, owner.account_id, "another")
    first = await accept_message(ctx, asked)
    with pytest.raises(Invalid):
        await accept_message(ctx, replace(asked, server_id=other.server_id))
    again = await accept_message(ctx, asked)
    assert again.replayed
    assert again.message_id == first.message_id


async def test_a_complete_message_of_the_clients_counts_in_full(
    ctx: Context, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = b"From: hello@shop.example\r\nTo: ann@example.net\r\n\r\n" + b"x" * 70 + b"\r\n"
    asked = await message(ctx, owner, Purpose.TRANSACTIONAL, None, raw)
    sizes: list[int] = []
    write = ctx.store.write

    async def watch(work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        sizes.append(size_bytes)
        return await write(work, size_bytes, share=share)

    monkeypatch.setattr(ctx.store, "write", watch)
    await accept_message(ctx, asked)
    assert sizes[0] >= len(raw)
