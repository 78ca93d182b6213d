"""What tells one recipient's copy of a message from another's: the tokens in it, and where they go.

A copy may offer to unsubscribe, have its links put behind ours, and a pixel. All of that is decided once for
a message on a connection; for each recipient only the tokens are made anew.
"""

from __future__ import annotations

import msgspec

from postroom.ids import DeliveryId
from postroom.mail.content import Content
from postroom.mail.links import tracks_opens, with_links, with_pixel
from postroom.mail.unsubscribe import Offer, offering
from postroom.tracking.links import MailLinks
from postroom.tracking.tokens import TokenKind

_UNSUBSCRIBE, _CLICK, _OPEN = TokenKind.UNSUBSCRIBE, TokenKind.CLICK, TokenKind.OPEN


def link_of(number: int, *, in_text: bool) -> int:
    """The link number in a click's token: the target, and in which part its link stood."""
    return number << 1 | in_text


def target_and_part(link: int) -> tuple[int, bool]:
    """The reverse: the target's number, and whether the link stood in the text part."""
    return link >> 1, bool(link & 1)


class Marking:
    """Of one content, and its number. offer: how it offers to unsubscribe (`mail.unsubscribe.offer_for`)."""

    def __init__(self, content: Content, content_id: int, offer: Offer | None, links: MailLinks) -> None:
        self._content, self._content_id, self._offer, self._links = content, content_id, offer, links
        clicks = {link_of(one.number, in_text=False) for one in content.html_links}
        clicks |= {link_of(one.number, in_text=True) for one in content.text_links}
        self._tokens = {_CLICK: sorted(clicks)} if clicks else {}
        if offer is not None:
            self._tokens[_UNSUBSCRIBE] = [0]
        if tracks_opens(content):
            self._tokens[_OPEN] = [0]
        each = ((kind, link) for kind, links in self._tokens.items() for link in links)
        self._place = {token: place for place, token in enumerate(each)}

    def __bool__(self) -> bool:
        """Whether there is anything to write: without, all copies are the same."""
        return bool(self._tokens)

    def words(self, delivery_id: DeliveryId) -> tuple[str, ...]:
        """The tokens of this recipient's copy, in an order of ours; each time the same ones."""
        made: list[str] = []
        for kind, links in self._tokens.items():
            made += self._links.tokens(kind, delivery_id, links, self._content_id)
        return tuple(made)

    def content(self, words: tuple[str, ...]) -> Content:
        """The content with these tokens in it."""

        def url(kind: TokenKind, link: int = 0) -> str:
            return self._links.url(kind, words[self._place[kind, link]])

        made = with_links(
            self._content,
            lambda number: url(_CLICK, link_of(number, in_text=False)),
            lambda number: url(_CLICK, link_of(number, in_text=True)),
        )
        if self._offer is not None:
            made = offering(made, url(_UNSUBSCRIBE), self._offer)
        if (_OPEN, 0) in self._place and made.html is not None:
            made = msgspec.structs.replace(made, html=with_pixel(made.html, url(_OPEN)))
        return made
