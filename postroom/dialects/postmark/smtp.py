"""Messages by SMTP as the product takes them: what their `X-PM-…` fields ask for, and what may not be sent.

The same checks as of a message of the API hold, in their order, and what a message is kept with is the same,
so that it is found and shown alike. The message itself stays as its client made it but for those fields,
unless something is to be written into it, a link to unsubscribe or what tells of opens and clicks: then it is
made anew of its parts (`mail.taken_apart`).

A program that was made for the product is told yes at the end of its data, whatever is wrong with the
message, and finds what was refused among its bounces, as an SMTP API error. That is so for tokens the API
shows; any other key may be that of a program which knows nothing of it, so there a refusal is a reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from msgspec.structs import replace

from postroom.actions import api_errors
from postroom.actions.accept import Accepted, AllSuppressed, SmtpOff, accept_message
from postroom.actions.context import Context
from postroom.actions.sending_terms import SendingTerms, sending_terms
from postroom.actions.submission import Submission
from postroom.core.key import Key
from postroom.core.message import DeliveryState, Purpose
from postroom.dialects.postmark.addresses_to_try import rehearsed_of
from postroom.dialects.postmark.bodies import Bodies, with_unsubscribe_link
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.mail_fields import (
    DEFAULT_STREAM,
    MOST_RECIPIENTS,
    Tracking,
    kept_of,
    stream_of,
    tracking_of,
)
from postroom.dialects.postmark.mail_files import check_type
from postroom.dialects.postmark.sending import refusal_of
from postroom.dialects.postmark.server_fields import LINKS
from postroom.dialects.postmark.smtp_fields import Asked, read_fields, without_message_id
from postroom.errors import Denied, Invalid, Unavailable
from postroom.ids import AccountId, ServerId
from postroom.logs import logger
from postroom.mail.address import address_key, write_mailbox
from postroom.mail.content import Mailbox, TrackLinks
from postroom.mail.headers import is_message_id
from postroom.mail.parse import parse
from postroom.mail.taken_apart import take_apart

log = logger("dialects.postmark")
_LARGE_BYTES = 256 << 10  # what is larger is read beside the event loop
_NOT_SENT = "A message was taken by SMTP and could not be sent on to this recipient."


class PostmarkWay:
    """`inbound.submission.TokenWay` of this product."""

    async def accept(self, ctx: Context, key: Key, submission: Submission, *, shown: bool) -> str:
        """Accept a message of who logged in with a token alone; its public id. Raises PostroomError.

        shown: the token is one of `ApiTokens`: fifty recipients at most, a Message-ID of ours unless
        X-PM-KeepID says otherwise, and of what is wrong with the message nothing is raised.
        """
        assert submission.raw is not None
        asked = read_fields(submission.raw)
        if not shown and not asked.found:
            return (await accept_message(ctx, submission)).public_id
        wanted = submission
        try:
            terms = await _terms(ctx, key.account_id, submission.server_id)
            fields = _fields(submission, asked)
            stream, purpose = stream_of(fields, terms)
            wanted = replace(submission, stream=stream, purpose=purpose, refuse_suppressed=shown)
            wanted = await _read(wanted, asked, fields, terms, shown=shown)
            accepted = await accept_message(ctx, wanted)
        except SmtpOff:
            raise
        except (ApiError, AllSuppressed, Denied, Invalid) as error:
            if shown:
                refused = error if isinstance(error, ApiError) else refusal_of(error, wanted)
                return await _record(ctx, wanted, asked, refused, _everybody(wanted))
            if isinstance(error, ApiError):
                raise Invalid("", str(error)) from None
            raise
        if shown:
            await _tell_suppressed(ctx, wanted, asked, accepted)
        return accepted.public_id

    async def refuse(self, ctx: Context, key: Key, recipients: Sequence[str], error: Invalid) -> str:
        """Keep a message whose header cannot be read as one that was refused; its public id."""
        name, reason = error.errors[0].field, error.errors[0].reason
        server_id = key.server_id
        assert server_id is not None
        await _terms(ctx, key.account_id, server_id)
        refused = api_errors.ApiError(
            account_id=key.account_id,
            server_id=server_id,
            stream=DEFAULT_STREAM,
            recipients=recipients,
            error=f"Invalid '{name.title()}': {reason}.",
            explanation=_NOT_SENT,
            code=300,
            public_id=str(uuid4()),
        )
        await api_errors.record(ctx, refused)
        return refused.public_id


async def _terms(ctx: Context, account_id: AccountId, server_id: ServerId) -> SendingTerms:
    terms = await sending_terms(ctx, account_id, server_id)
    if not terms.smtp_enabled:
        raise SmtpOff
    return terms


async def _read(
    submission: Submission, asked: Asked, fields: Fields, terms: SendingTerms, *, shown: bool
) -> Submission:
    """The message with what its fields ask for. Raises ApiError."""
    if len(asked.rest) < _LARGE_BYTES:
        return _wanted(submission, asked, fields, terms, shown=shown)
    return await asyncio.to_thread(_wanted, submission, asked, fields, terms, shown=shown)


def _wanted(
    submission: Submission, asked: Asked, fields: Fields, terms: SendingTerms, *, shown: bool
) -> Submission:
    if shown and len(_everybody(submission)) > MOST_RECIPIENTS:
        raise ApiError(300, text=f"A message may have {MOST_RECIPIENTS} recipients in To, Cc and Bcc.")
    tracking = tracking_of(fields, terms)
    parsed = parse(asked.rest)
    files = [one.name for one in parsed.attachments]
    if shown:
        for name in files:
            check_type(name)
    keeps_id = asked.keeps_id or not shown
    placed = any("pm:unsubscribe" in (body or "") for body in (parsed.html, parsed.text))
    written = placed or tracking.opens or tracking.links is not TrackLinks.NONE
    if written or submission.purpose is not Purpose.TRANSACTIONAL:
        made = _in_parts(submission, asked.rest, tracking, keeps_id=keeps_id)
    else:
        made = None
    if made is None:  # nothing can be written into it, or nothing is to be
        tracking = Tracking(opens=False, links_word=str(LINKS.default))
        made = replace(submission, raw=asked.rest if keeps_id else without_message_id(asked.rest))
    kept = {**submission.options, **kept_of(fields, tracking)}
    people = (*submission.to, *submission.cc, *submission.bcc)
    rehearsed = rehearsed_of(people, fields.text("BounceType"))
    return replace(made, options={**kept, "files": files} if files else kept, rehearsed=rehearsed)


def _in_parts(submission: Submission, raw: bytes, tracking: Tracking, *, keeps_id: bool) -> Submission | None:
    """The message as one of the API; None where that would not be the same message any more."""
    apart = take_apart(raw)
    everybody = {address_key(one): one for one in _everybody(submission)}
    if apart is None or not everybody.keys() >= {address_key(one.address) for one in (*apart.to, *apart.cc)}:
        return None  # who is shown and gets nothing would not be shown any more
    visible = {address_key(one.address) for one in (*apart.to, *apart.cc)}
    says, offers = with_unsubscribe_link(Bodies(submission.subject, apart.html, apart.text))
    return replace(
        submission,
        raw=None,
        to=apart.to,
        cc=apart.cc,
        bcc=[Mailbox(one) for key, one in everybody.items() if key not in visible],
        reply_to=apart.reply_to,
        html=says.html,
        text=says.text,
        headers=apart.headers,
        attachments=apart.attachments,
        message_id=apart.message_id if keeps_id and is_message_id(apart.message_id) else "",
        unsubscribe_link=offers or None,
        track_opens=tracking.opens,
        track_links=tracking.links,
    )


def _fields(submission: Submission, asked: Asked) -> Fields:
    """The message's fields as one of the API has them."""
    assert submission.sender is not None
    given = {**asked.given, "From": write_mailbox(submission.sender)}
    for name, boxes in (("To", submission.to), ("Cc", submission.cc), ("Bcc", submission.bcc)):
        if boxes:
            given[name] = ", ".join(map(write_mailbox, boxes))
    return Fields(given)


