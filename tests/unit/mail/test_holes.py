"""A filled copy has exactly the bytes that composing it would give, whatever its parts are encoded as."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.mail.compose import compose
from postroom.mail.content import Attachment, Content, Mailbox
from postroom.mail.holes import cut, occurrences

A = "ab2cd3ef4gh5ij6kl7mn2op3qr4st5uv6wx7yz2"
B = "zz7yy6xx5ww4vv3uu2tt7ss6rr5qq4pp3oo2nn7"
TEXT = st.text(st.sampled_from('ab =.-\n\r\tżя日é<>&"{}/:'), max_size=120)


def composed(content: Content) -> bytes:
    return compose(content, message_id="<m@example.com>", date_us=0)


def filled(make: Callable[[str], Content], count: int) -> bytes:
    holed = cut(composed(make(A)), [A.encode()], count)
    assert holed is not None
    assert holed.filled([A.encode()]) == composed(make(A))
    return holed.filled([B.encode()])


@settings(derandomize=True, max_examples=300, deadline=None)
@given(before=TEXT, after=TEXT, much=st.sampled_from(["", "ж" * 90, "日本" * 70, "=" * 40, "x " * 80]))
def test_a_filled_copy_is_the_composed_one(before: str, after: str, much: str) -> None:
    def make(word: str) -> Content:
        return Content(
            Mailbox("a@example.com"),
            (Mailbox("b@example.net"),),
            text=f"{before}{much}https://x.example/u/{word}{after}",
            html=f'<p>{much}{before}<a href="https://x.example/u/{word}">ü</a>{after}{much}',
            headers=(("List-Unsubscribe", f"<https://x.example/u/{word}>"),),
            attachments=(Attachment("a.txt", "text/plain", much.encode()),),
        )

    assert filled(make, 3) == composed(make(B))


@pytest.mark.parametrize("offset", range(60))
@pytest.mark.parametrize("filler", ["日", "é ", "x"])
def test_every_place_in_a_line_and_a_group(offset: int, filler: str) -> None:
    def make(word: str) -> Content:
        return Content(Mailbox("a@example.com"), text=f"{filler * 40}{'x' * offset}{word}{filler * 40}")

    assert filled(make, 1) == composed(make(B))


def test_the_word_at_the_end_of_base64() -> None:
    for offset in range(3):

        def make(word: str, offset: int = offset) -> Content:
            return Content(Mailbox("a@example.com"), text=f"{'日' * 50}{'x' * offset}{word}")

        assert filled(make, 1) == composed(make(B))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_than_expected_is_not_cut(count: int) -> None:
    content = Content(Mailbox("a@example.com"), text=f"{A} and {A}")
    assert cut(composed(content), [A.encode()], count) is None
    assert cut(composed(content), [A.encode()], 2) is not None


def test_a_word_that_cannot_be_seen_is_not_cut() -> None:
    content = Content(Mailbox("a@example.com"), text="x", attachments=())
    hidden = msgspec.structs.replace(content, text=" ".join(A))
    assert cut(composed(hidden), [A.encode()], 1) is None


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.tuples(TEXT, st.integers(0, 5)), min_size=1, max_size=8),
    much=st.sampled_from(["", "ж" * 90, "日本" * 70, "=" * 40, "x " * 80]),
)
def test_many_words_that_begin_alike_are_told_apart(pieces: list[tuple[str, int]], much: str) -> None:
    def words(end: str) -> list[str]:
        return [f"{A[:17] if number % 2 else B[:17]}{number}{end * 20}"[:39] for number in range(6)]

    def make(words: list[str]) -> Content:
        text = "".join(f"{before}https://x.example/c/{words[number]}" for before, number in pieces)
        return Content(Mailbox("a@example.com"), text=much + text, html=f"<p>{text}{much}")

    def encoded(words: list[str]) -> list[bytes]:
        return [word.encode() for word in words]

    first, second = words("2a"), words("b7")
    holed = cut(composed(make(first)), encoded(first), 2 * len(pieces))
    assert holed is not None
    assert holed.filled(encoded(second)) == composed(make(second))
    assert occurrences((make(first).text or "").encode(), encoded(first)) == len(pieces)
