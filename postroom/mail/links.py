"""The links of a message: found once, when it is accepted, and put behind others for each of its copies.

What is found is stored with the message as places in its parts, so a copy costs a few slices, and is the same
whatever a later version would find. Only the value of an `href` is exchanged; every other character stays.

Not tracked: what `mail.link_target` does not take (mailto:, tel:, #, placeholders, links of ours), links
whose author says so (`data-pm-no-track`, `data-track="false"`), comments and so conditions for Outlook, parts
that are signed as text (PGP), and all that comes after the first MOST_TARGETS different targets.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from postroom.mail.content import Content, Link, TrackLinks
from postroom.mail.html_places import body_end
from postroom.mail.html_tags import attributes, tags
from postroom.mail.link_target import target_of

MOST_TARGETS = 1_000
_SIGNED = "-----BEGIN PGP "
_IN_TEXT = re.compile(r"(?<![A-Za-z0-9])(?i:https?)://[^\x00-\x20\x22<>\x7f-\U0010ffff]+")
_CLOSERS = {")": "(", "]": "["}
_TRAILING = ".,;:!?'*_~|`)]"
_PIXEL = '<img src="{}" width="1" height="1" alt="" style="border:0;width:1px;height:1px">'


class Found(msgspec.Struct, frozen=True):
    """What is to be tracked in a message. `targets`: each once, their order is their number."""

    html: tuple[Link, ...] = ()
    text: tuple[Link, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass
class _Numbers:
    of_target: dict[str, int] = field(default_factory=dict)

    def link(self, start: int, end: int, target: str) -> Link | None:
        number = self.of_target.get(target)
        if number is None:
            if len(self.of_target) >= MOST_TARGETS:
                return None
            number = self.of_target[target] = len(self.of_target)
        return Link(start, end, number)


def find_links(document: str | None, text: str | None, wanted: TrackLinks) -> Found:
    """What to track of a message's HTML and text. Time is linear in their length; pure."""
    numbers, untracked = _Numbers(), set[str]()
    in_html: list[Link] = []
    in_text: list[Link] = []
    if document is not None and wanted is not TrackLinks.NONE and _SIGNED not in document:
        in_html = _html_links(document, numbers if wanted is not TrackLinks.TEXT else None, untracked)
    if text is not None and wanted in (TrackLinks.TEXT, TrackLinks.HTML_AND_TEXT) and _SIGNED not in text:
        for start, end in _urls(text):
            target = target_of(text[start:end])
            if target is not None and target not in untracked:
                in_text += filter(None, [numbers.link(start, end, target)])
    return Found(tuple(in_html), tuple(in_text), tuple(numbers.of_target))


def _html_links(document: str, numbers: _Numbers | None, untracked: set[str]) -> list[Link]:
    """numbers: None: none is tracked here; `untracked` is wanted, for the same URLs in the text."""
    found: list[Link] = []
    for tag in tags(document, ("a", "area")):
        if tag.closing or not tag.name:
            continue
        has = attributes(document, tag)
        target = target_of(has["href"].value) if "href" in has else None
        if target is None:
            continue
        said = has.get("data-track")
        if "data-pm-no-track" in has or (said is not None and said.value.strip().lower() == "false"):
            untracked.add(target)
        elif numbers is not None:
            found += filter(None, [numbers.link(has["href"].start, has["href"].end, target)])
    return found


def _urls(text: str) -> Iterator[tuple[int, int]]:
    """Where URLs stand in plain text, without the punctuation of the sentence around them.

    One that runs on in letters beyond ASCII is left out: whether they belong to it only its reader knows.
    """
    for one in _IN_TEXT.finditer(text):
        start, end = one.span()
        if text[end : end + 1].isalnum():
            continue
        if text[end - 1] in _TRAILING:
            end = start + len(_without_punctuation(one[0]))
        yield start, end


def _without_punctuation(url: str) -> str:
    """A closing bracket belongs to a URL that has the opening one."""
    end = len(url)
    too_many = {closer: url.count(closer) - url.count(opener) for closer, opener in _CLOSERS.items()}
    while (last := url[end - 1]) in _TRAILING:
        if last in too_many:
            if too_many[last] <= 0:
                break
            too_many[last] -= 1
        end -= 1
    return url[:end]


def with_links(content: Content, html_url: Callable[[int], str], text_url: Callable[[int], str]) -> Content:
    """`content` with every link found exchanged. html_url, text_url: from a target's number to the link."""
    document, text = content.html, content.text
    if document is not None and content.html_links:
        document = _exchanged(document, content.html_links, lambda number: html.escape(html_url(number)))
    if text is not None and content.text_links:
        text = _exchanged(text, content.text_links, text_url)
    return msgspec.structs.replace(content, html=document, text=text)


def _exchanged(part: str, links: Sequence[Link], url: Callable[[int], str]) -> str:
    pieces, position = [], 0
    for link in links:
        pieces += [part[position : link.start], url(link.number)]
        position = link.end
    return "".join([*pieces, part[position:]])


def tracks_opens(content: Content) -> bool:
    """Whether its copies get a pixel: asked for, and there is HTML that nobody signed as it stands."""
    return content.track_opens and content.html is not None and _SIGNED not in content.html


def with_pixel(document: str, url: str) -> str:
    """`document` with an image that nobody sees right before its </body>, or at its end."""
    place = body_end(document)
    return f"{document[:place]}{_PIXEL.format(html.escape(url))}{document[place:]}"
