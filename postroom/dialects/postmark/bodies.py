"""What a message says, and the place in it where the product puts its link to unsubscribe."""

from __future__ import annotations

import re

import msgspec

_OURS = "{{ unsubscribe_link }}"
_PLACE = re.compile(r"\{\{\{\s{0,9}pm:unsubscribe(?:_url)?\s{0,9}\}\}\}")
_IN_LINK = re.compile(r"""href\s{0,9}=\s{0,9}["']?\s{0,9}\Z""", re.IGNORECASE)
_MOST_BEFORE = 40


class Bodies(msgspec.Struct, frozen=True):
    """Subject and body parts: as they were sent, or as a template gave them."""

    subject: str
    html: str | None
    text: str | None


def with_unsubscribe_link(says: Bodies) -> tuple[Bodies, bool]:
    """`{{{ pm:unsubscribe }}}` as our own variable, a link around it where it stands alone in HTML.

    Also: whether there was one, so that mail which offers none by itself does.
    """
    html, text, found = says.html, says.text, 0
    if html is not None and "pm:unsubscribe" in html:
        whole = html

        def place(match: re.Match[str]) -> str:
            before = whole[max(0, match.start() - _MOST_BEFORE) : match.start()]
            return _OURS if _IN_LINK.search(before) else f'<a href="{_OURS}">Unsubscribe</a>'

        html, found = _PLACE.subn(place, html)
    if text is not None and "pm:unsubscribe" in text:
        text, more = _PLACE.subn(_OURS, text)
        found += more
    return (Bodies(says.subject, html, text) if found else says), bool(found)
