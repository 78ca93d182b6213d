"""The bulk calls: one message to many, each filled with a model of its own; how far it got; all of them.

A bulk with anything wrong in it is refused as a whole. `POSTMARK_API_TEST` has it checked, as far as no
server is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from msgspec.structs import replace

from postroom.actions.bulks import BulkDraft, accept_bulk, get_bulk, list_bulks
from postroom.actions.submission import Submission
from postroom.actions.templates import Usable, usable_templates
from postroom.core.bulk import Bulk
from postroom.core.stream import StreamType
from postroom.dialects.postmark.bodies import Bodies
from postroom.dialects.postmark.bulk_reading import Shared, Slicing, check_own, read_own
from postroom.dialects.postmark.calls import MOST_COUNT, Call
from postroom.dialects.postmark.errors import ApiError, Errors
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.mail_fields import Sending, check_lengths, check_types
from postroom.dialects.postmark.rendering import check_usable
from postroom.dialects.postmark.sending import refusal_of, sending_of
from postroom.dialects.postmark.template_fields import missing, sources_of
from postroom.dialects.postmark.templated import asked_of
from postroom.dialects.postmark.times import to_wire
from postroom.errors import Denied, Invalid, NotFound
from postroom.http.calls import Answer
from postroom.ids import BulkId
from postroom.mail.content import Attachment
from postroom.templates.letter import Sources

_STREAM = "broadcast"
_TOGETHER = 200  # messages that are checked before others get a turn
_MOST_ERRORS = 100
_USUAL_COUNT = 100


async def create(call: Call) -> Answer:
    """Accept a bulk: all of its messages, or none."""
    fields = call.object(402)
    given = fields.value("Messages")
    if given is not None and not isinstance(given, list):
        raise ApiError(403, "Messages")
    check_types(fields)
    asked = asked_of(fields)
    sending = await sending_of(call)
    stream = _stream(fields, sending)
    if not given:
        raise ApiError(300, text="Provide at least one message in 'Messages'.")
    made_from = await _made_from(call, fields)
    named = asked.which is not None
    shared = Shared.of(
        fields, stream, made_from, inline_css=asked.inline_css and (named or "InlineCss" in fields)
    )
    files = await asyncio.to_thread(shared.files)
    like, slicing = await _read(call, sending, shared, given, files)
    subject = made_from.sources.subject
    if call.testing:
        return Answer(_shown(str(uuid4()), call.ctx.clock.now_us(), len(given), subject=subject, posted=True))
    draft = BulkDraft(like, subject, len(given), shared.packed(), slicing.slices)
    try:
        bulk = await accept_bulk(call.ctx, draft)
    except (Denied, Invalid) as error:
        raise refusal_of(error, like) from None
    return Answer(_told(bulk, posted=True))


async def show(call: Call) -> Answer:
    """How far one got."""
    try:
        bulk = await get_bulk(call.ctx, call.owner, call.server_id, call.params["bulk"])
    except NotFound:
        raise ApiError(12) from None
    return Answer(_told(bulk))


async def index(call: Call) -> Answer:
    """The server's bulks, newest first, page by page."""
    count = call.asked.whole("count")
    if count is None:
        count = _USUAL_COUNT
    if not 1 <= count <= MOST_COUNT:
        raise ApiError(403, "count")
    before = call.asked.whole("PaginationKey", 13)
    if before is not None and not 0 < before < 2**63:
        raise ApiError(13)
    found = await list_bulks(
        call.ctx,
        call.owner,
        call.server_id,
        before=None if before is None else BulkId(before),
        limit=count + 1,
    )
    shown = found[:count]
    more = {"PaginationKey": str(shown[-1].bulk_id)} if len(found) > count else {}
    return Answer({"Requests": [_told(one) for one in shown], **more})


def _stream(fields: Fields, sending: Sending) -> str:
    """The broadcast stream it goes on. Raises ApiError(1226, 1236)."""
    given = (fields.text("MessageStream") or _STREAM).strip()
    kind = sending.terms.streams.get(given.lower())
    if kind is None:
        raise ApiError(1226)
    if kind is not StreamType.BROADCAST:
        raise ApiError(1236, given)
    return given.lower()


async def _made_from(call: Call, fields: Fields) -> Usable:
    """The template that is named, or the bodies that were sent. Raises ApiError(300, 1101, 1122, 1123)."""
    which, sources = asked_of(fields).which, sources_of(fields)
    if which is not None:
        for name in ("Subject", "HtmlBody", "TextBody"):
            if name in fields:
                raise ApiError(1123, name)
        if call.testing:
            return Usable(Sources(text=""))
        found = await usable_templates(call.ctx, call.key.account_id, call.server_id, [which])
        if which not in found:
            raise missing(which)
        return found[which]
    if sources.html is None and sources.text is None:
        raise ApiError(300, text="Provide either email TextBody or HtmlBody or both.")
    check_lengths(Bodies(sources.subject or "", sources.html, sources.text))
    usable = Usable(sources)
    await check_usable(usable)
    return usable


async def _read(
    call: Call, sending: Sending, shared: Shared, given: Sequence[object], files: Sequence[Attachment]
) -> tuple[Submission, Slicing]:
    """The first message, and all of them in slices. Raises ApiError; Errors where there are several."""
    slicing, errors = Slicing.of(shared, files), list[tuple[str, ApiError]]()
    first: list[Submission] = []

    def read(start: int) -> None:
        for number, one in enumerate(given[start : start + _TOGETHER], start):
            try:
                own = read_own(sending, shared, one, files)
                check_own(call.ctx.limits, own)
                slicing.add(own)
            except ApiError as error:
                errors.append((f"Messages[{number}]", error))
            else:
                if not first:
                    first.append(replace(own.envelope, text=""))

    for start in range(0, len(given), _TOGETHER):
        await asyncio.to_thread(read, start)
        if len(errors) >= _MOST_ERRORS:
            break
    if len(errors) == 1:
        raise errors[0][1]
    if errors:
        raise Errors(errors[:_MOST_ERRORS])
    slicing.close()
    return first[0], slicing


def _told(bulk: Bulk, *, posted: bool = False) -> dict[str, object]:
    return _shown(
        bulk.public_id,
        bulk.created_at_us,
        bulk.total,
        subject=bulk.subject,
        released=bulk.released,
        failed=bulk.failed,
        posted=posted,
    )


def _shown(
    number: str,
    at_us: int,
    total: int,
    *,
    subject: str | None,
    released: int = 0,
    failed: int = 0,
    posted: bool = False,
) -> dict[str, object]:
    """One bulk. posted: in the answer to its sending it is named twice, as clients want it."""
    done = released + failed
    status = "Completed" if done >= total else "Processing" if done else "Accepted"
    return {
        "Id": number,
        **({"ID": number} if posted else {}),
        "SubmittedAt": to_wire(at_us),
        "Status": status,
        "TotalMessages": total,
        "PercentageCompleted": 100 * done // total,
        "ReleasedCount": released,
        "FailedCount": failed,
        **({} if subject is None else {"Subject": subject}),
    }
