"""The tags of an HTML document and where they stand, found as HTML's own tokenizer finds them (HTML, 13.2.5).

No tree is made: its rules for misnested elements make parsers quadratic (a megabyte of `<div>` takes lexbor
three minutes), and no parser says where in the text an attribute stands. What is inside comments, those that
are conditions for Outlook too, and inside elements whose content is no markup is passed over. Linear time.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from html.entities import html5

import msgspec

_BLANK = r"[ \t\n\f\r]"
_NAME = r"[^ \t\n\f\r/>][^ \t\n\f\r/>=]*+"
_VALUE = (
    rf"""{_BLANK}*+={_BLANK}*+(?:"{{0}}[^"]*+{{1}}"|'{{0}}[^']*+{{1}}'|(?!["']){{0}}[^ \t\n\f\r>]*+{{1}})"""
)
_ATTRIBUTE = rf"{_NAME}(?:{_VALUE.format('', '')}|(?!{_BLANK}*+=))"
# What gives nothing back is atomic, (?>(?:…)*): possessive repeats of groups fail on Python 3.11.0 to 3.11.4.
_INSIDE = rf"(?>(?:[ \t\n\f\r/]++|{_ATTRIBUTE})*)"
_NAME_ENDS = r"(?=[ \t\n\f\r/>])"
_PARTS = re.compile(rf"({_NAME})(?:{_VALUE.format('(', ')')}|(?!{_BLANK}*+=))")
NO_MARKUP = ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext")
_CLOSERS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in NO_MARKUP}
_REFERENCE = re.compile(
    r"&(?:#(?:[0-9]+;?|[xX][0-9a-fA-F]+;?)|([A-Za-z][A-Za-z0-9]{0,39})(;|(?![A-Za-z0-9=])))"
)


class Tag(msgspec.Struct, frozen=True):
    """One tag: its place, its name in lower case, and where its attributes stand. name "": what begins here
    (a comment, a tag, an element without markup) is never closed and hides all that follows."""

    start: int
    end: int
    name: str
    closing: bool
    inside: tuple[int, int]


class Attribute(msgspec.Struct, frozen=True):
    """A value as written, without its quotes, and its place; character references are still in it."""

    start: int
    end: int
    written: str

    @property
    def value(self) -> str:
        """What it says."""
        return _REFERENCE.sub(_meant, self.written) if "&" in self.written else self.written


def tags(document: str, names: tuple[str, ...]) -> Iterator[Tag]:
    """The tags with these names, in order; the last may be one without a name."""
    wanted = _wanted(names)
    position = 0
    while (token := wanted.match(document, position)) is not None:
        start, position = token.start(1), token.end()
        if token[3] is None:
            if position > token.start():  # more of what lies between
                continue
            if start < len(document):  # what is never closed
                yield Tag(start, len(document), "", False, (0, 0))
            return
        name, closing = token[3].lower(), bool(token[2])
        if name in names:
            yield Tag(start, position, name, closing, token.span(4))
        if not closing and name in _CLOSERS:
            closer = _CLOSERS[name].search(document, position)
            if closer is None:
                yield Tag(start, len(document), "", False, (0, 0))
                return
            position = closer.start()


@lru_cache(maxsize=8)
def _wanted(names: tuple[str, ...]) -> re.Pattern[str]:
    """Everything up to the next tag with one of these names, or one whose content is no markup, and that tag.

    No repeat gives anything back, so each character is looked at once. One call passes over so much at most,
    because nothing else of the process runs meanwhile.
    """
    known = "|".join({**dict.fromkeys(names), **dict.fromkeys(NO_MARKUP)})
    between = (
        r"[^<]++|<(?![a-zA-Z!?/])"  # text
        r"|<!--(?:-?>|[\s\S]*?--!?>)"
        r"|<(?:!(?!--)|\?|/(?![a-zA-Z]))[^>]*+>"  # a declaration and its like, a comment to HTML
        rf"|</?+(?!(?i:{known}){_NAME_ENDS})[a-zA-Z][^ \t\n\f\r/>]*+{_INSIDE}>"  # another tag
    )
    return re.compile(
        rf"(?>(?:{between}){{0,5000}})(?=([\s\S]?))(?>(?:<(/?)((?i:{known})){_NAME_ENDS}({_INSIDE})>)?)"
    )


def attributes(document: str, tag: Tag) -> dict[str, Attribute]:
    """By name in lower case; of several with one name the first, as everywhere. Without a value: empty."""
    found: dict[str, Attribute] = {}
    for part in _PARTS.finditer(document, *tag.inside):
        group = part.lastindex or 1  # of its name, or of the one value it has
        start, end = (part.end(), part.end()) if group == 1 else part.span(group)
        found.setdefault(part[1].lower(), Attribute(start, end, document[start:end]))
    return found


def _meant(reference: re.Match[str]) -> str:
    """In attributes `&copy=` is no sign of copyright: links are full of such (HTML, 13.2.5.73)."""
    name = reference[1]
    if name is None or name + reference[2] in html5:
        return html.unescape(reference[0])
    return reference[0]
