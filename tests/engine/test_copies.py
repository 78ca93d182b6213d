"""The copies of one message: each has its own token, and is byte for byte what composing it would give."""

from __future__ import annotations

import pytest

from postroom.engine import copies
from postroom.engine.copies import Copies
from postroom.mail.compose import compose
from postroom.mail.content import Content, Mailbox
from postroom.mail.unsubscribe import Offer, offering

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

    found = Copies(content, OFFER, url, counted)
    for token in (*TOKENS, TOKENS[0]):
        assert found.copy(token) == composed(offering(content, url(token), OFFER))
    assert made == 1
    assert found.size_bytes > len(text)


def test_what_cannot_be_cut_is_composed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "cut", lambda *_: None)
    content = content_of("x")
    found = Copies(content, OFFER, url, composed)
    for token in TOKENS:
        assert found.copy(token) == composed(offering(content, url(token), OFFER))
