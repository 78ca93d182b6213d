"""Attachments: which names, types and content ids are accepted, and how they look in MIME headers.

Follows RFC 2045 5.1 (Content-Type), RFC 2183 (Content-Disposition), RFC 2231 (names that are not
ASCII) and RFC 2392 (content ids). A name is only ever something to show: `clean_file_name` takes away
whatever a program could read as a path or that would show a person another name.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from postroom.errors import Invalid
from postroom.mail.content import Attachment
from postroom.mail.words import check_text, encode_words

MAX_FILE_NAME = 200  # characters; file systems commonly stop at 255 bytes
_FALLBACK_TYPE = "application/octet-stream"

_MIME_WORD = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"
_TYPE = re.compile(rf"({_MIME_WORD}/{_MIME_WORD})[ \t]*((?:;.*)?)")
_PARAMETER = re.compile(
    rf'[ \t]*;[ \t]*({_MIME_WORD})[ \t]*=[ \t]*({_MIME_WORD}|"[^"\\\x00-\x1f\x7f-\U0010ffff]*")[ \t]*'
)
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")
_UNSAFE_IN_NAMES = re.compile(r'[<>:"|?*]')
# Names that are devices on Windows, whatever their extension.
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_SAFE_ASCII_NAME = re.compile(r"[A-Za-z0-9 ._,;=+@#$%&'(){}\[\]!~^`-]{1,60}")


def check_attachment(name: str, content_type: str, content_id: str, field: str) -> None:
    """Refuse a name, type or content id that cannot stand in a header. Raises Invalid(field, reason)."""
    check_text(name, field)
    if not name.strip():
        raise Invalid(field, "needs a file name")
    if _parsed_type(content_type) is None:
        raise Invalid(field, "has a content type that is not like 'application/pdf'")
    if content_id and not _CONTENT_ID.fullmatch(content_id):
        raise Invalid(field, "has a content id that is not printable ASCII without blanks or angle brackets")


def clean_file_name(name: str) -> str:
    """`name` as a name to show and save under: its last path component, without controls, characters
    that turn the reading direction or cannot be seen, device names, or leading dots; at most 200 long.
    """
    name = "".join([c for c in name if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")])
    name = "".join([" " if unicodedata.category(c) == "Zs" else c for c in name])  # a blank in any width
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _UNSAFE_IN_NAMES.sub("_", name).strip(" .")
    if _DEVICE.fullmatch(name):
        name = f"_{name}"
    if len(name) > MAX_FILE_NAME:
        stem, dot, extension = name.rpartition(".")
        kept = f"{dot}{extension}" if stem and len(extension) <= 16 else ""
        name = name[: MAX_FILE_NAME - len(kept)].rstrip(" .") + kept
    return name or "attachment"


def mime_type(content_type: str) -> tuple[str, str]:
    """(`type/subtype` in lower case, its parameters as written in a header), or octet-stream if broken.

    Multipart and message types become octet-stream: RFC 2046 5.1 and 5.2.1 forbid to encode them, and
    a reader would take them apart. The parameters `name` and `boundary` are dropped.
    """
    parsed = _parsed_type(content_type)
    if parsed is None or parsed[0].startswith(("multipart/", "message/")):
        return _FALLBACK_TYPE, ""
    kind, parameters = parsed
    kept = [f"; {key}={value}" for key, value in parameters if key not in ("name", "boundary")]
    return kind, "".join(kept)


def _parsed_type(content_type: str) -> tuple[str, list[tuple[str, str]]] | None:
    if len(content_type) > 200 or not content_type.isascii():
        return None
    matched = _TYPE.fullmatch(content_type.strip(" \t"))
    if matched is None:
        return None
    rest = matched.group(2).rstrip("; \t")
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(rest):
        parameter = _PARAMETER.match(rest, position)
        if parameter is None:
            return None
        found.append((parameter.group(1).lower(), parameter.group(2)))
        position = parameter.end()
    return matched.group(1).lower(), found


def part_headers(attachment: Attachment, inline: bool) -> str:
    """The MIME header lines of one attachment, each with CRLF, for a base64 body.

    The name stands in Content-Disposition (RFC 2183, 2231) and, for old readers, in Content-Type as an
    encoded-word. Raises Invalid("attachments", ...) for a content id that could not stand in a header.
    """
    name = clean_file_name(attachment.name)
    kind, parameters = mime_type(attachment.content_type)
    lines = [f"Content-Type: {kind}{parameters};\r\n name={_old_style_name(name)}\r\n"]
    lines.append("Content-Transfer-Encoding: base64\r\n")
    lines.append(
        f"Content-Disposition: {'inline' if inline else 'attachment'};\r\n {file_name_parameter(name)}\r\n"
    )
    if attachment.content_id:
        if not _CONTENT_ID.fullmatch(attachment.content_id):
            raise Invalid("attachments", "has a content id that cannot stand in a header")
        lines.append(f"Content-ID: <{attachment.content_id}>\r\n")
    return "".join(lines)


def _old_style_name(name: str) -> str:
    if _SAFE_ASCII_NAME.fullmatch(name):
        return f'"{name}"'
    return '"' + "\r\n ".join(encode_words(name, 60)) + '"'


def file_name_parameter(name: str) -> str:
    """`filename="..."`, or RFC 2231's `filename*=` in as many numbered pieces as lines of 78 need."""
    if _SAFE_ASCII_NAME.fullmatch(name):
        return f'filename="{name}"'
    escaped = quote(name, safe="", encoding="utf-8", errors="replace")
    if len(escaped) <= 55:
        return f"filename*=utf-8''{escaped}"
    pieces: list[str] = []
    start = 0
    while start < len(escaped):
        end = min(start + 54, len(escaped))
        # A %XX escape is never split.
        if end < len(escaped) and "%" in escaped[end - 2 : end]:
            end = escaped.rindex("%", end - 2, end)
        pieces.append(escaped[start:end])
        start = end
    return ";\r\n ".join(
        [
            f"filename*{n}*={chr(0x27).join(('utf-8', '', '')) if n == 0 else ''}{p}"
            for n, p in enumerate(pieces)
        ]
    )
