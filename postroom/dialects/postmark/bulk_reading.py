"""A bulk as it is sent to this API, stored, and read again to be made into messages.

What all messages share is one document: their fields, and what they are made from as it was when the bulk was
accepted, so that a template may change meanwhile. A slice is a list of what each message has of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from msgspec.structs import replace

from postroom.actions.context import Context, Limits
from postroom.actions.sending_terms import sending_terms
from postroom.actions.submission import Submission, check_submission
from postroom.actions.templates import Usable
from postroom.core.bulk import Bulk, BulkSlice
from postroom.core.key import Key
from postroom.core.message import Purpose
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields, fields_of
from postroom.dialects.postmark.mail_fields import (
    Sending,
    addressed,
    check_types,
    saying,
    with_files,
)
from postroom.dialects.postmark.mail_files import attachments, listed
from postroom.dialects.postmark.rendering import Letters, check_model
from postroom.dialects.postmark.sending import refusal_of
from postroom.dialects.postmark.template_fields import model_of
from postroom.errors import Invalid, PostroomError, Unavailable
from postroom.ids import KeyId, TemplateId
from postroom.mail.content import Attachment
from postroom.packing import deflate, inflate
from postroom.templates.letter import Sources

_SHARED = ("From", "ReplyTo", "Tag", "Metadata", "Headers", "TrackOpens", "TrackLinks", "Attachments")
_OWN = ("To", "Cc", "Bcc", "TemplateModel", "Metadata", "Headers")
_TEMPLATE = TemplateId(0)  # what all are made from, whatever its number was
_MOST_MESSAGES, _MOST_RECIPIENTS, _MOST_BYTES = 50, 200, 4 << 20  # of a slice, which is one unit of work
_OVERHEAD_BYTES = 2048


@dataclass(frozen=True)
class Shared:
    """What all messages of a bulk have. fields: by their names in lower case."""

    fields: Mapping[str, object]
    stream: str
    made_from: Usable
    inline_css: bool

    @classmethod
    def of(cls, given: Fields, stream: str, made_from: Usable, *, inline_css: bool) -> Shared:
        """Out of the request."""
        return cls(_chosen(given, _SHARED), stream, made_from, inline_css)

    def files(self) -> Sequence[Attachment]:
        """What is attached to each. Raises ApiError(300, 403, 411)."""
        return attachments(Fields(self.fields))

    def packed(self) -> bytes:
        """As it is stored."""
        return _packed(asdict(self))

    @classmethod
    def unpacked(cls, stored: bytes) -> Shared:
        """The reverse."""
        found = _unpacked(stored)
        made_from, layout = found["made_from"], found["made_from"]["layout"]
        usable = Usable(Sources(**made_from["sources"]), None if layout is None else Sources(**layout))
        return cls(found["fields"], found["stream"], usable, found["inline_css"])


@dataclass(frozen=True)
class Own:
    """What one message has for itself: as it is stored, and as it is read with what is shared."""

    fields: Mapping[str, object]
    model: Mapping[str, object]
    envelope: Submission

    @property
    def recipients(self) -> int:
        """How many."""
        return len(self.envelope.to) + len(self.envelope.cc) + len(self.envelope.bcc)


def read_own(sending: Sending, shared: Shared, given: object, files: Sequence[Attachment]) -> Own:
    """One message of the request or of a slice. Raises ApiError(300, 403, 1122)."""
    fields = fields_of(given, "Messages")
    check_types(fields)
    model = model_of(fields, "TemplateModel") or {}
    check_model(model)
    envelope = addressed(sending, _merged(shared, fields), shared.stream, Purpose.BROADCAST)
    return Own(_chosen(fields, _OWN), model, with_files(envelope, files))


def check_own(limits: Limits, own: Own) -> None:
    """What can be known of a message before it is made. Raises ApiError(300)."""
    try:
        check_submission(limits, replace(own.envelope, text=""))
    except Invalid as error:
        raise refusal_of(error, own.envelope) from None


@dataclass
class Slicing:
    """Puts messages into slices, each small enough to be one unit of work."""

    each_bytes: int  # of one message, roughly, before what is its own
    slices: list[BulkSlice] = field(default_factory=list)
    _open: list[Mapping[str, object]] = field(default_factory=list)
    _recipients: int = 0
    _first: int = 0

    @classmethod
    def of(cls, shared: Shared, files: Sequence[Attachment]) -> Slicing:
        """For messages that share this."""
        layout = shared.made_from.layout or Sources()
        size = sum(len(one.data) for one in files)
        return cls(size + shared.made_from.sources.characters + layout.characters + _OVERHEAD_BYTES)

    def add(self, own: Own) -> None:
        """One more message. Raises ApiError(402) for what cannot be stored."""
        self._open.append(own.fields)
        self._recipients += own.recipients
        count = len(self._open)
        if (
            count >= _MOST_MESSAGES
            or self._recipients >= _MOST_RECIPIENTS
            or count * self.each_bytes >= _MOST_BYTES
        ):
            self.close()

    def close(self) -> None:
        """End the slice that is open. Raises ApiError(402)."""
        if self._open:
            self.slices.append(BulkSlice(self._first, len(self._open), _packed(self._open)))
            self._first += len(self._open)
            self._open, self._recipients = [], 0


async def read_slice(
    ctx: Context, bulk: Bulk, stored: bytes, part: BulkSlice
) -> list[Submission | PostroomError]:
    """The messages of a slice; in place of one that cannot be made, why. Raises Unavailable, NotFound."""
    shared = Shared.unpacked(stored)
    files = shared.files()
    terms = await sending_terms(ctx, bulk.account_id, bulk.server_id)
    key = Key(bulk.key_id or KeyId(0), bulk.account_id, bulk.server_id, "", frozenset(), "", 0)
    sending = Sending(key, bulk.server_id, terms)
    letters = Letters(ctx, {_TEMPLATE: shared.made_from})
    made: list[Submission | PostroomError] = []
    for given in _unpacked(part.body):
        try:
            own = read_own(sending, shared, given, files)
            says = await letters.filled(_TEMPLATE, own.model, inline_css=shared.inline_css)
            assert says is not None
            made.append(saying(own.envelope, says))
        except Unavailable:
            raise
        except PostroomError as error:
            made.append(error)
    return made


def _merged(shared: Shared, own: Fields) -> Fields:
    """The fields of one message: its own metadata and headers win, name by name."""
    fields = {name: value for name, value in shared.fields.items() if name != "attachments"}
    for name in ("To", "Cc", "Bcc"):
        if name in own:
            fields[name.lower()] = own.value(name)
    metadata, headers = own.value("Metadata"), listed(own, "Headers")
    if isinstance(metadata, Mapping) and metadata:
        taken = {name.lower() for name in metadata}
        general = fields.get("metadata")
        kept = general if isinstance(general, Mapping) else {}
        fields["metadata"] = {
            **{name: value for name, value in kept.items() if name.lower() not in taken},
            **metadata,
        }
    if headers:
        names = {_name(one) for one in headers}
        fields["headers"] = [
            *(one for one in listed(Fields(shared.fields), "Headers") if _name(one) not in names),
            *headers,
        ]
    return Fields(fields)


def _name(header: object) -> str:
    return (fields_of(header, "Headers").text("Name") or "").lower()


def _chosen(fields: Fields, names: Sequence[str]) -> dict[str, object]:
    return {name.lower(): fields.value(name) for name in names if name in fields}


def _packed(value: object) -> bytes:
    try:
        return deflate(json.dumps(value, ensure_ascii=False).encode())
    except ValueError:  # a number of more digits than Python writes
        raise ApiError(402, text="Invalid JSON: a number has too many digits.") from None


def _unpacked(stored: bytes) -> Any:  # Any: JSON that we wrote
    return json.loads(inflate(stored))
