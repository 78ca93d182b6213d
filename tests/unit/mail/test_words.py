"""Encoded-words both ways, against the standard library, and what may stand in a line of text."""

from __future__ import annotations

from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.mail.words import check_text, decode_text, decode_words, encode_words, text_codec

ONE_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=120)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(ONE_LINE, st.integers(0, 80))
def test_encoded_words_come_back_exactly(text: str, first_room: int) -> None:
    words = encode_words(text, first_room)
    assert all(len(word) <= 75 and word.isascii() for word in words)
    line = "\r\n ".join(words)
    assert decode_words(line) == text
    assert str(make_header(decode_header(line))) == text


def test_the_shorter_encoding_is_taken() -> None:
    assert encode_words("Zamówienie 1234 wysłane")[0].startswith("=?utf-8?q?")
    assert encode_words("ご注文の品を発送しました")[0].startswith("=?utf-8?b?")


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        ("=?utf-8?q?a?= \t=?UTF-8?Q?b?=", "ab"),
        ("=?utf-8?b?w7M=?=", "ó"),
        ("=?utf-8?b?w7M?=", "ó"),
        ("=?utf-8?b?ww==?= =?utf-8?b?sw==?=", "ó"),
        ("=?utf-8*en?q?a=5Fb_c?=", "a_b c"),
        ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?us-ascii?q?a?=", "a"),
        ("=?zlib_codec?b?eJxLBAAAYgBi?=", "=?zlib_codec?b?eJxLBAAAYgBi?="),
        ("=?unicode_escape?q?=5Cx0a?=", "=?unicode_escape?q?=5Cx0a?="),
        ("=?nope?q?a?=", "=?nope?q?a?="),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?b?!!!?=", ""),
        ("=?utf-8?q?=FF?=", "\ufffd"),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
        ("a=?utf-8?q?b?=c", "abc"),
    ],
)
def test_decoding(text: str, decoded: str) -> None:
    assert decode_words(text) == decoded


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text("=?utf8bBqQ_-é \r\n\x00AF0", max_size=60))
def test_decoding_never_raises(text: str) -> None:
    decode_words(text).encode("utf-8")


@pytest.mark.parametrize(
    "charset",
    [
        "zlib_codec",
        "unicode_escape",
        "undefined",
        "punycode",
        "idna",
        "rot13",
        "utf-8\x00",
        "",
        "x" * 99,
        "hex",
    ],
)
def test_m9_only_text_codecs(charset: str) -> None:
    assert text_codec(charset) is None
    assert decode_text("é".encode(), charset) == "é"


def test_bytes_of_no_charset() -> None:
    assert decode_text(b"caf\xe9", "utf-8") == "caf\ufffd"
    assert decode_text(b"caf\xe9") == "café"
    assert decode_text(b"\xff\xfea\x00", "utf-16") == "a"
    assert "\ud800" not in decode_text(b"\x00\xd8", "utf-16-le")


@pytest.mark.parametrize(
    "bad", ["\r", "\n", "\x00", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
def test_what_no_line_may_hold(bad: str) -> None:
    with pytest.raises(Invalid, match=r"^subject must not contain"):
        check_text(f"a{bad}b", "subject")
    check_text("a\tb é 漢 🎉", "subject")
