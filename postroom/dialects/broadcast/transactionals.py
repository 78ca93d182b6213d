"""The transactional calls: one message to one person, through the same accept as everything else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from postroom.actions.accept import Accepted, Idempotency, Submission, accept_message
from postroom.actions.messages import Seen, show_message
from postroom.clock import to_iso
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.dialects.broadcast.calls import CHANNEL, Answer, Call, number_or_missing
from postroom.dialects.broadcast.warnings import Warnings
from postroom.errors import FieldError, Invalid, NotFound
from postroom.ids import MessageId
from postroom.logs import logger
from postroom.mail.address import parse_mailbox
from postroom.mail.content import Mailbox
from postroom.mail.headers import check_header_value

log = logger("dialects.broadcast")

KIND = "message"
ORIGIN = "broadcast"
MOST_KEY_CHARACTERS = 255
_HTML = re.compile(r"<(?:[A-Za-z]|/[A-Za-z]|!--|!DOCTYPE)", re.IGNORECASE)
_FIELDS = frozenset(
    {
        "to",
        "subject",
        "body",
        "preheader",
        "reply_to",
        "template_id",
        "include_unsubscribe_link",
        "double_opt_in",
        "confirmation_template_id",
        "subscriber",
        CHANNEL,
    }
)
_TO_COME = ("template_id", "double_opt_in", "confirmation_template_id")
_LATER = "is not supported by this version"
# How the product's screen names the states; a final state without a recorded 250 keeps sent_at null.
_STATUS: Mapping[DeliveryState, str] = {
    DeliveryState.READY: "queued",
    DeliveryState.CAPTURED: "queued",
    DeliveryState.CLAIMED: "pending",
    DeliveryState.UNKNOWN: "pending",
    DeliveryState.HELD: "pending",
    DeliveryState.SENT: "sent",
    DeliveryState.UNVERIFIED: "sent",
    DeliveryState.BOUNCED: "failed",
    DeliveryState.SUPPRESSED: "failed",
    DeliveryState.CANCELLED: "failed",
}


async def create(call: Call) -> Answer:
    """Accept a message to one recipient; 201 once it is stored durably."""
    owner = await call.channel()
    assert owner.server_id is not None
    warnings = Warnings()
    warnings.unrecognized(name for name in call.body if name not in _FIELDS)
    submission = _submission(call, owner, warnings)
    accepted = await accept_message(call.ctx, submission)
    told = _as_accepted(call, submission, accepted)
    if accepted.captured:
        warnings.add(
            "message_captured",
            "to",
            "No email server was ever set up here, so the message is kept and not sent",
        )
    headers = {"Idempotency-Replayed": "true"} if accepted.replayed else {}
    return Answer(warnings.onto(told), 201, headers)


async def show(call: Call) -> Answer:
    """A message as it stands; `sent_at` is null until the receiving server's 250 is recorded."""
    owner = await call.channel()
    number = number_or_missing(call.params["id"], KIND)
    seen = await show_message(call.ctx, owner, str(number), with_content=True)
    if seen.message.purpose is not Purpose.TRANSACTIONAL:
        raise NotFound(KIND)
    return Answer(transactional(call, seen))


def transactional(call: Call, seen: Seen) -> dict[str, object]:
    """The wire object of a stored message."""
    message, content, delivery = seen.message, seen.content, seen.deliveries[0]
    settled_us = delivery.settled_at_us
    return _wire(
        call,
        message.message_id,
        to=content.to[0] if content is not None and content.to else Mailbox(delivery.recipient),
        reply_to=content.reply_to if content is not None else (),
        subject=message.subject,
        body=None if content is None else (content.html if content.html is not None else content.text),
        preheader=message.options.get("preheader"),
        status=_STATUS[delivery.state],
        created_us=message.created_at_us,
        settled_us=settled_us,
        sent_us=settled_us if delivery.state is DeliveryState.SENT else None,
    )


def _as_accepted(call: Call, submission: Submission, accepted: Accepted) -> dict[str, object]:
    """The object at its 201, from the request itself: a replay is the same request, so it says the same."""
    return _wire(
        call,
        accepted.message_id,
        to=submission.to[0],
        reply_to=submission.reply_to,
        subject=submission.subject,
        body=submission.html if submission.html is not None else submission.text,
        preheader=submission.options.get("preheader"),
        status="queued",
        created_us=accepted.accepted_us,
        settled_us=None,
        sent_us=None,
    )


