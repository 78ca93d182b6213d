"""Unsubscribing, and taking it back: what the recipient of one delivery may decide about further mail.

It is about one address and the broadcast streams of one server, those there are at that moment; transactional
mail goes on. What the recipient set, the recipient may lift; hard bounces, complaints and what the server's
owner put on the list stay. Mail that waits already is stopped when it would be claimed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from postroom.actions.context import Context
from postroom.core.event import EventKind
from postroom.core.stream import StreamType
from postroom.core.suppression import ALL_STREAMS, Origin, Reason
from postroom.errors import NotFound
from postroom.ids import DeliveryId
from postroom.storage import hot, messages, streams, suppressions
from postroom.storage.interface import Sql, Work, now
from postroom.storage.messages import Addressed


class Standing(StrEnum):
    """How an address stands with the broadcast streams of a server."""

    SUBSCRIBED = "subscribed"  # mail on at least one of them reaches it
    UNSUBSCRIBED = "unsubscribed"  # by its own wish, at least on one of them, and nothing on the others
    BLOCKED = "blocked"  # nothing reaches it, and not by its own wish
    GONE = "gone"  # there is no such server any more


class Way(StrEnum):
    """How the wish came."""

    ONE_CLICK = "one_click"  # the mailbox provider's POST (RFC 8058)
    PAGE = "page"


@dataclass(frozen=True)
class Subscription:
    """One recipient and one server's mailings."""

    recipient: str
    sender: str
    server_name: str
    stream_name: str
    standing: Standing


async def look_up(ctx: Context, delivery_id: DeliveryId) -> Subscription:
    """What a delivery's recipient is subscribed to. Raises NotFound(delivery)."""
    return await ctx.store.read(lambda: _look_up(delivery_id))


async def unsubscribe(ctx: Context, delivery_id: DeliveryId, way: Way, source: str) -> Subscription:
    """From now on nothing on broadcast streams reaches this recipient; again changes nothing.

    A blocked address is noted as well: the wish holds when the other reason is lifted.
    source: the address the wish came from, "" where unknown. Raises NotFound(delivery); Unavailable.
    """
    found = await look_up(ctx, delivery_id)
    if found.standing in (Standing.UNSUBSCRIBED, Standing.GONE):
        return found

    def work() -> Work[Subscription]:
        about = yield from _about(delivery_id)
        at_us = yield from now()
        new: set[str] = set()
        for stream in (yield from _broadcast_streams(about)):
            new |= yield from suppressions.add(
                about.account_id,
                about.server_id,
                at_us,
                [about.address],
                reason=Reason.UNSUBSCRIBE,
                origin=Origin.RECIPIENT,
                stream=stream,
            )
        if new:
            yield from _event(about, EventKind.UNSUBSCRIBED, at_us, way, source)
        return (yield from _look_up(delivery_id))

    return await ctx.store.write(work)


async def resubscribe(ctx: Context, delivery_id: DeliveryId, source: str) -> Subscription:
    """Take the recipient's own unsubscribing back, and nothing else. Raises as `unsubscribe`."""
    found = await look_up(ctx, delivery_id)
    if found.standing is Standing.GONE:
        return found

    def work() -> Work[Subscription]:
        about = yield from _about(delivery_id)
        at_us = yield from now()
        streams = yield from _broadcast_streams(about)
        lifted = yield from suppressions.remove_own(about.account_id, about.server_id, about.address, streams)
        if lifted:
            yield from _event(about, EventKind.RESUBSCRIBED, at_us, Way.PAGE, source)
        return (yield from _look_up(delivery_id))

    return await ctx.store.write(work)


def _about(delivery_id: DeliveryId) -> Work[Addressed]:
    about = yield from messages.addressed(delivery_id)
    if about is None:
        raise NotFound("delivery")
    return about


def _broadcast_streams(about: Addressed) -> Work[list[str]]:
    found = yield from streams.list_of(about.account_id, about.server_id)
    return [one.stream for one in found if one.type is StreamType.BROADCAST]


def _look_up(delivery_id: DeliveryId) -> Work[Subscription]:
    about = yield from _about(delivery_id)
    standing = Standing.GONE
    if not about.gone:
        streams = yield from _broadcast_streams(about)
        reasons = yield from suppressions.of_address(
            about.account_id, about.server_id, about.address, [ALL_STREAMS, *streams]
        )
        standing = _standing(streams, reasons)
    return Subscription(about.recipient, about.sender, about.server_name, about.stream_name, standing)


def _standing(streams: list[str], by_stream: dict[str, tuple[Reason, Origin]]) -> Standing:
    """by_stream: why the address is suppressed there."""
    if ALL_STREAMS in by_stream:
        return Standing.BLOCKED
    if any(stream not in by_stream for stream in streams):
        return Standing.SUBSCRIBED
    own = (Reason.UNSUBSCRIBE, Origin.RECIPIENT)
    return Standing.UNSUBSCRIBED if own in by_stream.values() else Standing.BLOCKED


def _event(about: Addressed, kind: EventKind, at_us: int, way: Way, source: str) -> Work[None]:
    yield Sql(
        hot.INSERT_EVENT,
        {
            "account_id": about.account_id,
            "server_id": about.server_id,
            "message_id": about.message_id,
            "delivery_id": about.delivery_id,
            "connection_id": None,
            "kind": kind.value,
            "at": at_us,
            "data": json.dumps({"way": way.value, "source": source}),
        },
    )
