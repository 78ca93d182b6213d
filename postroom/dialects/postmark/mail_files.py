"""Attachments as they are sent: base64 with line breaks, `cid:` names, types that nobody may send."""

from __future__ import annotations

import binascii
from collections.abc import Sequence

from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields, fields_of
from postroom.mail.content import Attachment

_FORBIDDEN = frozenset(
    {
        "vbs",
        "exe",
        "bin",
        "bat",
        "chm",
        "com",
        "cpl",
        "crt",
        "hlp",
        "hta",
        "inf",
        "ins",
        "isp",
        "jse",
        "lnk",
        "mdb",
    }
    | {
        "pcd",
        "pif",
        "reg",
        "scr",
        "sct",
        "shs",
        "vbe",
        "vba",
        "wsf",
        "wsh",
        "wsl",
        "msc",
        "msi",
        "msp",
        "mst",
    }
)
_ANY_TYPE = "application/octet-stream"
_CID = "cid:"


def attachments(fields: Fields) -> Sequence[Attachment]:
    """What is attached. Raises ApiError(403) for another shape, 300 for bad content, 411 for its type."""
    return [_attachment(fields_of(one, "Attachments")) for one in listed(fields, "Attachments")]


def check_type(name: str) -> None:
    """Raises ApiError(411) for a file's name that nobody may send."""
    if name.strip().rpartition(".")[2].lower() in _FORBIDDEN and "." in name:
        raise ApiError(411, name)


def listed(fields: Fields, name: str) -> Sequence[object]:
    """A list, or an empty one where there is none. Raises ApiError(403) for anything else."""
    value = fields.value(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ApiError(403, name)
    return value


def _attachment(fields: Fields) -> Attachment:
    name, content = fields.text("Name"), fields.text("Content")
    if name is None:
        raise ApiError(300, text="Invalid attachment: 'Name' is required.")
    check_type(name)
    try:
        data = binascii.a2b_base64("".join((content or "").split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise ApiError(300, text=f"Invalid attachment '{name}': 'Content' is not base64.") from None
    content_id = (fields.text("ContentID") or "").strip()
    if content_id.lower().startswith(_CID):
        content_id = content_id[len(_CID) :]
    kind = fields.text("ContentType") or _ANY_TYPE
    return Attachment(name, kind, data, content_id.removeprefix("<").removesuffix(">"))
