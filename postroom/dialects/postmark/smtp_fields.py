"""What a message handed in by SMTP asks for in its `X-PM-…` header fields, which go no further.

They say what the fields of the same names say in a message of the API. Written with or without the hyphen
(`X-PM-TrackOpens`, `X-PM-Track-Opens`), in any case; of one that stands there twice the first counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.mail.raw import split_raw
from postroom.mail.words import decode_text, decode_words

_PREFIX, _METADATA = b"x-pm-", b"x-pm-metadata-"
_NAMES: Mapping[bytes, str] = {
    b"x-pm-tag": "Tag",
    b"x-pm-trackopens": "TrackOpens",
    b"x-pm-tracklinks": "TrackLinks",
    b"x-pm-messagestream": "MessageStream",
    b"x-pm-bouncetype": "BounceType",
    b"x-pm-keepid": "KeepID",
}
_MESSAGE_ID = b"message-id"


@dataclass(frozen=True)
class Asked:
    """given: what the fields ask for, by the names of the API. rest: the message without them. found: any."""

    given: Mapping[str, object]
    rest: bytes = field(repr=False)
    found: bool

    @property
    def keeps_id(self) -> bool:
        """Whether the message's own Message-ID shall stay."""
        return str(self.given.get("KeepID", "")).strip().lower() in ("true", "1")


def read_fields(raw: bytes) -> Asked:
    """What `raw`, whose lines end with CRLF, asks for."""
    end = raw.find(b"\r\n\r\n")
    if _PREFIX not in (raw if end < 0 else raw[:end]).lower():
        return Asked({}, raw, False)
    fields, body = split_raw(raw)
    given: dict[str, object] = {}
    metadata: dict[str, str] = {}
    for name, whole in fields:
        if name.startswith(_METADATA):
            written = whole.partition(b":")[0].strip(b" \t")[len(_METADATA) :]
            metadata.setdefault(written.decode("ascii"), _value(whole))
        elif name.startswith(_PREFIX):
            known = _NAMES.get(_PREFIX + name[len(_PREFIX) :].replace(b"-", b""))
            if known is not None:
                given.setdefault(known, _value(whole))
    if metadata:
        given["Metadata"] = metadata
    kept = [whole for name, whole in fields if not name.startswith(_PREFIX)]
    return Asked(given, b"".join([*kept, b"\r\n", body]), len(kept) < len(fields))


def without_message_id(raw: bytes) -> bytes:
    """`raw` without its Message-ID, so that it gets one of ours."""
    fields, body = split_raw(raw)
    return b"".join([*[whole for name, whole in fields if name != _MESSAGE_ID], b"\r\n", body])


def _value(whole: bytes) -> str:
    return decode_words(decode_text(whole.partition(b":")[2].replace(b"\r\n", b""))).strip(" \t")
