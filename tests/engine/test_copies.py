"""The copies of one message: each has its own token, and is byte for byte what composing it would give."""

from __future__ import annotations

import pytest

from postroom.engine import copies
from postroom.engine.copies import Copies
from postroom.ids import DeliveryId
from postroom.mail.compose import compose
from postroom.mail.content import Content, Mailbox, TrackLinks
from postroom.mail.links import find_links
from postroom.mail.unsubscribe import Offer, offering
from postroom.tracking.marking import Marking
from tests.support.engine import LINKS

TOKENS = [f"{number}" * 39 for number in range(2, 7)]
OFFER = Offer()


def url(token: str) -> str:
    return f"https://post.example/u/{token}"


def composed(content: Content) -> bytes:
    return compose(content, message_id="<m@example.com>", date_us=0)


def content_of(text: str) -> Content:
    return Content(Mailbox("a@example.com"), (Mailbox("b@example.net"),), text=text, html=f"<p>{text}</p>")


@pytest.mark.parametrize("text", ["plain", "mostly ascii, é", "日本語" * 100, "x" * 2000])
def test_each_copy_is_what_composing_it_gives(text: str) -> None:
    content, made = content_of(text), 0

    def counted(one: Content) -> bytes:
        nonlocal made
        made += 1
        return composed(one)

    found = Copies(lambda words: offering(content, url(words[0]), OFFER), counted)
    for token in (*TOKENS, TOKENS[0]):
        assert found.copy((token,)) == composed(offering(content, url(token), OFFER))
    assert made == 1
    assert found.size_bytes > len(text)


def test_what_cannot_be_cut_is_composed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "cut", lambda *_: None)
    content = content_of("x")
    found = Copies(lambda words: offering(content, url(words[0]), OFFER), composed)
    for token in TOKENS:
        assert found.copy((token,)) == composed(offering(content, url(token), OFFER))


@pytest.mark.parametrize("offer", [None, OFFER])
@pytest.mark.parametrize("filler", ["", "é", "日本語" * 100, "x" * 2000])
def test_a_tracked_copy_is_what_marking_and_composing_it_gives(filler: str, offer: Offer | None) -> None:
    links = [f"https://shop.example/{number}" for number in range(40)]
    html = f"<body>{filler}{''.join(f'<a href={one}>{filler}</a>' for one in [*links, links[3]])}</body>"
    text = f"{filler} {' '.join(links[5:])} {filler}"
    found = find_links(html, text, TrackLinks.HTML_AND_TEXT)
    content = Content(
        Mailbox("a@example.com"),
        (Mailbox("b@example.net"),),
        html=html,
        text=text,
        html_links=found.html,
        text_links=found.text,
        track_opens=True,
    )
    marking = Marking(content, 7, offer, LINKS)
    made = 0

    def counted(one: Content) -> bytes:
        nonlocal made
        made += 1
        return composed(one)

    copies, seen = Copies(marking.content, counted), set()
    for delivery in (1, 2, 3, 1):
        words = marking.words(DeliveryId(delivery))
        assert len(words) == len(set(words)) == 40 + 35 + 1 + (offer is not None)
        data = copies.copy(words)
        assert data == composed(marking.content(words))
        seen.add(data)
    assert (made, len(seen)) == (1, 3)


def test_what_is_not_tracked_is_the_same_for_everybody() -> None:
    assert not Marking(content_of("https://shop.example/"), 7, None, LINKS)
