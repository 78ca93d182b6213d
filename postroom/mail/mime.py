"""MIME from outside, taken apart without trust: an iterative walk with limits, never an exception.

Follows RFC 2045, 2046, 2183 and 2231 as far as real mail does. Nested messages (message/rfc822 and the
like) are leaves here: whoever wants to look inside walks again and decides how often.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from postroom.mail.attachments import clean_file_name
from postroom.mail.raw import normalise_line_ends, split_raw
from postroom.mail.words import FORBIDDEN, decode_text, decode_words

_PARAMETER = re.compile(
    r';[ \t]*([^\s=;"]{1,80})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)(?:"|$)|([^;]*))', re.DOTALL
)
_SECTION = re.compile(r"([^*]+)\*(\d{1,4})?(\*)?")
_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)


@dataclass(frozen=True)
class Limits:
    """What is read of one message; the rest is left out and named in `defects`."""

    bytes: int = 50_000_000
    depth: int = 50  # of multiparts in multiparts
    parts: int = 1_000
    headers: int = 1_000  # of the message and of each part
    header_bytes: int = 256_000
    parameters: int = 200  # of one Content-Type or Content-Disposition
    addresses: int = 1_000  # of one address field
    text_bytes: int = 2_000_000  # of each shown text


@dataclass(frozen=True)
class Part:
    """One entity: the message itself or a part of a multipart.

    `fields` are (name as written, value unfolded but not decoded) in order. `body` is as it stands
    in the message, still in its transfer encoding; empty for a multipart that was taken apart.
    """

    fields: tuple[tuple[str, str], ...]
    content_type: str  # lower case, "text/plain" where absent or broken
    parameters: dict[str, str]
    disposition: str  # lower case, "" where absent
    file_name: str  # cleaned for display, "" where absent
    body: bytes = field(repr=False)
    depth: int = 0

    def value(self, name: str) -> str:
        """The first field of this name, unfolded, or ""."""
        lower = name.lower()
        return next((value for key, value in self.fields if key.lower() == lower), "")

    def decoded(self) -> bytes:
        """The body without its transfer encoding; best effort, never raises (RFC 2045 6)."""
        encoding = self.value("Content-Transfer-Encoding").strip().lower()
        if encoding == "base64":
            clean = self.body.translate(None, _NOT_BASE64)
            clean = clean[:-1] if len(clean) % 4 == 1 else clean
            return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4))
        if encoding == "quoted-printable":
            return binascii.a2b_qp(self.body)
        return self.body

    def text(self, limit_bytes: int) -> str:
        """The decoded body as text with LF line ends, at most `limit_bytes` of it."""
        data = self.decoded()[:limit_bytes]
        return visible(decode_text(data, self.parameters.get("charset", "")).replace("\r\n", "\n"))


def visible(text: str) -> str:
    """`text` with NUL and lone surrogates, which databases refuse, as U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode("utf-8")


def one_line(value: str) -> str:
    """A field's value as a reader may see it: encoded-words decoded, line breaks and controls as U+FFFD."""
    return FORBIDDEN.sub("\ufffd", decode_words(value)).strip(" \t")


def walk(data: bytes, limits: Limits) -> tuple[list[Part], list[str]]:
    """(the message and all its parts in document order, what was wrong or left out)."""
    defects: list[str] = []
    if len(data) > limits.bytes:
        data = data[: limits.bytes]
        defects.append("message is too large")
    parts: list[Part] = []
    waiting: list[tuple[bytes, int, str]] = [(normalise_line_ends(data), 0, "text/plain")]
    while waiting:
        chunk, depth, default_type = waiting.pop()
        if len(parts) == limits.parts:
            defects.append("has too many parts")
            break
        part = _part(chunk, depth, default_type, limits, defects)
        if part.content_type.startswith("multipart/"):
            children = _children(part, limits, defects)
            if children is not None:
                parts.append(_emptied(part))
                inner = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
                waiting += [(child, depth + 1, inner) for child in reversed(children)]
                continue
        parts.append(part)
    return parts, list(dict.fromkeys(defects))


def _emptied(part: Part) -> Part:
    return Part(
        part.fields, part.content_type, part.parameters, part.disposition, part.file_name, b"", part.depth
    )


