"""Looking at messages, and taking them out of the queue or letting them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.actions.checks import MOST_ID
from postroom.actions.context import Actor, Context
from postroom.actions.finding import find
from postroom.core.event import EventKind
from postroom.core.message import DeliveryState
from postroom.core.server import Owner
from postroom.errors import NotFound
from postroom.ids import AccountId, DeliveryId, LaneId, MessageId
from postroom.mail.content import Content
from postroom.storage import audit, message_search, messages, queue
from postroom.storage.interface import Work, now
from postroom.storage.message_search import Search
from postroom.storage.messages import StoredDelivery, StoredMessage

KIND = "message"
_ROUNDS = 3
_PATIENCE_S = 5.0  # what takes longer to stop than this is not tried again
MOST_LISTED = 500


@dataclass(frozen=True)
class Seen:
    """A message with its deliveries. `content` is None once retention deleted it."""

    message: StoredMessage
    deliveries: tuple[StoredDelivery, ...]
    content: Content | None = None


async def show_message(ctx: Context, owner: Owner, text: str, *, with_content: bool = False) -> Seen:
    """A message by its number, its public id or its Message-ID. Raises NotFound."""

    def work() -> Work[Seen]:
        message = yield from owned(owner, text)
        found = yield from messages.deliveries(message.account_id, message.message_id)
        content = None
        if with_content:
            content = yield from messages.content(message.account_id, message.content_id)
        return Seen(message, tuple(found), content)

    return await ctx.store.read(work)


@dataclass(frozen=True)
class Listed:
    """Messages that were found, newest first, with their deliveries.

    next_before: where to go on; None: there are no more. searched_all False: so much was looked through
    without finding enough that it stopped there.
    """

    seen: tuple[Seen, ...]
    next_before: MessageId | None
    searched_all: bool = True


async def list_messages(
    ctx: Context, owner: Owner, wanted: Search | None = None, *, limit: int = 50, before: int | None = None
) -> Listed:
    """The newest messages that fit, newest first; `before`: only older ones than this message's number."""
    limit = max(1, min(limit, MOST_LISTED))
    at = None if before is None else max(0, min(before, MOST_ID))
    account_id = owner.account_id
    found = await find(ctx, account_id, owner.server_id, wanted or Search(), enough=limit, before=at)
    numbers = found.numbers[:limit]

    def rows() -> Work[list[Seen]]:
        listed = yield from message_search.get_many(account_id, numbers)
        return (yield from with_deliveries(account_id, listed))

    seen = tuple(await ctx.store.read(rows))
    full = len(numbers) == limit
    cut = len(found.numbers) > limit
    return Listed(seen, numbers[-1] if cut else found.last, full or found.last is None)


def with_deliveries(account_id: AccountId, listed: Sequence[StoredMessage]) -> Work[list[Seen]]:
    """These messages of an account with their deliveries."""
    rows = yield from messages.deliveries_of(account_id, [one.message_id for one in listed])
    of: dict[MessageId, list[StoredDelivery]] = {}
    for row in rows:
        of.setdefault(row.message_id, []).append(row)
    return [Seen(one, tuple(of.get(one.message_id, ()))) for one in listed]


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
        message = yield from owned(owner, text)
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
    # What was stopped may have gone back to ready; take that out too. A worker may hold it again by then.
    cancelled, unknown, held = list(taken.cancelled), set(taken.unknown), claimed
    began_s = ctx.clock.steady_s()
    for _ in range(_ROUNDS):
        late = await ctx.hearer.cancel_claims(held)
        again = await ctx.store.write(lambda: queue.cancel_message(owner.account_id, message_id))
        cancelled += again.cancelled
        unknown.update(again.unknown)
        held = [one for one in again.claimed if one not in late]
        if not held or ctx.clock.steady_s() - began_s > _PATIENCE_S:
            break
    rows = await ctx.store.read(lambda: messages.deliveries(owner.account_id, message_id))
    gone = {row.delivery_id for row in rows if row.state is not DeliveryState.CANCELLED} & set(claimed)
    past_dot = gone | unknown | {*again.claimed}
    stopped = {*cancelled, *(set(claimed) - gone)} - past_dot
    return Cancelled(tuple(sorted(stopped)), tuple(sorted(past_dot)))


async def release_message(ctx: Context, actor: Actor, owner: Owner, text: str) -> int:
    """Let captured and held deliveries into the queue. Returns how many. Raises NotFound."""

    def work() -> Work[list[tuple[LaneId, int]]]:
        message = yield from owned(owner, text)
        at = yield from now()
        found = yield from queue.look(message.account_id, message.message_id)
        waiting = [one for one in found if one.state in (DeliveryState.CAPTURED, DeliveryState.HELD)]
        if not waiting:
            return []
        reason = f"released by {actor.name}"
        woken = yield from queue.put_in(message, waiting, EventKind.RELEASED, reason, actor.name, at)
        yield from audit.add(
            message.account_id,
            at,
            actor,
            "message.release",
            f"message {message.message_id}",
            {"released": len(waiting)},
        )
        return woken

    woken = await ctx.store.write(work)
    if woken:
        ctx.hearer.wake(woken)
    return sum(count for _, count in woken)


def owned(owner: Owner, text: str) -> Work[StoredMessage]:
    """A message by its number, its public id or its Message-ID, for the units of actions. Raises NotFound."""
    message = yield from messages.find(owner.account_id, text)
    if message is None or not owner.sees_server(message.server_id):
        raise NotFound(KIND)
    return message
