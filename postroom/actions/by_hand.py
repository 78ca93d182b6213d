"""What a person may do to a message's deliveries at any time: try again, send again, settle.

`retry` is for what has certainly not gone out, so it makes no second copy. `resend` is for what has, or may
have, and makes one on purpose, under the same Message-ID. `settle` ends by a person's word what nobody can
know. Each says for every delivery it leaves alone why. A suppressed address gets nothing by any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from postroom.actions.context import Actor, Context
from postroom.actions.messages import owned
from postroom.actions.rehearsal import SAID
from postroom.core.bounce import BounceKind
from postroom.core.event import EventKind
from postroom.core.message import DeliveryState, SettledAs
from postroom.core.server import Owner
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ids import DeliveryId, LaneId
from postroom.mail.address import parse_address
from postroom.storage import audit, bounces, messages, queue, servers
from postroom.storage.bounces import Bounced
from postroom.storage.interface import Work, now
from postroom.storage.messages import StoredMessage
from postroom.storage.queue import Looked

State = DeliveryState


@dataclass(frozen=True)
class LeftAlone:
    """A delivery that was not touched, and why in a sentence."""

    delivery_id: DeliveryId
    recipient: str
    state: DeliveryState
    why: str


@dataclass(frozen=True)
class Handled:
    """What was done to which deliveries of a message."""

    done: tuple[DeliveryId, ...]
    left_alone: tuple[LeftAlone, ...]


async def retry(ctx: Context, actor: Actor, owner: Owner, text: str, recipient: str | None = None) -> Handled:
    """Try now what waits for a later try, is held, or bounced; a bounced one begins its schedule anew.

    Raises NotFound(message, recipient), Conflict when there is nothing to try.
    """
    return await _put_in(ctx, actor, owner, text, recipient, EventKind.RETRIED, _not_to_retry)


async def resend(
    ctx: Context, actor: Actor, owner: Owner, text: str, recipient: str | None = None
) -> Handled:
    """Send again what was sent, what may have been, or bounced: a new attempt, the same Message-ID.

    Raises NotFound(message, recipient), Conflict when there is nothing to send again.
    """
    return await _put_in(ctx, actor, owner, text, recipient, EventKind.RESENT, _not_to_resend)


async def settle(
    ctx: Context, actor: Actor, owner: Owner, text: str, word: SettledAs, recipient: str | None = None
) -> Handled:
    """End what is unknown or unverified as sent or as failed, by a person's word.

    Raises NotFound(message, recipient), Conflict when there is nothing to settle.
    """
    state, kind = {
        SettledAs.SENT: (State.SENT, EventKind.SENT),
        SettledAs.FAILED: (State.BOUNCED, EventKind.BOUNCED),
    }[word]

    def work() -> Work[Handled]:
        message = yield from owned(owner, text)
        mine, left = yield from _sorted_out(message, recipient, _not_to_settle)
        at = yield from now()
        reason = f"settled as {word.value} by {actor.name}"
        yield from queue.end_by_hand(message, mine, state, kind, reason, actor.name, at)
        if word is SettledAs.FAILED:
            failed = [
                Bounced(message.account_id, one.delivery_id, BounceKind.UNCLEAR, reason) for one in mine
            ]
            yield from bounces.add_bounced(failed, at)
        detail = {"as": word.value, "deliveries": [one.delivery_id for one in mine]}
        yield from _audit(actor, message, "message.settle", detail, at)
        return Handled(tuple(one.delivery_id for one in mine), left)

    return await ctx.store.write(work)


async def _put_in(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    text: str,
    recipient: str | None,
    kind: EventKind,
    why_not: Callable[[int, Looked], str | None],
) -> Handled:
    action, did = {
        EventKind.RETRIED: ("message.retry", "tried"),
        EventKind.RESENT: ("message.resend", "sent"),
    }[kind]

    def work() -> Work[tuple[Handled, list[tuple[LaneId, int]]]]:
        message = yield from owned(owner, text)
        at = yield from now()
        if (yield from servers.get(message.account_id, message.server_id)) is None:
            raise Conflict("its server was deleted")
        if not (yield from messages.has_content(message.account_id, message.content_id)):
            raise Conflict("what it says is not kept any more")
        mine, left = yield from _sorted_out(message, recipient, partial(why_not, at))
        reason = f"{did} again by {actor.name}"
        woken = yield from queue.put_in(message, mine, kind, reason, actor.name, at)
        detail = {"deliveries": [one.delivery_id for one in mine]}
        yield from _audit(actor, message, action, detail, at)
        return Handled(tuple(one.delivery_id for one in mine), left), woken

    handled, woken = await ctx.store.write(work)
    ctx.hearer.wake(woken)
    return handled


def _sorted_out(
    message: StoredMessage, recipient: str | None, why_not: Callable[[Looked], str | None]
) -> Work[tuple[list[Looked], tuple[LeftAlone, ...]]]:
    """Those to be handled, and those that are not. Raises NotFound(recipient), Conflict if all are left."""
    found = yield from queue.look(message.account_id, message.message_id)
    if recipient is not None:
        key = _key(recipient)
        found = [one for one in found if one.address == key]
    if not found:
        raise NotFound("recipient")
    mine: list[Looked] = []
    left: list[LeftAlone] = []
    for one in found:
        why = why_not(one)
        if why is None:
            mine.append(one)
        else:
            left.append(LeftAlone(one.delivery_id, one.recipient, one.state, why))
    if not mine:
        raise Conflict("; ".join(sorted({f"{one.state.value}: {one.why}" for one in left})))
    return mine, tuple(left)


def _key(recipient: str) -> str:
    try:
        return parse_address(recipient, "recipient").key
    except Invalid:
        raise NotFound("recipient") from None


_MAY_HAVE_GONE = "it may have gone out; resend it, or settle it"
_WHY_NO_RETRY: Mapping[State, str] = {
    State.CLAIMED: "a worker holds it at this moment",
    State.SENT: "it went out; resend sends it again",
    State.UNKNOWN: _MAY_HAVE_GONE,
    State.UNVERIFIED: _MAY_HAVE_GONE,
    State.SUPPRESSED: "its address is suppressed",
    State.CANCELLED: "it was cancelled",
    State.CAPTURED: "it was captured; release lets it go",
}
_WHY_NO_RESEND: Mapping[State, str] = {
    State.READY: "it waits to be sent; retry sends it at once",
    State.CLAIMED: "a worker holds it at this moment",
    State.HELD: "it never went out; retry tries it again",
    State.SUPPRESSED: "its address is suppressed",
    State.CANCELLED: "it was cancelled",
    State.CAPTURED: "it was captured; release lets it go",
}


def _not_to_retry(at_us: int, one: Looked) -> str | None:
    if one.state is State.READY and one.due_us <= at_us:
        return "it waits for its turn already; explain says for what"
    if why := _rehearsed(one):
        return why
    if one.state is State.BOUNCED and one.may_have_gone:
        return "an earlier try may have gone out; resend it"
    return _WHY_NO_RETRY.get(one.state) or _suppressed(one)


def _not_to_resend(_at_us: int, one: Looked) -> str | None:
    return _rehearsed(one) or _WHY_NO_RESEND.get(one.state) or _suppressed(one)


def _rehearsed(one: Looked) -> str | None:
    return "its address is there to be tried: nothing is ever sent to it" if one.reason == SAID else None


def _suppressed(one: Looked) -> str | None:
    return f"its address is suppressed ({one.suppressed})" if one.suppressed else None


def _not_to_settle(one: Looked) -> str | None:
    if one.state in (State.UNKNOWN, State.UNVERIFIED):
        return None
    if one.state is State.CLAIMED:
        return "a worker holds it at this moment"
    return "what became of it is known"


def _audit(
    actor: Actor, message: StoredMessage, action: str, detail: Mapping[str, object], at_us: int
) -> Work[None]:
    target = f"message {message.message_id}"
    yield from audit.add(message.account_id, at_us, actor, action, target, detail)
