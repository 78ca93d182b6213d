"""The sending calls: one message, or up to 500 in one request, each with an answer of its own.

`POSTMARK_API_TEST` has everything checked that needs no server, and nothing is stored. What a template says
is put into `Bodies` and goes the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import msgspec

from postroom.actions.accept import Accepted, AllSuppressed, Prepared, accept_prepared, prepare
from postroom.actions.sending_terms import SendingTerms, sending_terms
from postroom.actions.submission import Submission, check_submission
from postroom.core.message import DeliveryState
from postroom.core.stream import StreamType
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.codes import CODES
from postroom.dialects.postmark.errors import ApiError, told
from postroom.dialects.postmark.fields import Fields, fields_of
from postroom.dialects.postmark.mail_fields import Sending, bodies, check_types, stream_of, submission_of
from postroom.dialects.postmark.times import to_wire
from postroom.errors import Denied, Invalid, PostroomError, Unavailable
from postroom.http.calls import Answer
from postroom.logs import logger

log = logger("dialects.postmark")

MOST_AT_ONCE = 500
_TOGETHER = 100  # of a batch, so many are read and accepted at a time
_LARGE_BYTES = 256 << 10  # a message that is larger is read beside the event loop
_NOBODY = str(UUID(int=0))
_TEST_TERMS = SendingTerms(
    {"outbound": StreamType.TRANSACTIONAL, "broadcast": StreamType.BROADCAST, "inbound": StreamType.INBOUND}
)
_PARTLY = (
    "Message OK, but will not deliver to these inactive addresses: {}. " + CODES[406][1].partition("{}. ")[2]
)

_NAMES = {
    "from": "From", "to": "To", "cc": "Cc", "bcc": "Bcc", "reply_to": "ReplyTo", "subject": "Subject",
    "headers": "Headers", "attachments": "Attachments", "body": "HtmlBody",
}  # fmt: skip

Reader = Callable[[Sending, Fields], Awaitable[Submission]]


class _Read(msgspec.Struct, frozen=True):
    """A message that was read and passed what needs no database. to: its recipients as its answer repeats
    them. prepared: None for one that is only checked."""

    to: dict[str, object]
    prepared: Prepared | None


class Sent(msgspec.Struct, frozen=True):
    """What a message became: its answer, or the error that is it."""

    body: dict[str, object]
    error: PostroomError | None = None


async def email(call: Call) -> Answer:
    """Accept one message."""
    fields = call.object(402)
    sending = await sending_of(call)
    return Answer(await send(call, sending, fields, plain_reader(call)))


async def batch(call: Call) -> Answer:
    """Accept up to 500 messages, each by itself."""
    if not isinstance(call.given, list):
        raise ApiError(402, text="Invalid JSON: the body must be an array of messages.")
    return await send_all(call, call.given, plain_reader(call))


def plain_reader(call: Call) -> Reader:
    """Reads messages whose bodies were sent with them, large ones beside the event loop."""

    async def read(sending: Sending, fields: Fields) -> Submission:
        return await beside(call, fields, lambda: read_plain(sending, fields))

    return read


async def beside(call: Call, fields: Fields, read: Callable[[], Submission]) -> Submission:
    """Read a message; beside the event loop where it is large."""
    if len(call.raw_body) < _LARGE_BYTES or fields.weight < _LARGE_BYTES:
        return read()
    return await asyncio.to_thread(read)


def read_plain(sending: Sending, fields: Fields) -> Submission:
    """A message whose bodies were sent with it. Raises ApiError."""
    check_types(fields)
    stream, purpose = stream_of(fields, sending.terms)
    return submission_of(sending, fields, bodies(fields), stream, purpose)


async def sending_of(call: Call) -> Sending:
    """For whom this request sends."""
    terms = _TEST_TERMS
    if not call.testing:
        terms = await sending_terms(call.ctx, call.key.account_id, call.server_id)
    return Sending(call.key, call.server_id, terms)


async def send_all(call: Call, given: list[object], read: Reader) -> Answer:
    """Every message of a batch, in its order. Raises ApiError(410); Unavailable when none was accepted."""
    if len(given) > MOST_AT_ONCE:
        raise ApiError(410)
    sending = await sending_of(call)
    sent: list[Sent] = []
    for start in range(0, len(given), _TOGETHER):
        part = given[start : start + _TOGETHER]
        # All are stored in one go, and so in few commits, when the last of them was read.
        alone = len(given) == 1
        ready = await asyncio.gather(*(_read_in_turn(call, sending, one, read, alone=alone) for one in part))
        sent += await asyncio.gather(*(_accepted(call, one) for one in ready))
    errors = [one.error for one in sent]
    if errors and all(isinstance(error, Unavailable) for error in errors):
        assert errors[0] is not None
        raise errors[0]
    return Answer([one.body for one in sent])


async def send(call: Call, sending: Sending, fields: Fields, read: Reader) -> dict[str, object]:
    """Accept one message; its answer. Raises ApiError and what accepting raises."""
    return await _answer(call, await _read(call, sending, fields, read))


async def _read(call: Call, sending: Sending, fields: Fields, read: Reader) -> _Read:
    submission = await read(sending, fields)
    given = fields.text("To")
    to: dict[str, object] = {} if given is None else {"To": given}
    try:
        if call.testing:
            check_submission(call.ctx.limits, submission)
            return _Read(to, None)
        return _Read(to, await prepare(call.ctx, submission))
    except Invalid as error:
        raise refusal_of(error, submission) from None


async def _answer(call: Call, one: _Read) -> dict[str, object]:
    if one.prepared is None:
        return {
            **one.to,
            "SubmittedAt": to_wire(call.ctx.clock.now_us()),
            "MessageID": str(uuid4()),
            "ErrorCode": 0,
            "Message": "Test job accepted",
        }
    try:
        accepted = await accept_prepared(call.ctx, one.prepared)
    except (AllSuppressed, Denied, Invalid) as error:
        raise refusal_of(error, one.prepared.submission) from None
    return {
        **one.to,
        "SubmittedAt": to_wire(accepted.accepted_us),
        "MessageID": accepted.public_id,
        "ErrorCode": 0,
        "Message": _message(accepted),
    }


async def _read_in_turn(
    call: Call, sending: Sending, given: object, read: Reader, *, alone: bool
) -> _Read | Sent:
    """A message of a batch, or why it is none; never raises."""
    if not alone:
        await call.ctx.turns.turn(call.key.account_id)
    to: str | None = None
    try:
        fields = fields_of(given, "Messages")
        to = fields.text("To")
        return await _read(call, sending, fields, read)
    except Exception as error:
        return _refused(call, to, error)


async def _accepted(call: Call, one: _Read | Sent) -> Sent:
    """What became of a message of a batch; never raises: some of the others are accepted."""
    if isinstance(one, Sent):
        return one
    try:
        return Sent(await _answer(call, one))
    except Exception as error:
        return _refused(call, one.to.get("To"), error)


def _refused(call: Call, to: object, error: Exception) -> Sent:
    if not isinstance(error, PostroomError):
        log.error("a message of a batch could not be accepted", exc_info=error)
        error = ApiError(101)
    # Two clients insist on the fields of a success in every item.
    at = to_wire(call.ctx.clock.now_us())
    return Sent({"To": to or "", "SubmittedAt": at, "MessageID": _NOBODY, **told(error).body}, error)


def _message(accepted: Accepted) -> str:
    inactive = [who for _, who, state in accepted.deliveries if state is DeliveryState.SUPPRESSED]
    return _PARTLY.replace("{}", ", ".join(one.lower() for one in inactive)) if inactive else "OK"


def refusal_of(error: AllSuppressed | Denied | Invalid, submission: Submission) -> ApiError:
    """Why a message was not accepted, in the product's words."""
    if isinstance(error, AllSuppressed):
        return ApiError(406, ", ".join(error.addresses))
    if isinstance(error, Denied):
        return ApiError(400, submission.sender.address if submission.sender else "")
    name, reason = error.errors[0].field, error.errors[0].reason
    if name == "stream":
        return ApiError(1235, submission.stream or "")
    if name == "purpose":
        return ApiError(405, text=f"This server may not send now: {reason}.")
    return ApiError(300, text=f"Invalid '{_NAMES.get(name, name)}': {reason}.")
