"""The bounce calls: what did not arrive, counted and searched, and addresses made active again.

A bounce is there for each copy that was refused for good or given up, and for each message that was taken by
SMTP and refused afterwards. `Inactive` says that nothing is sent to its address because of it.
"""

from __future__ import annotations

import re

from postroom.actions import bounces
from postroom.actions.bounces import Bounce, BounceKind, CannotActivate, Wanted
from postroom.actions.looking import MOST_FOUND
from postroom.dialects.postmark.bounce_types import KINDS, TYPES
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.mail_fields import DEFAULT_STREAM
from postroom.dialects.postmark.times import moments, to_wire
from postroom.errors import NotFound
from postroom.http.calls import Answer
from postroom.ids import BounceId

_NUMBER = re.compile(r"[0-9]{1,18}")


async def stats(call: Call) -> Answer:
    """How many bounces of each type there are, all of them first."""
    found = await bounces.stats(call.ctx, call.owner, call.server_id)
    # The product's own row of all has neither Type nor TypeCode; one official client insists on both.
    rows: list[dict[str, object]] = [
        {"Name": "All", "Count": sum(found.counts.values()), "Type": "", "TypeCode": 0}
    ]
    for kind, one in TYPES.items():
        if count := found.counts.get(kind):
            rows.append({"Name": one.name, "Count": count, "Type": one.type, "TypeCode": one.code})
    return Answer({"InactiveMails": found.inactive, "Bounces": rows})


async def index(call: Call) -> Answer:
    """Bounces that fit, newest first."""
    count, offset = call.page(1000, most_in_all=MOST_FOUND)
    page = await bounces.search(
        call.ctx, call.owner, call.server_id, _wanted(call.asked), count=count, offset=offset
    )
    return Answer({"TotalCount": page.total, "Bounces": [shown(one) for one in page.bounces]})


async def tags(call: Call) -> Answer:
    """The tags of what bounced."""
    return Answer(await bounces.tags(call.ctx, call.owner, call.server_id))


async def show(call: Call) -> Answer:
    """One bounce, and what was said of it in full."""
    bounce = await _found(call)
    return Answer({**shown(bounce), "Content": bounce.report})


async def dump(call: Call) -> Answer:
    """What was said of it in full; empty where nothing more was said."""
    return Answer({"Body": (await _found(call)).report})


async def activate(call: Call) -> Answer:
    """Let mail go to its address again."""
    try:
        bounce = await bounces.activate(call.ctx, call.actor, call.owner, call.server_id, _number(call))
    except NotFound:
        raise ApiError(1001) from None
    except CannotActivate:
        raise ApiError(1003) from None
    return Answer({"Message": "OK", "Bounce": shown(bounce)})


def shown(bounce: Bounce) -> dict[str, object]:
    """The bounce object."""
    one = TYPES[bounce.kind]
    return {
        "RecordType": "Bounce",
        "ID": bounce.bounce_id,
        "Type": one.type,
        "TypeCode": one.code,
        "Name": one.name,
        "Tag": bounce.tag,
        "MessageID": bounce.public_id,
        "ServerID": bounce.server_id,
        "MessageStream": bounce.stream,
        "Description": bounce.text if bounce.kind is BounceKind.NOT_ACCEPTED else one.description,
        "Details": bounce.text,
        "Email": bounce.recipient,
        "From": bounce.sender,
        "BouncedAt": to_wire(bounce.at_us),
        "DumpAvailable": bool(bounce.report),
        "Inactive": bounce.inactive,
        "CanActivate": bounce.kind is not BounceKind.COMPLAINT,
        "Subject": bounce.subject,
    }


def _wanted(asked: Fields) -> Wanted:
    """What is asked for. Raises ApiError(1000)."""
    since, until = moments(asked, "fromdate", 1000), moments(asked, "todate", 1000)
    kind = asked.one_of("type", KINDS, 1000)
    return Wanted(
        stream=(asked.text("messagestream") or DEFAULT_STREAM).lower(),
        kind=None if kind is None else KINDS[kind],
        inactive=asked.flag("inactive", 1000),
        containing=asked.text("emailFilter") or "",
        tag=asked.text("tag") or "",
        public_id=(asked.text("messageID") or "").lower(),
        since_us=None if since is None else since[0],
        until_us=None if until is None else until[1],
    )


async def _found(call: Call) -> Bounce:
    try:
        return await bounces.get(call.ctx, call.owner, call.server_id, _number(call))
    except NotFound:
        raise ApiError(1001) from None


def _number(call: Call) -> BounceId:
    text = call.params["id"]
    if not _NUMBER.fullmatch(text):
        raise ApiError(1002)
    return BounceId(int(text))