def _part(chunk: bytes, depth: int, default_type: str, limits: Limits, defects: list[str]) -> Part:
    end = chunk.find(b"\r\n\r\n")
    if max(end, 0) > limits.header_bytes or (end < 0 and len(chunk) > limits.header_bytes):
        fields, _ = split_raw(chunk[: chunk.rfind(b"\r\n", 0, limits.header_bytes) + 2])
        body = chunk[end + 4 :] if end >= 0 else b""
        defects.append("header is too large")
    else:
        fields, body = split_raw(chunk)
    if len(fields) > limits.headers:
        fields = fields[: limits.headers]
        defects.append("has too many headers")
    shown = tuple(_unfolded(whole) for _, whole in fields)
    first: dict[str, str] = {}
    for name, value in shown:
        lower = name.lower()
        if lower in first and lower in ("content-type", "subject", "from", "message-id"):
            defects.append(f"has more than one {name}")
        first.setdefault(lower, value)
    content_type, parameters = parse_parameters(first.get("content-type", ""), limits)
    disposition, about = parse_parameters(first.get("content-disposition", ""), limits)
    if content_type.count("/") != 1:
        content_type = default_type
    name = decode_words(about.get("filename") or parameters.get("name") or "")
    file_name = clean_file_name(name) if name else ""
    return Part(shown, content_type, parameters, disposition, file_name, body, depth)


def _unfolded(whole: bytes) -> tuple[str, str]:
    name, _, value = whole.partition(b":")
    return (
        name.rstrip(b" \t").decode("ascii", "replace"),
        visible(decode_text(value.replace(b"\r\n", b""))).strip(" \t"),
    )


def parse_parameters(value: str, limits: Limits) -> tuple[str, dict[str, str]]:
    """`text/plain; charset=x` as ("text/plain", {"charset": "x"}), RFC 2231 pieces joined and decoded."""
    kind = value.partition(";")[0].strip().lower()
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for number, parameter in enumerate(_PARAMETER.finditer(value)):
        if number == limits.parameters:
            break
        name = parameter.group(1).lower()
        quoted, bare = parameter.group(2), parameter.group(3)
        text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare.strip(" \t")
        section = _SECTION.fullmatch(name)
        if section is None or not (section.group(2) or section.group(3) or name.endswith("*")):
            plain.setdefault(name, text)
            continue
        encoded = name.endswith("*")
        pieces.setdefault(section.group(1), {}).setdefault(int(section.group(2) or 0), (text, encoded))
    for name, numbered in pieces.items():
        plain[name] = _joined(numbered)
    return kind, plain


def _joined(numbered: dict[int, tuple[str, bool]]) -> str:
    charset, data = "", b""
    for number in sorted(numbered):
        text, encoded = numbered[number]
        if encoded and number == 0 and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        data += unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace")
    return decode_text(data, charset)


def _children(part: Part, limits: Limits, defects: list[str]) -> list[bytes] | None:
    """The parts between the boundary's lines (RFC 2046 5.1.1), or None to keep the body in one piece."""
    boundary = part.parameters.get("boundary", "").rstrip(" ")
    if not 1 <= len(boundary) <= 200 or "\r" in boundary or "\n" in boundary:
        defects.append("multipart has no usable boundary")
        return None
    if part.depth >= limits.depth:
        defects.append("multiparts are nested too deep")
        return None
    mark = b"\r\n--" + boundary.encode("utf-8", "replace")
    body = b"\r\n" + part.body
    children: list[bytes] = []
    start = -1
    position = 0
    while True:
        found = body.find(mark, position)
        if found < 0:
            if start >= 0:
                defects.append("multipart has no end")
                children.append(body[start:])
            break
        position = found + len(mark)
        line_end = body.find(b"\r\n", position)
        line_end = len(body) if line_end < 0 else line_end
        rest = body[position:line_end] if line_end - position < 200 else b"x"
        last = rest.startswith(b"--")
        if rest.strip(b" \t") and not (last and not rest[2:].strip(b" \t")):
            continue  # a longer boundary that begins like this one
        if start >= 0:
            children.append(body[start:found])
        start = line_end + 2
        position = line_end
        if last:
            break
        if len(children) > limits.parts:
            defects.append("has too many parts")
            break
    if not children:
        defects.append("multipart has no parts")
        return None
    return children
