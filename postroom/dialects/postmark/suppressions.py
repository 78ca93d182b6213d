"""The suppression calls: who gets nothing on a stream, asked for and changed by hand.

A stream's list has the rows of the stream and those that hold for all streams of the server: hard bounces,
complaints, and what other APIs put on their list for everything. Taken off here, an address is off both. What
the recipient did himself, and what the operator did, is not the customer's to undo.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from postroom.actions import suppressions
from postroom.actions.suppressions import Wanted
from postroom.core.suppression import Origin, Reason, Suppression
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields, fields_of
from postroom.dialects.postmark.streams import stream_id
from postroom.dialects.postmark.times import moments, to_seconds
from postroom.errors import Invalid
from postroom.http.calls import Answer
from postroom.mail.address import parse_address

MOST_AT_ONCE = 50
_REASONS = {
    Reason.HARD_BOUNCE: "HardBounce",
    Reason.COMPLAINT: "SpamComplaint",
    Reason.MANUAL: "ManualSuppression",
    Reason.UNSUBSCRIBE: "ManualSuppression",
}
_ORIGINS = {Origin.RECIPIENT: "Recipient", Origin.CUSTOMER: "Customer", Origin.ADMIN: "Admin"}
_FAILED, _NOT_AN_ADDRESS, _NOT_YOURS = "Failed", ApiError(1408), ApiError(1406)


async def dump(call: Call) -> Answer:
    """The whole list of a stream, or what of it is asked for."""
    stream = stream_id(call)
    wanted = _wanted(call.asked)
    if wanted is None:
        await _check_stream(call, stream)
        return Answer({"Suppressions": []})
    slices = suppressions.dump(call.ctx, call.owner, call.server_id, stream, wanted)
    try:
        parts = [msgspec.json.encode([_shown(one) for one in rows])[1:-1] async for rows in slices]
    except Invalid as error:
        raise _unknown_stream(error) from None
    return Answer((b'{"Suppressions":[' + b",".join(parts) + b"]}").decode())


async def create(call: Call) -> Answer:
    """Up to 50 addresses are on the stream's list."""
    stream, texts = stream_id(call), _addresses(call)
    try:
        await suppressions.suppress(call.ctx, call.actor, call.owner, call.server_id, texts, stream=stream)
    except Invalid as error:
        raise _unknown_stream(error) from None
    return _told(texts, "Suppressed", frozenset())


async def delete(call: Call) -> Answer:
    """Up to 50 addresses are off the stream's list, where they may be taken off."""
    stream, texts = stream_id(call), _addresses(call)
    try:
        kept = await suppressions.release(
            call.ctx, call.actor, call.owner, call.server_id, texts, stream=stream
        )
    except Invalid as error:
        raise _unknown_stream(error) from None
    return _told(texts, "Deleted", kept)


def _wanted(asked: Fields) -> Wanted | None:
    """What of the list is asked for; None for nothing at all."""
    reason = asked.one_of("SuppressionReason", dict.fromkeys(_REASONS.values()), 1404)
    origin = asked.one_of("Origin", _ORIGINS.values(), 1405)
    address = asked.text("EmailAddress")
    try:
        key = None if address is None else parse_address(address, "EmailAddress").key
    except Invalid:
        return None
    since, until = moments(asked, "fromdate", 1402), moments(asked, "todate", 1403)
    return Wanted(
        reasons=tuple(one for one, name in _REASONS.items() if reason in (None, name)),
        origins=tuple(one for one, name in _ORIGINS.items() if origin in (None, name)),
        address=key,
        since_us=None if since is None else since[0],
        until_us=None if until is None else until[1],
    )


def _addresses(call: Call) -> list[str]:
    """The addresses of the body, as they were written."""
    given = call.object(1409).value("Suppressions")
    if not isinstance(given, list) or not given:
        raise ApiError(1409)
    if len(given) > MOST_AT_ONCE:
        raise ApiError(1410)
    found = []
    for one in given:
        text = fields_of(one, "Suppressions").text("EmailAddress")
        if text is None:
            raise ApiError(1411)
        found.append(text)
    return found


def _told(texts: Sequence[str], done: str, kept: frozenset[str]) -> Answer:
    """Each address with what became of it, in the order they were sent."""
    rows: list[dict[str, object]] = []
    for text in texts:
        status, message = done, None
        try:
            if parse_address(text, "EmailAddress").key in kept:
                status, message = _FAILED, str(_NOT_YOURS)
        except Invalid:
            status, message = _FAILED, str(_NOT_AN_ADDRESS)
        rows.append({"EmailAddress": text, "Status": status, "Message": message})
    return Answer({"Suppressions": rows})


def _shown(row: Suppression) -> dict[str, object]:
    return {
        "EmailAddress": row.address,
        "SuppressionReason": _REASONS[row.reason],
        "Origin": _ORIGINS[row.origin],
        "CreatedAt": to_seconds(row.created_at_us),
    }


async def _check_stream(call: Call, stream: str) -> None:
    try:
        await suppressions.check_stream(call.ctx, call.owner, call.server_id, stream)
    except Invalid as error:
        raise _unknown_stream(error) from None


def _unknown_stream(error: Invalid) -> ApiError:
    """Of these actions the only fault that is left: everything else was checked before."""
    return ApiError(1226 if error.errors[0].field == "stream" else 403, error.errors[0].field)
