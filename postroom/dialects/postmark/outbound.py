"""The outbound message calls: searching what was sent, and one message with what became of it.

A message is there from the moment its sending was answered. `Queued`: some recipient's copy has not ended.
Messages that came in another way are shown too, with what is known of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence

from postroom.actions.message_search import (
    MOST_FOUND,
    History,
    Label,
    Search,
    StoredDelivery,
    StoredEvent,
    history,
    search,
)
from postroom.actions.messages import Seen
from postroom.core.event import EventKind
from postroom.core.message import FINAL_STATES, DeliveryState
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.mail_fields import DEFAULT_STREAM
from postroom.dialects.postmark.times import moments, to_wire
from postroom.errors import Invalid, NotFound
from postroom.http.calls import Answer
from postroom.mail.address import address_key, parse_mailbox, parse_mailbox_list
from postroom.mail.compose import compose
from postroom.mail.content import Mailbox
from postroom.mail.parse import parse

_STATUSES = ("queued", "sent", "processed")
_METADATA = "metadata_"
_MOST_ADDRESSES = 1000
_MOST_SOURCE = 1 << 20
_TYPES: Mapping[str, str] = {
    EventKind.SENT: "Delivered",
    EventKind.UNVERIFIED: "Delivered",
    EventKind.CAPTURED: "Delivered",  # of a sandbox only
    EventKind.DEFERRED: "Transient",
    EventKind.BOUNCED: "Bounced",
    EventKind.OPENED: "Opened",
    EventKind.CLICKED: "LinkClicked",
    EventKind.UNSUBSCRIBED: "SubscriptionChanged",
    EventKind.RESUBSCRIBED: "SubscriptionChanged",
}


async def index(call: Call) -> Answer:
    """Messages that fit, newest first."""
    count, offset = call.page(700, most_in_all=MOST_FOUND)
    asked = call.asked
    wanted = _search(asked, _labels(call))
    if wanted is None:
        return Answer({"TotalCount": 0, "Messages": []})
    page = await search(call.ctx, call.key.account_id, call.server_id, wanted, count=count, offset=offset)
    return Answer(
        {"TotalCount": page.total, "Messages": [shown(one, sandbox=page.sandbox) for one in page.seen]}
    )


async def details(call: Call) -> Answer:
    """One message with its bodies, its source and its events."""
    found = await _found(call)
    seen = found.seen
    text, html = await _bodies(seen)
    return Answer(
        {
            **shown(seen, sandbox=found.sandbox),
            "TextBody": text,
            "HtmlBody": html,
            "Body": await _source(seen),
            "MessageEvents": _events(found),
        }
    )


async def dump(call: Call) -> Answer:
    """One message's source; empty once it is no longer kept."""
    return Answer({"Body": await _source((await _found(call)).seen)})


def shown(seen: Seen, *, sandbox: bool) -> dict[str, object]:
    """The message object."""
    message, options = seen.message, seen.message.options
    metadata, files = options.get("metadata"), options.get("files")
    return {
        "Tag": options.get("tag", ""),
        "MessageID": message.public_id,
        "MessageStream": message.stream,
        **{kind.title(): _people(seen, kind) for kind in ("to", "cc", "bcc")},
        "Recipients": [one.recipient for one in seen.deliveries],
        "ReceivedAt": to_wire(message.created_at_us),
        "From": _sender(options.get("from")) or message.sender,
        "Subject": message.subject,
        "Attachments": files if isinstance(files, list) else [],
        "Status": "Sent" if sandbox or all(_is_over(one) for one in seen.deliveries) else "Queued",
        "TrackOpens": bool(options.get("opens", False)),
        "TrackLinks": options.get("links", "None"),
        "Metadata": metadata if isinstance(metadata, dict) else {},
        "Sandboxed": sandbox,
    }


async def _found(call: Call) -> History:
    try:
        return await history(call.ctx, call.owner, call.params["message"].lower())
    except NotFound:
        raise ApiError(701, text="This message was not found.") from None


def _labels(call: Call) -> tuple[Label, ...]:
    tag = call.asked.text("tag")
    named = [
        Label(value, name.lower().removeprefix(_METADATA))
        for name, value in call.query.items()
        if name.lower().startswith(_METADATA) and value
    ]
    return (*([] if tag is None else [Label(tag)]), *named)