def _wire(
    call: Call,
    number: MessageId,
    *,
    to: Mailbox,
    reply_to: Sequence[Mailbox],
    subject: str,
    body: str | None,
    preheader: object,
    status: str,
    created_us: int,
    settled_us: int | None,
    sent_us: int | None,
) -> dict[str, object]:
    created = to_iso(created_us)
    return {
        "id": number,
        "recipient_email": to.address,
        "recipient_name": to.name or None,
        "subject": subject,
        "body": body,
        "preheader": preheader,
        "reply_to": reply_to[0].address if reply_to else None,
        "status": status,
        "queue_at": created,
        "sent_at": to_iso(sent_us),
        "created_at": created,
        "updated_at": to_iso(settled_us) or created,
        "status_url": f"{call.base_url}/api/v1/transactionals/{number}.json",
    }


def _submission(call: Call, owner: Owner, warnings: Warnings) -> Submission:
    """What was sent, checked as far as this API's own words go. Raises Invalid with all its sentences."""
    given = call.body
    errors: list[FieldError] = []
    to = _mailbox(given, "to", errors, required=True)
    reply_to = _mailbox(given, "reply_to", errors, required=False)
    subject = _text(given, "subject", errors, required=True)
    body = _text(given, "body", errors, required=True)
    preheader = _text(given, "preheader", errors, required=False)
    for name in ("subject", "preheader"):
        _one_line(given, name, errors)
    errors += [FieldError(name, _LATER) for name in _TO_COME if given.get(name) not in (None, False, "", {})]
    if not isinstance(given.get("include_unsubscribe_link", False), bool | None):
        errors.append(FieldError("include_unsubscribe_link", "must be true or false"))
    if errors:
        raise Invalid.of(errors)
    if given.get("subscriber") is not None:
        warnings.ignored("subscriber", "subscribers are not part of this version")
    assert owner.server_id is not None
    assert to is not None
    is_html = _HTML.search(body) is not None
    if preheader and not is_html:
        warnings.ignored("preheader", "the body is plain text")
    return Submission(
        account_id=owner.account_id,
        server_id=owner.server_id,
        purpose=Purpose.TRANSACTIONAL,
        origin=ORIGIN,
        to=(to,),
        reply_to=(reply_to,) if reply_to is not None else (),
        subject=subject,
        html=body if is_html else None,
        text=None if is_html else body,
        preheader=preheader if is_html else "",
        unsubscribe_link=True if given.get("include_unsubscribe_link") else None,
        key_id=call.key.key_id,
        options={"preheader": preheader} if preheader else {},
        idempotency=_idempotency(call, owner),
    )


def _idempotency(call: Call, owner: Owner) -> Idempotency | None:
    """The channel is part of the request: an account key may name it in the query."""
    name = call.idempotency_key.strip()
    if not name:
        return None
    if len(name) > MOST_KEY_CHARACTERS:
        raise Invalid("Idempotency-Key", f"is longer than {MOST_KEY_CHARACTERS} characters")
    asked = f"{call.method} {call.path} {owner.server_id}\n".encode() + call.raw_body
    return Idempotency(call.key.key_id, name, hashlib.sha256(asked).digest())


def _text(given: Mapping[str, object], name: str, errors: list[FieldError], *, required: bool) -> str:
    value = given.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        if required:
            errors.append(FieldError(name, "can't be blank"))
        return ""
    if not isinstance(value, str):
        errors.append(FieldError(name, "must be a string"))
        return ""
    return value


def _one_line(given: Mapping[str, object], name: str, errors: list[FieldError]) -> None:
    value = given.get(name)
    if isinstance(value, str):
        try:
            check_header_value(value, name)
        except Invalid as error:
            errors.extend(error.errors)


def _mailbox(
    given: Mapping[str, object], name: str, errors: list[FieldError], *, required: bool
) -> Mailbox | None:
    text = _text(given, name, errors, required=required)
    if not text:
        return None
    try:
        return parse_mailbox(text, name)
    except Invalid as error:
        errors.extend(error.errors)
        return None
