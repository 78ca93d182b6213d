"""Operations on messages: send, look at, cancel, release, explain."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec

from postroom.actions import by_hand, messages
from postroom.actions.accept import Submission, accept_message
from postroom.actions.by_hand import Handled
from postroom.actions.messages import Seen
from postroom.clock import moment_us, to_iso
from postroom.control.desk import Desk, owner_of, server_of
from postroom.core.message import DeliveryState, Purpose, SettledAs
from postroom.errors import Denied, Invalid
from postroom.mail.address import parse_address, parse_domain, parse_mailbox
from postroom.mail.content import Attachment, Content, Mailbox
from postroom.storage.message_search import Search
from postroom.storage.messages import StoredDelivery

ORIGIN = "command_line"


class GivenAttachment(msgspec.Struct, forbid_unknown_fields=True):
    """A file to attach; `data` is base64. With `content_id` it is shown inside the HTML part."""

    name: str
    content_type: str
    data: str
    content_id: str = ""


async def send(
    desk: Desk,
    *,
    to: list[str],
    purpose: Purpose = Purpose.TRANSACTIONAL,
    cc: list[str] | None = None,
    bcc: list[str] | None = None,
    sender: str | None = None,
    reply_to: list[str] | None = None,
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    preheader: str = "",
    headers: list[tuple[str, str]] | None = None,
    attachments: list[GivenAttachment] | None = None,
    stream: str | None = None,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """Accept a message; what is returned is stored durably."""
    owner = await server_of(desk, account, server)
    submission = Submission(
        account_id=owner.account_id,
        server_id=owner.server_id,
        purpose=purpose,
        origin=ORIGIN,
        to=_mailboxes(to, "to"),
        cc=_mailboxes(cc or [], "cc"),
        bcc=_mailboxes(bcc or [], "bcc"),
        sender=None if sender is None else parse_mailbox(sender, "from"),
        reply_to=_mailboxes(reply_to or [], "reply_to"),
        subject=subject,
        text=text,
        html=html,
        preheader=preheader,
        headers=headers or [],
        attachments=[_attachment(one) for one in attachments or []],
        stream=stream,
    )
    try:
        accepted = await accept_message(desk.ctx, submission)
    except Denied as error:
        raise Denied(f"{error}; `postroom identity trust` does") from error
    return {
        "message_id": accepted.message_id,
        "public_id": accepted.public_id,
        "captured": accepted.captured,
        "deliveries": [
            {"delivery_id": delivery, "recipient": recipient, "state": state.value}
            for delivery, recipient, state in accepted.deliveries
        ],
    }


async def list_all(
    desk: Desk,
    *,
    account: int | None = None,
    server: int | None = None,
    state: DeliveryState | None = None,
    recipient: str | None = None,
    stream: str | None = None,
    subject: str | None = None,
    since: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> dict[str, object]:
    """The newest messages that fit, newest first; `before`: only those older than this message's number.

    next_before: where to go on. searched_all False: it stopped after looking through very many.
    """
    owner = await owner_of(desk, account, server)
    wanted = Search(
        state=state,
        recipient=_recipient_key(recipient),
        stream=stream,
        subject=subject or "",
        since_us=_since(desk, since),
    )
    listed = await messages.list_messages(desk.ctx, owner, wanted, limit=limit, before=before)
    return {
        "data": [shown_message(one) for one in listed.seen],
        "next_before": listed.next_before,
        "searched_all": listed.searched_all,
    }


def _recipient_key(recipient: str | None) -> str:
    """An address as it is compared, or `@domain`."""
    if not recipient:
        return ""
    if recipient.startswith("@"):
        return "@" + parse_domain(recipient[1:], "recipient")
    return parse_address(recipient, "recipient").key


def _since(desk: Desk, since: str | None) -> int | None:
    try:
        return None if since is None else moment_us(since, desk.ctx.clock.now_us())
    except ValueError as error:
        raise Invalid("since", "must be a date, a time, or an age like 90m, 2h or 3d") from error


async def show(desk: Desk, *, message: str, account: int | None = None) -> dict[str, object]:
    """A message by its number, public id or Message-ID, with its content while that is kept."""
    owner = await owner_of(desk, account, None)
    seen = await messages.show_message(desk.ctx, owner, message, with_content=True)
    content = None if seen.content is None else _shown_content(seen.content)
    return {**shown_message(seen), "content": content}


async def cancel(desk: Desk, *, message: str, account: int | None = None) -> dict[str, object]:
    """Cancel what has not gone out; `past_dot`: what could not be stopped any more."""
    owner = await owner_of(desk, account, None)
    done = await messages.cancel_message(desk.ctx, desk.actor, owner, message)
    return {"cancelled": list(done.cancelled), "past_dot": list(done.past_dot)}


async def release(desk: Desk, *, message: str, account: int | None = None) -> dict[str, object]:
    """Let what is captured or held into the queue."""
    owner = await owner_of(desk, account, None)
    return {"released": await messages.release_message(desk.ctx, desk.actor, owner, message)}


async def retry(
    desk: Desk, *, message: str, recipient: str | None = None, account: int | None = None
) -> dict[str, object]:
    """Try at once what waits for a later try, is held, or bounced."""
    owner = await owner_of(desk, account, None)
    return _shown(await by_hand.retry(desk.ctx, desk.actor, owner, message, recipient))


async def resend(
    desk: Desk, *, message: str, recipient: str | None = None, account: int | None = None
) -> dict[str, object]:
    """Send again what was sent or may have been; a recipient may then get it twice."""
    owner = await owner_of(desk, account, None)
    return _shown(await by_hand.resend(desk.ctx, desk.actor, owner, message, recipient))


async def settle(
    desk: Desk, *, message: str, word: SettledAs, recipient: str | None = None, account: int | None = None
) -> dict[str, object]:
    """End what is unknown or unverified, by the operator's word."""
    owner = await owner_of(desk, account, None)
    return _shown(await by_hand.settle(desk.ctx, desk.actor, owner, message, word, recipient))


