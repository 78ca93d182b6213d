"""How a message offers to unsubscribe: the header fields (RFC 2369, RFC 8058) and a line in its body parts.

A connection may have a custom link instead of ours. It is an opaque text: a URL, a mailto:, HTML, or a
placeholder that the service behind the connection replaces (`[unsubscribe]`, `{{{ pm:unsubscribe }}}`,
`<%asm_group_unsubscribe_raw_url%>`). In the body it goes as link or as it stands; in the header only where
it is a URI, else ours stays there. Nothing is written into a message that its client composed itself (`raw`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from html.parser import HTMLParser

import msgspec

from postroom.mail.content import Content
from postroom.mail.headers import is_list_uri, unsubscribe_headers
from postroom.mail.html_places import body_end, language

# Where an author wants the link himself; nothing is added to a part that has it.
_VARIABLE = re.compile(r"\{\{\s{0,9}unsubscribe_link\s{0,9}\}\}")
_SCHEME = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_NO_URI = re.compile(r"[\s<>\"\\]")
_MARKUP = re.compile(r"<[A-Za-z/!]")
_MOST_URI_CHARACTERS = 900

_WORDS = {
    "en": "Unsubscribe from these emails",
    "de": "Diese E-Mails abbestellen",
    "es": "Cancelar la suscripción a estos correos",
    "fr": "Se désabonner de ces e-mails",
    "ja": "このメールの配信を停止する",
    "ru": "Отписаться от этих писем",
    "pl": "Zrezygnuj z tych wiadomości",
}
# Its own background, so that it can be read whatever the document's colours are: a contrast of 8.9 to 1.
_STYLE = (
    "margin:0;padding:16px;background:#ffffff;color:#4a4a4a;"
    "font:14px/1.5 Arial,Helvetica,sans-serif;text-align:center"
)
_LINK_STYLE = "color:#4a4a4a;text-decoration:underline"


class CustomKind(Enum):
    """What a custom link can be used for."""

    URI = 1  # in the header and as a link
    LINK = 2  # as a link: it begins like a URI and holds a placeholder
    TEXT = 3  # HTML or a placeholder: as it stands


@dataclass(frozen=True)
class Offer:
    """How mail through one connection offers it. custom: instead of our own link, or "".

    one_click: a DKIM signature will cover what says that our link takes a provider's POST (RFC 8058 4).
    """

    header: bool = True
    footer: bool = True
    custom: str = ""
    one_click: bool = True

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Offer:
        """As a connection's stored options say; what is not there has this class's default."""
        custom = options.get("custom_unsubscribe_link") if options.get("use_custom_unsubscribe_link") else ""
        return cls(
            header=bool(options.get("include_unsubscribe_header", True)),
            footer=bool(options.get("include_unsubscribe_link", True)),
            custom=str(custom or ""),
        )


DEFAULT_OFFER = Offer()


def custom_link_fault(custom: str) -> bool:
    """Whether it begins like a URI and is none: too long, or with blanks, quotes or angle brackets in it."""
    return bool(_SCHEME.match(custom)) and (
        len(custom) > _MOST_URI_CHARACTERS or _NO_URI.search(custom) is not None
    )


def custom_kind(custom: str) -> CustomKind:
    """What `custom`, which has no fault, is."""
    if not _SCHEME.match(custom):
        return CustomKind.TEXT
    return CustomKind.URI if is_list_uri(custom) else CustomKind.LINK


def offer_for(content: Content, offer: Offer, *, bulk: bool) -> Offer | None:
    """What this message gets of a connection's `offer`; None: nothing may be written into it.

    Bulk mail gets it all; with `unsubscribe_link` False its body stays as it is, and the header says it.
    Any other mail gets it when it asks, with `unsubscribe_link` True. Mail that has means of its own gets
    nothing but the link, at the places its author left for it.
    """
    if content.raw is None and content.own_unsubscribing:
        return replace(offer, header=False, footer=False) if content.unsubscribe_link else None
    if content.raw is not None or not (bulk or content.unsubscribe_link):
        return None
    return replace(offer, footer=False) if content.unsubscribe_link is False else offer


def offering(content: Content, url: str, offer: Offer) -> Content:
    """`content` (not `raw`) with what `offer` says. url: our own link for this one copy, https or http.

    A List-Unsubscribe of the message's own stays, and ours is not added. `{{ unsubscribe_link }}` in a body
    part becomes the link (ours where the custom one is HTML), and that part gets no line of its own.
    """
    kind = custom_kind(offer.custom) if offer.custom else None
    link = offer.custom if kind in (CustomKind.URI, CustomKind.LINK) else ""
    inline = link or (url if kind is None or _MARKUP.search(offer.custom) else offer.custom)
    headers, document, text = content.headers, content.html, content.text
    if offer.header and not any(name.lower() == "list-unsubscribe" for name, _ in headers):
        headers = (*headers, *_header(url, offer, offer.custom if kind is CustomKind.URI else ""))
    if document is not None:
        escaped = inline if kind is CustomKind.TEXT else html.escape(inline)
        document, found = _VARIABLE.subn(lambda _: escaped, document)
        if offer.footer and not found:
            document = _with_footer(document, link or url, offer.custom if kind is CustomKind.TEXT else "")
    if text is not None:
        text, found = _VARIABLE.subn(lambda _: inline, text)
        if offer.footer and not found:
            line = _as_line(offer.custom) if kind is CustomKind.TEXT else f"{_WORDS['en']}: {link or url}"
            between = "\n" if not text or text.endswith(("\n", "\r")) else "\n\n"
            text = f"{text}{between}{line}\n"
    return msgspec.structs.replace(content, headers=headers, html=document, text=text)


def _header(url: str, offer: Offer, custom: str) -> tuple[tuple[str, str], ...]:
    """Whether somebody else's page takes the POST of RFC 8058 nobody knows: one click is for ours alone."""
    if custom:
        return unsubscribe_headers(custom)
    return unsubscribe_headers(url, one_click=offer.one_click and url.lower().startswith("https://"))


def _with_footer(document: str, link: str, as_is: str) -> str:
    place = body_end(document)
    if as_is:
        footer = f'<div style="{_STYLE}">{as_is}</div>'
    else:
        spoken = language(document)
        known = spoken if spoken in _WORDS else "en"
        lang = f' lang="{known}"' if spoken and spoken != known else ""
        footer = (
            f'<p{lang} style="{_STYLE}"><a href="{html.escape(link)}" style="{_LINK_STYLE}">'
            f"{_WORDS[known]}</a></p>"
        )
    return f"{document[:place]}\n{footer}\n{document[place:]}"


def _as_line(custom: str) -> str:
    """A custom text for the plain part: of HTML its words, each link's target behind them."""
    if not _MARKUP.search(custom):
        return custom
    reader = _Words()
    reader.feed(custom)
    reader.close()
    return " ".join("".join(reader.pieces).split())


class _Words(HTMLParser):
    """Reads at most 2,000 characters: the limit of a custom link."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._targets.append(dict(attrs).get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._targets and (target := self._targets.pop()):
            self.pieces.append(f": {target} ")

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)
