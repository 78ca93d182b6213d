"""Replies as bytes: limits, codes, enhanced codes, ids, text that is safe to show."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.transports.smtp_reply import (
    MOST_LINE_BYTES,
    MOST_LINES,
    Reply,
    ReplyReader,
    clean_text,
)


def _read(data: bytes) -> tuple[list[Reply], ReplyReader]:
    reader = ReplyReader()
    return reader.feed(data), reader


def _one(data: bytes) -> Reply:
    replies, reader = _read(data)
    assert reader.error is None
    assert len(replies) == 1
    return replies[0]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(cuts=st.lists(st.integers(0, 90), max_size=20))
def test_cut_anywhere_it_reads_the_same(cuts: list[int]) -> None:
    data = b"250-mail.test\r\n250-SIZE 100\r\n250 OK\r\n354 go\n550-5.1.1 no\r\n550 5.1.1 really\r\n221\r\n"
    reader = ReplyReader()
    replies: list[Reply] = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        replies += reader.feed(data[start:end])
    assert reader.error is None
    assert reader.clean
    assert [(r.code, len(r.lines)) for r in replies] == [(250, 3), (354, 1), (550, 2), (221, 1)]
    assert replies[2].text == "5.1.1 no really"


@settings(derandomize=True, max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_without_a_surprise(data: bytes) -> None:
    replies, reader = _read(data)
    assert reader.error is None or reader.feed(b"250 ok\r\n") == []
    for reply in replies:
        assert 200 <= reply.code <= 599
        assert reply.text == clean_text(reply.text)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b"250_x\r\n",
        b"abc x\r\n",
        b"000 x\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"999 x\r\n",
        "２５０ x\r\n".encode(),
        b"250-a\r\n550 b\r\n",
        b"250 " + b"x" * MOST_LINE_BYTES,
        b"250 " + b"x" * MOST_LINE_BYTES + b"\r\n",
        b"250-x\r\n" * (MOST_LINES + 1),
        (b"250-" + b"x" * 4000 + b"\r\n") * 20,
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    replies, reader = _read(data)
    assert replies == []
    assert reader.error is not None


def test_replies_before_an_error_count() -> None:
    replies, reader = _read(b"250 ok\r\nrubbish\r\n250 more\r\n")
    assert [r.code for r in replies] == [250]
    assert reader.error is not None


def test_limits_are_limits_and_no_less() -> None:
    line = b"250 " + b"x" * (MOST_LINE_BYTES - 5) + b"\r\n"
    assert len(_one(line).text) == 1000
    assert _one(b"250-x\r\n" * (MOST_LINES - 1) + b"250 x\r\n").code == 250


@pytest.mark.parametrize(
    ("data", "enhanced"),
    [
        (b"550 5.1.1 no\r\n", "5.1.1"),
        (b"550 5.1.1: no\r\n", "5.1.1"),
        (b"550 5.1.1\r\n", "5.1.1"),
        (b"550-sorry\r\n550 5.7.26 no\r\n", "5.7.26"),
        (b"250 2.0.0 Ok\r\n", "2.0.0"),
        (b"250 4.2.2 of another class\r\n", ""),
        (b"550 5.1 no\r\n", ""),
        (b"550 5.1.1111 no\r\n", ""),
        (b"550 10.5.1.1 is no code\r\n", ""),
    ],
)
def test_enhanced_codes(data: bytes, enhanced: str) -> None:
    assert _one(data).enhanced == enhanced


@pytest.mark.parametrize(
    ("line", "remote_id"),
    [
        ("2.0.0 Ok: queued as 4F2A93C1B2", "4F2A93C1B2"),
        ("Ok: queued as DhCfSyTfQ5uvSzUd8w_-rw", "DhCfSyTfQ5uvSzUd8w_-rw"),
        ("OK id=1qABcd-0002xY-1z", "1qABcd-0002xY-1z"),
        ("Ok 0102018f3c1d2e3f-5a6b7c8d-9e0f-1a2b-000000", "0102018f3c1d2e3f-5a6b7c8d-9e0f-1a2b-000000"),
        ("2.0.0 OK  1700000000 ab12-20020a05sm.1 - gsmtp", "1700000000"),
        ("2.0.0 34ABCDEF012345 Message accepted for delivery", "34ABCDEF012345"),
        ("2.6.0 <x@here.test> [InternalId=1] Queued mail for delivery", "x@here.test"),
        ("OK", ""),
        ("Message accepted", ""),
        ("2.0.0 Ok thank you very much", ""),
    ],
)
def test_the_peers_own_name_for_a_message(line: str, remote_id: str) -> None:
    assert _one(f"250 {line}\r\n".encode()).remote_id == remote_id


def test_text_is_safe_to_show() -> None:
    text = _one(
        b"550-5.1.1 caf\xe9 \x1b[31mred\x00\r\n550 5.1.1 \xe2\x80\xa8line\xc2\x85 " + b"y" * 2000 + b"\r\n"
    ).text
    assert text.startswith("5.1.1 caf\ufffd  [31mred")
    assert len(text) == 1000
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in text)