def _everybody(submission: Submission) -> list[str]:
    return [one.address for one in (*submission.to, *submission.cc, *submission.bcc)]


async def _tell_suppressed(ctx: Context, wanted: Submission, asked: Asked, accepted: Accepted) -> None:
    """Of a message that goes to some, a bounce for each of the others."""
    left_out = [who for _, who, state in accepted.deliveries if state is DeliveryState.SUPPRESSED]
    if not left_out:
        return
    refused = ApiError(406, ", ".join(one.lower() for one in left_out))
    try:
        await _record(ctx, wanted, asked, refused, left_out, accepted.public_id)
    except Unavailable as error:  # the message is accepted: told no, its program would send it once more
        log.warning("who is suppressed was not recorded", message=accepted.message_id, error=str(error))


async def _record(
    ctx: Context,
    wanted: Submission,
    asked: Asked,
    refused: ApiError,
    recipients: Sequence[str],
    public_id: str = "",
) -> str:
    """Keep the refusal; the message's public id, a new one unless it has one."""
    public_id = public_id or str(uuid4())
    tag = asked.given.get("Tag")
    assert wanted.sender is not None
    kept = api_errors.ApiError(
        account_id=wanted.account_id,
        server_id=wanted.server_id,
        stream=wanted.stream or DEFAULT_STREAM,
        recipients=recipients,
        error=str(refused),
        explanation=_NOT_SENT,
        code=refused.code,
        sender=wanted.sender.address,
        subject=wanted.subject,
        tag=tag if isinstance(tag, str) else "",
        public_id=public_id,
    )
    await api_errors.record(ctx, kept)
    return public_id
