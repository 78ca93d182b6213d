"""Tokens: they come back as what they were, and nothing else verifies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.ids import DeliveryId
from postroom.tracking.tokens import CLICK_CHARS, TOKEN_CHARS, SigningKeys, Token, TokenKind

KEYS = SigningKeys(TokenKind.UNSUBSCRIBE, 2, {1: b"a" * 32, 2: b"b" * 32})


@given(delivery=st.integers(0, 2**64 - 1), link=st.integers(0, 65535))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_a_token_comes_back_in_either_case(delivery: int, link: int) -> None:
    text = KEYS.sign(DeliveryId(delivery), link)
    assert len(text) == TOKEN_CHARS
    assert text == text.lower()
    wanted = Token(TokenKind.UNSUBSCRIBE, DeliveryId(delivery), link)
    assert KEYS.verify(text) == KEYS.verify(text.upper()) == wanted


@given(delivery=st.integers(0, 2**64 - 1), link=st.integers(0, 65535), content=st.integers(0, 2**64 - 1))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_a_click_knows_its_content(delivery: int, link: int, content: int) -> None:
    keys = SigningKeys(TokenKind.CLICK, 2, KEYS.keys)
    text = keys.sign(DeliveryId(delivery), link, content)
    assert len(text) == CLICK_CHARS
    assert keys.verify(text) == Token(TokenKind.CLICK, DeliveryId(delivery), link, content)
    assert keys.verify(text.upper()) == keys.verify(text)
    assert all(
        keys.verify(text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]) is None
        for at in range(52)
    )
    assert KEYS.verify(text[:TOKEN_CHARS]) is None


def test_many_at_once_are_each_as_made_alone() -> None:
    links = [0, 5, 1, 65535]
    assert KEYS.sign_each(DeliveryId(7), links) == [KEYS.sign(DeliveryId(7), link) for link in links]
    assert KEYS.sign_each(DeliveryId(7), []) == []


def test_every_changed_character_breaks_it() -> None:
    text = KEYS.sign(DeliveryId(7), 3)
    for at, old in enumerate(text):
        for new in "a2z7":
            if new != old:
                assert KEYS.verify(text[:at] + new + text[at + 1 :]) is None


@pytest.mark.parametrize("text", ["", "a", "a" * 39, "a" * 40, "é" * 39, "1" * 39, "=" * 39, "a" * 100_000])
def test_garbage_is_nobodys(text: str) -> None:
    assert KEYS.verify(text) is None


def test_another_kind_or_key_does_not_verify_and_a_retired_one_does() -> None:
    text = KEYS.sign(DeliveryId(7))
    assert SigningKeys(TokenKind.CLICK, 2, KEYS.keys).verify(text) is None
    assert SigningKeys(TokenKind.UNSUBSCRIBE, 2, {2: b"c" * 32}).verify(text) is None
    assert SigningKeys(TokenKind.UNSUBSCRIBE, 1, {1: b"a" * 32}).verify(text) is None
    newer = SigningKeys(TokenKind.UNSUBSCRIBE, 3, {**KEYS.keys, 3: b"d" * 32})
    assert newer.verify(text) is not None


def test_keys_stay_out_of_repr() -> None:
    assert "bbb" not in repr(KEYS)
