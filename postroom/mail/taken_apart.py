"""A message that a client made, as parts it could be composed from, so that something can be written into it.

Only where nobody would see the difference: bodies that are plain text, HTML or both as alternatives, with
files beside them, under fields that anybody may set. Whatever is signed, encrypted, forwarded, an invitation,
has two texts in a row, or cannot be read without guessing has no parts in this sense and stays as it is.

Follows RFC 2045, 2046, 2387 (related) and 3676 (flowed text).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from postroom.errors import Invalid
from postroom.mail.address import parse_mailbox_list
from postroom.mail.attachments import check_attachment
from postroom.mail.content import Attachment, Mailbox
from postroom.mail.headers import check_custom_headers
from postroom.mail.mime import Limits, Part, one_line, walk
from postroom.mail.words import decode_words, text_codec

_MOST_PEOPLE = 1000
_COMPOSED_ANEW = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "message-id", "date", "mime-version", "return-path"}
)
_ONCE = ("from", "to", "cc", "reply-to", "subject", "message-id", "content-type", "mime-version")
_ENCODINGS = ("", "7bit", "8bit", "binary", "base64", "quoted-printable")
_NOBODY = ":;"  # the end of a group without members


class _Whole(Exception):
    """It stays as it is."""


@dataclass(frozen=True)
class Apart:
    """What it is made of. to, cc: as its header shows them. message_id: its own, "" for none."""

    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    message_id: str = ""


@dataclass(frozen=True)
class _Node:
    part: Part
    children: tuple[_Node, ...]


@dataclass(frozen=True)
class _Says:
    text: str | None = None
    html: str | None = None
    files: tuple[Part, ...] = ()  # in the multipart/related of its HTML
    beside: tuple[Part, ...] = ()


def take_apart(raw: bytes) -> Apart | None:
    """The parts of `raw`; None where composing them would make another message. Never raises."""
    parts, defects = walk(raw, Limits(bytes=len(raw)))
    if defects:
        return None
    top = parts[0]
    try:
        says = _says(_tree(parts))
        if says.text is None and says.html is None:
            return None
        return Apart(
            text=says.text,
            html=says.html,
            attachments=tuple(_files(says)),
            to=_people(top, "To"),
            cc=_people(top, "Cc"),
            reply_to=_people(top, "Reply-To"),
            headers=_headers(top),
            message_id=one_line(top.value("Message-ID")),
        )
    except (_Whole, Invalid):
        return None


def _tree(parts: Sequence[Part]) -> _Node:
    """The message as a tree; `parts` stand in the order of the document, each with its depth."""
    below: list[list[_Node]] = [[] for _ in range(max(part.depth for part in parts) + 2)]
    for part in reversed(parts):
        node = _Node(part, tuple(reversed(below[part.depth + 1])))
        below[part.depth + 1].clear()
        below[part.depth].append(node)
    return below[0][0]


def _says(node: _Node) -> _Says:
    part = node.part
    if part.value("Content-Transfer-Encoding").strip().lower() not in _ENCODINGS:
        raise _Whole
    if part.content_type == "multipart/mixed" and node.children:
        first, *others = node.children
        said = _says(first)
        return replace(said, beside=(*said.beside, *(_file(one, beside=True) for one in others)))
    if part.content_type == "multipart/related" and node.children and "start" not in part.parameters:
        first, *others = node.children
        said = _says(first)
        if said.html is None or said.beside:
            raise _Whole
        return replace(said, files=(*said.files, *(_file(one, beside=False) for one in others)))
    if part.content_type == "multipart/alternative" and node.children:
        return _alternative([_says(one) for one in node.children])
    if _is_file(part) or part.content_type not in ("text/plain", "text/html"):
        raise _Whole
    return _Says(html=_text(part)) if part.content_type == "text/html" else _Says(text=_text(part))


def _alternative(several: Sequence[_Says]) -> _Says:
    """One text, then one HTML, or only one of them."""
    texts = [one for one in several if one.text is not None]
    htmls = [one for one in several if one.html is not None]
    if len(texts) > 1 or len(htmls) > 1 or len(several) != len(texts) + len(htmls):
        raise _Whole  # a third kind, or what is text and HTML already
    if texts and htmls and several[0] is not texts[0]:
        raise _Whole  # readers show the last they can: that would be the text
    if any(one.beside for one in several):
        raise _Whole
    html = htmls[0] if htmls else _Says()
    return _Says(texts[0].text if texts else None, html.html, html.files)


def _is_file(part: Part) -> bool:
    return part.disposition == "attachment" or bool(part.file_name)


def _file(node: _Node, *, beside: bool) -> Part:
    """A file: named, or shown in the HTML by its Content-ID."""
    part = node.part
    kind = part.content_type
    if node.children or kind.startswith(("multipart/", "message/")) or kind == "text/calendar":
        raise _Whole
    if part.value("Content-Transfer-Encoding").strip().lower() not in _ENCODINGS:
        raise _Whole
    if beside and not _is_file(part):
        raise _Whole  # a second text, or a picture between two
    if not beside and not _content_id(part):
        raise _Whole
    return part


def _files(says: _Says) -> Iterator[Attachment]:
    for part in says.files:
        yield _attachment(part, _content_id(part))
    for part in says.beside:
        wanted = _content_id(part)
        shown = wanted and says.html is not None and f"cid:{wanted}" in says.html
        yield _attachment(part, wanted if shown else "")


def _attachment(part: Part, content_id: str) -> Attachment:
    kind = part.content_type
    name = part.file_name or f"part.{kind.partition('/')[2]}"
    charset = part.parameters.get("charset", "")
    if kind.startswith("text/") and charset:
        kind = f'{kind}; charset="{charset}"'
    check_attachment(name, kind, content_id, "attachments")
    return Attachment(name, kind, part.decoded(), content_id)


def _content_id(part: Part) -> str:
    return part.value("Content-ID").strip().removeprefix("<").removesuffix(">")


def _text(part: Part) -> str:
    """A body as text; what its charset does not have is not guessed."""
    codec = text_codec(part.parameters.get("charset", "us-ascii"))
    if codec is None:
        raise _Whole
    try:
        text = part.decoded().decode(codec)
    except UnicodeError:
        raise _Whole from None
    if "\0" in text:
        raise _Whole
    text = text.replace("\r\n", "\n")
    if part.parameters.get("format", "").lower() == "flowed":
        return _unflowed(text, glued=part.parameters.get("delsp", "").lower() == "yes")
    return text


def _unflowed(text: str, *, glued: bool) -> str:
    """Paragraphs in one line each (RFC 3676 4). glued: the blank at a line's end is no part of it."""
    lines: list[str] = []
    runs_on = False
    for line in text.split("\n"):
        if line.startswith(">"):
            raise _Whole  # quotes have paragraphs of their own
        line = line.removeprefix(" ")
        if runs_on:
            lines[-1] += line
        else:
            lines.append(line)
        runs_on = line.endswith(" ") and line != "-- "
        if runs_on and glued:
            lines[-1] = lines[-1][:-1]
    return "\n".join(lines)


def _people(top: Part, name: str) -> tuple[Mailbox, ...]:
    """Of an address field, read as strictly as one that decides who gets it. Raises Invalid."""
    value = top.value(name).strip(" \t")
    if not value or ("," not in value and "@" not in value and value.endswith(_NOBODY)):
        return ()
    return parse_mailbox_list(value, name, _MOST_PEOPLE)


def _headers(top: Part) -> tuple[tuple[str, str], ...]:
    """Fields of its own. Raises _Whole where one stands there twice, Invalid for one that others write."""
    counts = Counter(name.lower() for name, _ in top.fields)
    if any(counts[name] > 1 for name in _ONCE):
        raise _Whole
    own = [
        (name, decode_words(value))
        for name, value in top.fields
        if name.lower() not in _COMPOSED_ANEW and not name.lower().startswith("content-")
    ]
    return check_custom_headers(own, "headers")