def _shown(handled: Handled) -> dict[str, object]:
    left = [
        {
            "delivery_id": one.delivery_id,
            "recipient": one.recipient,
            "state": one.state.value,
            "why": one.why,
        }
        for one in handled.left_alone
    ]
    return {"deliveries": list(handled.done), "left_alone": left}


async def explain(desk: Desk, *, message: str, account: int | None = None) -> Mapping[str, object]:
    """Why a message is where it is: every delivery, its attempts and what routing decided."""
    return await desk.explain(await owner_of(desk, account, None), message)


def shown_message(seen: Seen) -> dict[str, object]:
    """A message with its deliveries as JSON values, without its content."""
    message = seen.message
    return {
        "message_id": message.message_id,
        "public_id": message.public_id,
        "rfc_message_id": message.rfc_message_id,
        "account_id": message.account_id,
        "server_id": message.server_id,
        "stream": message.stream,
        "purpose": message.purpose.value,
        "from": message.sender,
        "subject": message.subject,
        "size_bytes": message.size_bytes,
        "captured": message.captured,
        "origin": message.origin,
        "created_at": to_iso(message.created_at_us),
        "deliveries": [_shown_delivery(one) for one in seen.deliveries],
    }


def _shown_delivery(delivery: StoredDelivery) -> dict[str, object]:
    return {
        "delivery_id": delivery.delivery_id,
        "recipient": delivery.recipient,
        "kind": delivery.kind,
        "state": delivery.state.value,
        "due_at": to_iso(delivery.due_us),
        "tries": delivery.tries,
        "resends": delivery.resends,
        "copies": delivery.copies,
        "settled_at": to_iso(delivery.settled_at_us),
        "reason": delivery.reason,
    }


def _shown_content(content: Content) -> dict[str, object]:
    return {
        "from": _written(content.sender),
        "to": [_written(one) for one in content.to],
        "cc": [_written(one) for one in content.cc],
        "reply_to": [_written(one) for one in content.reply_to],
        "subject": content.subject,
        "text": content.text,
        "html": content.html,
        "preheader": content.preheader,
        "headers": [list(one) for one in content.headers],
        "attachments": [
            {"name": one.name, "content_type": one.content_type, "size_bytes": len(one.data)}
            for one in content.attachments
        ],
        "raw_bytes": None if content.raw is None else len(content.raw),
    }


def _written(box: Mailbox) -> str:
    return f"{box.name} <{box.address}>" if box.name else box.address


def _mailboxes(written: list[str], field: str) -> tuple[Mailbox, ...]:
    return tuple(parse_mailbox(one, field) for one in written)


def _attachment(given: GivenAttachment) -> Attachment:
    try:
        data = base64.b64decode(given.data, validate=True)
    except binascii.Error as error:
        raise Invalid("attachments", "is not base64") from error
    return Attachment(given.name, given.content_type, data, given.content_id)
