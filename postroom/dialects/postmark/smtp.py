"""Messages by SMTP as the product takes them: what their `X-PM-…` fields ask for, and what may not be sent.

The same checks as of a message of the API hold, in their order, and what a message is kept with is the same,
so that it is found and shown alike. The message itself stays as its client made it but for those fields.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from postroom.actions.accept import accept_message
from postroom.actions.context import Context
from postroom.actions.sending_terms import SendingTerms, sending_terms
from postroom.actions.submission import Submission
from postroom.core.key import Key
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.mail_fields import MOST_RECIPIENTS, kept_of, stream_of, tracking_of
from postroom.dialects.postmark.mail_files import check_type
from postroom.dialects.postmark.smtp_fields import Asked, read_fields, without_message_id
from postroom.errors import Invalid
from postroom.mail.address import write_mailbox
from postroom.mail.parse import parse

_LARGE_BYTES = 256 << 10  # what is larger is read beside the event loop


async def take(ctx: Context, key: Key, submission: Submission, *, shown: bool) -> str:
    """Accept a message of who logged in with a token alone; its public id.

    shown: the token is one of `ApiTokens`, and its program expects the product's conduct: fifty recipients at
    most, and a Message-ID of ours unless X-PM-KeepID says otherwise. Raises PostroomError.
    """
    assert submission.raw is not None
    asked = read_fields(submission.raw)
    if not shown and not asked.found:
        return (await accept_message(ctx, submission)).public_id
    try:
        terms = await sending_terms(ctx, key.account_id, submission.server_id)
        if len(submission.raw) < _LARGE_BYTES:
            wanted = _wanted(submission, asked, terms, shown=shown)
        else:
            wanted = await asyncio.to_thread(_wanted, submission, asked, terms, shown=shown)
        return (await accept_message(ctx, wanted)).public_id
    except ApiError as error:
        raise Invalid("", str(error)) from None


def _wanted(submission: Submission, asked: Asked, terms: SendingTerms, *, shown: bool) -> Submission:
    """The message with what its fields ask for. Raises ApiError."""
    fields = _fields(submission, asked)
    stream, purpose = stream_of(fields, terms)
    tracking = tracking_of(fields, terms)
    if shown and len(submission.to) + len(submission.cc) + len(submission.bcc) > MOST_RECIPIENTS:
        raise ApiError(300, text=f"A message may have {MOST_RECIPIENTS} recipients in To, Cc and Bcc.")
    kept = {**submission.options, **kept_of(fields, tracking)}
    files = [one.name for one in parse(asked.rest).attachments]
    for name in files:
        check_type(name)
    if files:
        kept["files"] = files
    raw = asked.rest if asked.keeps_id or not shown else without_message_id(asked.rest)
    return replace(submission, raw=raw, stream=stream, purpose=purpose, options=kept)


def _fields(submission: Submission, asked: Asked) -> Fields:
    """The message's fields as one of the API has them."""
    assert submission.sender is not None
    given = {**asked.given, "From": write_mailbox(submission.sender)}
    for name, boxes in (("To", submission.to), ("Cc", submission.cc), ("Bcc", submission.bcc)):
        if boxes:
            given[name] = ", ".join(map(write_mailbox, boxes))
    return Fields(given)
