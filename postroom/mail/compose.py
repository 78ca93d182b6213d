"""Compose: the parts of a message as RFC 5322 bytes, ready for DATA (but for dot-stuffing) and DKIM.

An assembler of its own, because composing is done once per recipient. Follows RFC 5322, RFC 2045-2047
(MIME), RFC 2387 (related), RFC 6532 only where an address needs it. All output is 7-bit with lines of
at most 998, unless the content is a client's own message (`raw`) or `needs_utf8`. The same arguments
give the same bytes, always, so that a second copy is recognised as one and a DKIM signature holds.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable
from hashlib import blake2b

from postroom.errors import Invalid
from postroom.mail.attachments import part_headers
from postroom.mail.content import Attachment, Content
from postroom.mail.headers import (
    MAX_LINE,
    address_line,
    date_header,
    header_line,
    is_message_id,
    is_reserved,
)
from postroom.mail.preheader import with_preheader
from postroom.mail.raw import compose_raw, raw_needs_utf8

_LINE_ENDS = re.compile(b"\r\n|\r|\n")
# Every byte that quoted-printable leaves alone, and the line ends (RFC 2045 6.7).
_QP_PLAIN = bytes(b for b in range(0x20, 0x7F) if b != 0x3D) + b"\t\r\n"
_BINARY = bytes(b for b in range(0x20) if b not in b"\t\r\n") + b"\x7f"
_ENCODED_LINE = 76
_MARK_BYTES = 200  # a link of ours, or a pixel, encoded

# A part: its MIME header lines, and its body. The CRLF before a boundary belongs to the boundary (RFC
# 2046 5.1.1), so a body keeps its own last line end, or has none.
_Part = tuple[str, bytes]


def compose(
    content: Content, *, message_id: str, date_us: int, extra_headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """The complete message with CRLF line ends.

    `message_id` with its angle brackets; `date_us` microseconds since 1970; `extra_headers` go on top
    and replace the content's own headers of the same names. Bcc is never there; Date, Message-ID, From,
    Subject and MIME-Version once each (of a `raw` content only Message-ID and Date are supplied, when it
    has none). Raises Invalid when a value that was never checked could not stand in its header.
    """
    extra = tuple(extra_headers)
    if content.raw is not None:
        composed = compose_raw(content.raw, message_id=message_id, date_us=date_us, extra_headers=extra)
        return content.trace.encode("ascii") + composed
    if not is_message_id(message_id):
        raise Invalid("message_id", "is not a message id in angle brackets")
    head = [content.trace, *(header_line(name, value) for name, value in extra)]
    head.append(f"Date: {date_header(date_us)}\r\n")
    head.append(address_line("From", (content.sender,)))
    head.append(address_line("To", content.to) if content.to else "")
    head.append(address_line("Cc", content.cc) if content.cc else "")
    if not content.to and not content.cc:
        head.append("To: undisclosed-recipients:;\r\n")  # a group without members, RFC 5322 3.4
    head.append(address_line("Reply-To", content.reply_to) if content.reply_to else "")
    head.append(header_line("Subject", content.subject))
    head.append(f"Message-ID: {message_id}\r\n")
    replaced = {name.lower() for name, _ in extra}
    for name, value in content.headers:
        if is_reserved(name):
            raise Invalid("headers", f"must not contain the header {name!r}")
        if name.lower() not in replaced:
            head.append(header_line(name, value))
    head.append("MIME-Version: 1.0\r\n")
    part_head, body = _body(content, _boundaries(message_id))
    end = b"" if body.endswith(b"\r\n") else b"\r\n"
    return b"".join(["".join([*head, part_head, "\r\n"]).encode("utf-8"), body, end])


def needs_utf8(content: Content) -> bool:
    """Whether only a peer with SMTPUTF8 takes this message: an address in its header is not ASCII
    before the @, or a raw message has a header that is not ASCII (RFC 6531 3.1, 6532)."""
    if content.raw is not None:
        return raw_needs_utf8(content.raw)
    everyone = (content.sender, *content.to, *content.cc, *content.reply_to)
    return any(not box.address.rpartition("@")[0].isascii() for box in everyone)


def needs_eight_bit(content: Content) -> bool:
    """Whether the body has bytes above 127 and so needs 8BITMIME (RFC 6152); only a raw message may."""
    return content.raw is not None and not content.raw.isascii()


def parts_size(content: Content) -> int:
    """An upper bound of the composed size in bytes, extra headers not counted, without composing.

    For limits and for MAIL FROM's SIZE estimate; seldom more than a tenth above for large messages.
    """
    if content.raw is not None:
        line_ends = content.raw.count(b"\n") + content.raw.count(b"\r")
        return len(content.raw) + line_ends + len(content.trace) + 1200
    size = 2000 + len(content.trace)
    for box in (content.sender, *content.to, *content.cc, *content.reply_to):
        size += 4 * len(box.address) + 2 * len(box.name.encode("utf-8", "replace")) + 120
    for name, value in (("Subject", content.subject), *content.headers):
        size += len(name) + 2 * len(value.encode("utf-8", "replace")) + 120
    for text in (content.text, content.html):
        if text is not None:
            size += _base64_size(_utf8_size(text) + _line_ends(text) + 2) + 300
    if content.preheader:
        size += _base64_size(6 * len(content.preheader.encode("utf-8", "replace")) + 200)
    size += _MARK_BYTES * (len(content.html_links) + len(content.text_links) + content.track_opens)
    for attachment in content.attachments:
        size += _base64_size(len(attachment.data)) + 5000
    return size


def _line_ends(text: str) -> int:
    return text.count("\n") + (text.count("\r") if "\r" in text else 0)


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _base64_size(size: int) -> int:
    encoded = (size + 2) // 3 * 4
    return encoded + 2 * (encoded // _ENCODED_LINE + 1)


def _body(content: Content, boundary: Callable[[list[_Part]], str]) -> _Part:
    """The MIME tree: mixed(alternative(text, related(html, inline...)), attachments...), as far as needed."""
    inline = [a for a in content.attachments if a.content_id and content.html is not None]
    others = [a for a in content.attachments if not (a.content_id and content.html is not None)]
    shown: list[_Part] = []
    if content.text is not None or (content.html is None and not content.attachments):
        shown.append(_text_part(content.text or "", "plain"))
    if content.html is not None:
        document = with_preheader(content.html, content.preheader) if content.preheader else content.html
        part = _text_part(document, "html")
        if inline:
            parts = [part, *[_attachment_part(a, inline=True) for a in inline]]
            part = _multipart('related; type="text/html"', parts, boundary)
        shown.append(part)
    if len(shown) > 1:
        shown = [_multipart("alternative", shown, boundary)]
    if others or not shown:
        return _multipart("mixed", shown + [_attachment_part(a, inline=False) for a in others], boundary)
    return shown[0]


def _text_part(text: str, subtype: str) -> _Part:
    data = text.encode("utf-8", "replace")
    if b"\r" in data:
        data = _LINE_ENDS.sub(b"\r\n", data)
    else:
        data = data.replace(b"\n", b"\r\n")
    if data.isascii() and _fits_lines(data) and len(data.translate(None, _BINARY)) == len(data):
        return (
            f"Content-Type: text/{subtype}; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n",
            data,
        )
    encoding, encoded = "quoted-printable", _quoted_printable(data)
    if encoded is None:
        encoding, encoded = "base64", _base64(data)
    return (
        f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n",
        encoded,
    )


def _quoted_printable(data: bytes) -> bytes | None:
    """`data`, whose line ends are CRLF, as quoted-printable (RFC 2045 6.7), or None for "use base64"."""
    size = len(data) + 2 * len(data.translate(None, _QP_PLAIN))
    if size + size // 73 * 3 > _base64_size(len(data)):
        return None
    encoded = binascii.b2a_qp(data, istext=True)
    if b"\r\n" not in data:  # then its soft line breaks are bare
        encoded = encoded.replace(b"\n", b"\r\n")
    # CPython counts a blank at a line's end as one, though it writes three: now and then a line has 77.
    return encoded if max(map(len, encoded.split(b"\r\n"))) <= _ENCODED_LINE else None


def _fits_lines(data: bytes) -> bool:
    """Whether no line is too long: from each place to the last line end within reach, so few are seen."""
    start, size = 0, len(data)
    while size - start > MAX_LINE:
        end = data.rfind(b"\r\n", start, start + MAX_LINE + 2)
        if end < 0:
            return False
        start = end + 2
    return True


def _attachment_part(attachment: Attachment, inline: bool) -> _Part:
    return part_headers(attachment, inline), _base64(attachment.data)


def _base64(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[i : i + _ENCODED_LINE] for i in range(0, len(encoded), _ENCODED_LINE)]
    return b"\r\n".join(lines)


def _multipart(kind: str, parts: list[_Part], boundary: Callable[[list[_Part]], str]) -> _Part:
    mark = boundary(parts)
    pieces: list[bytes] = []
    delimiter = f"--{mark}\r\n"
    for head, body in parts:
        pieces += [f"{delimiter}{head}\r\n".encode("ascii"), body]
        delimiter = f"\r\n--{mark}\r\n"
    pieces.append(f"\r\n--{mark}--\r\n".encode("ascii"))
    return f'Content-Type: multipart/{kind};\r\n boundary="{mark}"\r\n', b"".join(pieces)


def _boundaries(message_id: str) -> Callable[[list[_Part]], str]:
    """Makes boundaries from the Message-ID: always the same, none a prefix of another, none in a part.

    All have one length and start with "=_", which neither base64 nor quoted-printable can produce
    (RFC 2045 6.7), so only text that is sent as it is could hold one; every part is searched anyway.
    """
    number = 0

    def next_boundary(parts: list[_Part]) -> str:
        nonlocal number
        while True:
            number += 1
            digest = blake2b(message_id.encode("utf-8"), digest_size=15, salt=number.to_bytes(8, "big"))
            mark = f"=_{digest.hexdigest()}"
            if not any(mark.encode("ascii") in body for _, body in parts):
                return mark

    return next_boundary