def _search(asked: Fields, labels: tuple[Label, ...]) -> Search | None:
    """What is asked for; None for what nothing can be. Raises ApiError(700)."""
    since, until = moments(asked, "fromdate", 700), moments(asked, "todate", 700)
    status = asked.one_of("status", _STATUSES, 700)
    recipient, sender = asked.text("recipient"), asked.text("fromemail")
    try:
        to = "" if recipient is None else _key(recipient)
        by = "" if sender is None else _key(sender)
    except Invalid:
        return None
    return Search(
        stream=(asked.text("messagestream") or DEFAULT_STREAM).lower(),
        recipient=to,
        sender=by,
        subject=asked.text("subject") or "",
        settled=None if status is None else status != "queued",
        since_us=None if since is None else since[0],
        until_us=None if until is None else until[1],
        labels=labels,
    )


def _key(text: str) -> str:
    return address_key(parse_mailbox(text, "address").address)


def _is_over(delivery: StoredDelivery) -> bool:
    return delivery.state in FINAL_STATES


def _people(seen: Seen, kind: str) -> list[dict[str, object]]:
    given = seen.message.options.get(kind)
    if isinstance(given, str):
        boxes: Sequence[Mailbox] = parse_mailbox_list(given, kind, _MOST_ADDRESSES)
    else:
        boxes = [Mailbox(one.recipient) for one in seen.deliveries if one.kind == kind]
    return [{"Email": one.address, "Name": one.name or None} for one in boxes]


def _sender(given: object) -> str:
    """The From as this API shows it: a name always in quotes."""
    if not isinstance(given, str):
        return ""
    box = parse_mailbox_list(given, "From", _MOST_ADDRESSES)[0]
    name = box.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{box.address}>' if name else box.address


async def _bodies(seen: Seen) -> tuple[str, str]:
    """Its text and its HTML; of a message that its program composed what a reader would be shown."""
    content = seen.content
    if content is None:
        return "", ""
    if content.raw is None:
        return content.text or "", content.html or ""
    parsed = await asyncio.to_thread(parse, content.raw)
    return parsed.text or "", parsed.html or ""


async def _source(seen: Seen) -> str:
    content, message = seen.content, seen.message
    if content is None:
        return ""
    made = await asyncio.to_thread(
        compose, content, message_id=message.rfc_message_id, date_us=message.created_at_us
    )
    return made[:_MOST_SOURCE].decode("utf-8", "replace")


def _events(found: History) -> list[dict[str, object]]:
    """Newest first."""
    rows = {one.delivery_id: one for one in found.seen.deliveries}
    told = []
    for event in reversed(found.events):
        row = rows.get(event.delivery_id)  # type: ignore[call-overload]  # ids are numbers
        kind = _TYPES.get(event.kind)
        if row is None or kind is None or (event.kind == EventKind.CAPTURED and not found.sandbox):
            continue
        told.append(
            {
                "Recipient": row.recipient,
                "Type": kind,
                "ReceivedAt": to_wire(event.at_us),
                "Details": _details(kind, event, row, found),
            }
        )
    return told


def _details(kind: str, event: StoredEvent, row: StoredDelivery, found: History) -> dict[str, object]:
    data = json.loads(event.data)
    if kind in ("Delivered", "Transient"):
        said = data.get("text") or (row.reason if row.state is DeliveryState.SENT else "")
        return {"DeliveryMessage": said, "DestinationServer": "", "DestinationIP": ""}
    if kind == "Bounced":
        bounce = found.bounce_of(event)
        number = "" if bounce is None else str(bounce.bounce_id)
        return {"Summary": data.get("text") or row.reason, "BounceID": number}
    if kind == "SubscriptionChanged":
        suppressed = event.kind == EventKind.UNSUBSCRIBED
        return {"Origin": "Recipient", "SuppressSending": str(suppressed)}
    what = "Email opened" if kind == "Opened" else "Link clicked"
    summary = f"{what} with {data.get('user_agent') or 'an unknown program'}"
    if kind == "Opened":
        return {"Summary": summary}
    where = "Text" if data.get("part") == "text" else "HTML"
    number = data.get("link", -1)
    link = found.targets[number] if 0 <= number < len(found.targets) else ""
    return {"Summary": summary, "Link": link, "ClickLocation": where}
