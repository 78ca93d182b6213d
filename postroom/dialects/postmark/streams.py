"""The message stream calls: list, show, create, edit, archive, unarchive."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TypeVar

from postroom.actions import streams
from postroom.actions.changes import UNSET
from postroom.actions.streams import Refusal, StreamChanges, StreamDraft, StreamRefused
from postroom.core.stream import Stream, StreamType, Unsubscribing
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields, fields_of
from postroom.dialects.postmark.times import to_seconds
from postroom.http.calls import Answer

T = TypeVar("T")
TYPES: Mapping[str, StreamType] = {
    "Transactional": StreamType.TRANSACTIONAL,
    "Broadcasts": StreamType.BROADCAST,
    "Inbound": StreamType.INBOUND,
}
TYPE_NAMES = {kind: name for name, kind in TYPES.items()}
HANDLING: Mapping[str, Unsubscribing] = {
    "None": Unsubscribing.NONE,
    "Postmark": Unsubscribing.OURS,
    "Custom": Unsubscribing.CUSTOM,
}
_HANDLING_NAMES = {kind: name for name, kind in HANDLING.items()}
_ALL = "All"
_MANAGEMENT = "SubscriptionManagementConfiguration"
CODES: Mapping[Refusal, int] = {
    Refusal.NO_ID: 1222,
    Refusal.ID_FORM: 1227,
    Refusal.ID_PREFIX: 1233,
    Refusal.ID_RESERVED: 1237,
    Refusal.ID_TAKEN: 1230,
    Refusal.NO_NAME: 1223,
    Refusal.NAME_LENGTH: 1224,
    Refusal.NAME_TEXT: 403,
    Refusal.DESCRIPTION_LENGTH: 1231,
    Refusal.DESCRIPTION_TEXT: 403,
    Refusal.DESCRIPTION_MARKUP: 1234,
    Refusal.ONE_INBOUND: 1228,
    Refusal.UNSUBSCRIBING: 1239,
    Refusal.TOO_MANY: 1225,
    Refusal.ALWAYS_THERE: 1229,
    Refusal.TOO_LATE: 1232,
}


async def index(call: Call) -> Answer:
    """The server's streams by their ID; archived ones where they are asked for."""
    kind = call.asked.one_of("MessageStreamType", (_ALL, *TYPES), 1221) or _ALL
    archived = call.asked.flag("IncludeArchivedStreams") or False
    found = [
        shown(one)
        for one in await streams.list_streams(call.ctx, call.owner, call.server_id)
        if (kind == _ALL or one.type is TYPES[kind]) and (archived or one.archived_at_us is None)
    ]
    return Answer({"MessageStreams": found, "TotalCount": len(found)})


async def show(call: Call) -> Answer:
    """One stream, archived or not."""
    return Answer(shown(await streams.get_stream(call.ctx, call.owner, call.server_id, stream_id(call))))


async def create(call: Call) -> Answer:
    """A new stream."""
    fields = call.object(1222)
    kind = fields.one_of("MessageStreamType", TYPES, 1221)
    stream, name = fields.text("ID") or "", fields.text("Name") or ""
    if kind is None and stream and name:
        raise ApiError(1221)
    draft = StreamDraft(
        stream,
        name,
        TYPES[kind or TYPE_NAMES[StreamType.TRANSACTIONAL]],
        fields.text("Description"),
        _handling(fields),
    )
    made = streams.create_stream(call.ctx, call.actor, call.owner, call.server_id, draft)
    return Answer(shown(await _or_refused(made)))


async def edit(call: Call) -> Answer:
    """Name, description and how unsubscribing is handled; the whole of it comes back."""
    if isinstance(call.given, list):
        raise ApiError(402, text="Invalid JSON: the body must be an object.")
    fields = call.fields
    handling, name = _handling(fields), fields.text("Name")
    changes = StreamChanges(
        name=UNSET if name is None else name,
        description=fields.text("Description") if _is_said(fields, "Description") else UNSET,
        unsubscribing=UNSET if handling is None else handling,
    )
    changed = streams.update_stream(
        call.ctx, call.actor, call.owner, call.server_id, stream_id(call), changes
    )
    return Answer(shown(await _or_refused(changed)))


async def archive(call: Call) -> Answer:
    """The stream takes nothing more; until the date in the answer it can be taken back."""
    gone = streams.archive_stream(call.ctx, call.actor, call.owner, call.server_id, stream_id(call))
    told = shown(await _or_refused(gone))
    return Answer({name: told[name] for name in ("ID", "ServerID", "ExpectedPurgeDate")})


async def unarchive(call: Call) -> Answer:
    """The stream takes messages again."""
    back = streams.unarchive_stream(call.ctx, call.actor, call.owner, call.server_id, stream_id(call))
    return Answer(shown(await _or_refused(back)))


def stream_id(call: Call) -> str:
    """The ID in the path; it is written in lower case."""
    return call.params["stream"].lower()


def shown(stream: Stream) -> dict[str, object]:
    """The stream object."""
    archived = stream.archived_at_us
    return {
        "ID": stream.stream,
        "ServerID": stream.server_id,
        "Name": stream.name,
        "Description": stream.description,
        "MessageStreamType": TYPE_NAMES[stream.type],
        "CreatedAt": to_seconds(stream.created_at_us),
        "UpdatedAt": None if stream.updated_at_us is None else to_seconds(stream.updated_at_us),
        "ArchivedAt": None if archived is None else to_seconds(archived),
        "ExpectedPurgeDate": None if archived is None else to_seconds(streams.purge_due_us(archived)),
        _MANAGEMENT: {"UnsubscribeHandlingType": _HANDLING_NAMES[stream.unsubscribing]},
    }


async def _or_refused(done: Awaitable[T]) -> T:
    try:
        return await done
    except StreamRefused as error:
        field = error.errors[0].field
        raise ApiError(CODES[error.refusal], field.title()) from None


def _handling(fields: Fields) -> Unsubscribing | None:
    value = fields.value(_MANAGEMENT)
    if value is None:
        return None
    word = fields_of(value, _MANAGEMENT).one_of("UnsubscribeHandlingType", HANDLING, 1240)
    return None if word is None else HANDLING[word]


def _is_said(fields: Fields, name: str) -> bool:
    """Whether it has a value or is cleared; null leaves it as it is."""
    return name in fields or fields.is_cleared(name)
