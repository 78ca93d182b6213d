"""The fields of a small form, urlencoded or multipart, read within bounds and without trust (RFC 7578)."""

from __future__ import annotations

from urllib.parse import parse_qsl

from postroom.mail.mime import Limits, parse_parameters, walk

_LIMITS = Limits(bytes=16_384, depth=1, parts=10, headers=10, header_bytes=4_096, parameters=5)
_MOST_FIELDS = 10


def read_form(content_type: str, body: bytes) -> dict[str, str] | None:
    """Names and values, each name once; None for what is no such form.

    Without a Content-Type it is read as urlencoded: some mailbox providers leave it out.
    """
    kind, _ = parse_parameters(content_type, _LIMITS)
    if kind == "multipart/form-data":
        return _multipart(content_type, body)
    if kind not in ("", "application/x-www-form-urlencoded"):
        return None
    try:
        return _once(
            parse_qsl(
                body.decode("ascii").strip(),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_MOST_FIELDS,
            )
        )
    except ValueError:
        return None


def _multipart(content_type: str, body: bytes) -> dict[str, str] | None:
    """By the walker that reads mail: the format is the same."""
    try:
        head = f"Content-Type: {content_type}\r\n\r\n".encode("ascii")
    except UnicodeEncodeError:
        return None
    parts, defects = walk(head + body, _LIMITS)
    if defects:
        return None
    pairs = []
    for part in parts[1:]:
        disposition, about = parse_parameters(part.value("Content-Disposition"), _LIMITS)
        if disposition != "form-data" or "name" not in about:
            return None
        pairs.append((about["name"], part.text(1_000)))
    return _once(pairs)


def _once(pairs: list[tuple[str, str]]) -> dict[str, str] | None:
    found = dict(pairs)
    return found if len(found) == len(pairs) else None
