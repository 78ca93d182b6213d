"""Looking at messages, and taking them out of the queue or letting them in."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.actions.context import Actor, Context
from postroom.core.message import DeliveryState
from postroom.core.server import Owner
from postroom.errors import NotFound
from postroom.ids import DeliveryId, LaneId, MessageId
from postroom.mail.content import Content
from postroom.storage import audit, messages, queue
from postroom.storage.interface import Work, now
from postroom.storage.messages import StoredDelivery, StoredMessage

KIND = "message"


@dataclass(frozen=True)
class Seen:
    """A message with its deliveries. `content` is None once retention deleted it."""

    message: StoredMessage
    deliveries: tuple[StoredDelivery, ...]
    content: Content | None = None


async def show_message(ctx: Context, owner: Owner, text: str, *, with_content: bool = False) -> Seen:
    """A message by its number, its public id or its Message-ID. Raises NotFound."""

    def work() -> Work[Seen]:
        message = yield from _owned(owner, text)
        found = yield from messages.deliveries(message.account_id, message.message_id)
        content = None
        if with_content:
            content = yield from messages.content(message.account_id, message.content_id)
        return Seen(message, tuple(found), content)

    return await ctx.store.read(work)


async def list_messages(
    ctx: Context, owner: Owner, *, limit: int = 50, before: int | None = None
) -> list[Seen]:
    """The newest messages, newest first, with their deliveries; `before`: a message's number."""

    def work() -> Work[list[Seen]]:
        seen: list[Seen] = []
        for message in (
            yield from messages.newest(owner.account_id, owner.server_id, max(0, min(limit, 500)), before)
        ):
            found = yield from messages.deliveries(message.account_id, message.message_id)
            seen.append(Seen(message, tuple(found)))
        return seen

    return await ctx.store.read(work)


@dataclass(frozen=True)
class Cancelled:
    """What a cancel did. `past_dot`: deliveries that could not be stopped any more, or may have gone out."""

    cancelled: tuple[DeliveryId, ...]
    past_dot: tuple[DeliveryId, ...]


async def cancel_message(ctx: Context, actor: Actor, owner: Owner, text: str) -> Cancelled:
    """Cancel what of a message has not gone out; what is on its way is stopped where possible.

    Either cancelled or sent, never both reported. Raises NotFound.
    """

    def work() -> Work[tuple[MessageId, queue.Taken]]:
        message = yield from _owned(owner, text)
        taken = yield from queue.cancel_message(message.account_id, message.message_id)
        if taken.cancelled or taken.claimed:
            at = yield from now()
            yield from audit.add(
                message.account_id,
                at,
                actor,
                "message.cancel",
                f"message {message.message_id}",
                {
                    "cancelled": len(taken.cancelled),
                    "claimed": len(taken.claimed),
                    "unknown": len(taken.unknown),
                },
            )
        return message.message_id, taken

    message_id, taken = await ctx.store.write(work)
    claimed = taken.claimed
    if not claimed:
        return Cancelled(tuple(taken.cancelled), tuple(taken.unknown))
    await ctx.hearer.cancel_claims(claimed)
    # What was stopped went back to ready; take that out too, and see what did go.
    again = await ctx.store.write(lambda: queue.cancel_message(owner.account_id, message_id))
    rows = await ctx.store.read(lambda: messages.deliveries(owner.account_id, message_id))
    gone = {row.delivery_id for row in rows if row.state is not DeliveryState.CANCELLED} & set(claimed)
    past_dot = gone | {*taken.unknown, *again.unknown, *again.claimed}
    stopped = {*again.cancelled, *(set(claimed) - gone)}
    return Cancelled((*taken.cancelled, *sorted(stopped)), tuple(sorted(past_dot)))


async def release_message(ctx: Context, actor: Actor, owner: Owner, text: str) -> int:
    """Let captured and held deliveries into the queue. Returns how many. Raises NotFound."""

    def work() -> Work[list[tuple[LaneId, int]]]:
        message = yield from _owned(owner, text)
        woken = yield from queue.release_message(message.account_id, message.message_id)
        if woken:
            at = yield from now()
            yield from audit.add(
                message.account_id,
                at,
                actor,
                "message.release",
                f"message {message.message_id}",
                {"released": sum(count for _, count in woken)},
            )
        return woken

    woken = await ctx.store.write(work)
    if woken:
        ctx.hearer.wake(woken)
    return sum(count for _, count in woken)


def _owned(owner: Owner, text: str) -> Work[StoredMessage]:
    message = yield from messages.find(owner.account_id, text)
    if message is None or not owner.sees_server(message.server_id):
        raise NotFound(KIND)
    return message
