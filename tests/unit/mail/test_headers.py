"""Header fields: what callers may set, and lines that unfold to what went in."""

from __future__ import annotations

import re
from datetime import datetime
from email.header import decode_header, make_header
from email.utils import format_datetime, getaddresses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.clock import to_datetime
from postroom.errors import Invalid
from postroom.mail.content import Mailbox
from postroom.mail.headers import (
    address_line,
    check_custom_headers,
    check_header_name,
    date_header,
    format_mailbox,
    header_line,
    is_message_id,
    new_message_id,
    unsubscribe_headers,
)

LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=400)
ASCII_LINE = st.text('ab \t=?,<>"\\x', max_size=300)


def unfolded(field: str, name: str) -> str:
    """The value as a reader sees it, by the standard library."""
    assert field.endswith("\r\n")
    lines = field.split("\r\n")[:-1]
    assert all(len(line) <= 998 and line.strip(" \t") and line.isascii() for line in lines), lines
    assert all(line[0] in " \t" for line in lines[1:])
    value = "".join(lines).removeprefix(f"{name}:").lstrip(" \t").rstrip(" \t")
    return str(make_header(decode_header(value)))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(LINE | ASCII_LINE)
def test_any_line_of_text_comes_back(text: str) -> None:
    assert unfolded(header_line("Subject", text), "Subject") == text


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.text("abcdefgh", min_size=1, max_size=60), min_size=1, max_size=40).map(" ".join))
def test_ordinary_text_stays_readable_and_within_78(text: str) -> None:
    field = header_line("X-Note", text)
    assert field.replace("\r\n", "") == f"X-Note: {text}"
    assert all(len(line) <= 78 for line in field.split("\r\n"))


def test_a_word_too_long_for_a_line_is_encoded() -> None:
    text = "x" * 5000
    assert unfolded(header_line("X-Data", text), "X-Data") == text
    long_enough = "y" * 900
    assert header_line("X-Data", long_enough) == f"X-Data: {long_enough}\r\n"


@pytest.mark.parametrize("text", ["=?utf-8?q?a?=", " a", "a ", "\ta", "=?", "a  b", " "])
def test_text_a_reader_would_change_is_protected(text: str) -> None:
    assert unfolded(header_line("Subject", text), "Subject") == text


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(LINE.map(lambda s: s[:90].strip()), min_size=1, max_size=6))
def test_display_names_come_back(names: list[str]) -> None:
    boxes = [Mailbox(f"user{n}@example.com", name) for n, name in enumerate(names)]
    field = address_line("To", boxes)
    lines = field.split("\r\n")[:-1]
    assert all(len(line) <= 998 and line.strip() for line in lines)
    read = getaddresses(["".join(lines).removeprefix("To:")])
    assert [address for _, address in read] == [box.address for box in boxes]
    for (name, _), box in zip(read, boxes, strict=True):
        # Blanks at the ends of a name and runs of them are the only thing a reader may change.
        assert str(make_header(decode_header(name))).split() == box.name.split()


def test_names_in_their_three_forms() -> None:
    assert format_mailbox(Mailbox("a@b.de")) == "a@b.de"
    assert address_line("From", [Mailbox("a@b.de", "Ann Lee")]) == "From: Ann Lee <a@b.de>\r\n"
    assert address_line("From", [Mailbox("a@b.de", 'Lee, "A"')]) == 'From: "Lee, \\"A\\"" <a@b.de>\r\n'
    assert address_line("From", [Mailbox("a@bücher.example", "Jörgensen")]) == (
        "From: =?utf-8?q?J=C3=B6rgensen?= <a@xn--bcher-kva.example>\r\n"
    )
    assert address_line("To", [Mailbox("ż@b.de")]) == "To: ż@b.de\r\n"


@pytest.mark.parametrize(
    "name",
    [
        "Bcc",
        "bCC",
        "From",
        "Sender",
        "To",
        "Cc",
        "Subject",
        "Date",
        "DKIM-Signature",
        "Return-Path",
        "Received",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "CONTENT-Transfer-Encoding",
        "X-Postroom-Ref",
        "Authentication-Results",
        "ARC-Seal",
        "Reply-To",
        "Resent-Bcc",
    ],
)
def test_reserved_names(name: str) -> None:
    with pytest.raises(Invalid, match=f"headers must not contain the header '{name}'"):
        check_custom_headers([("X-Ok", "1"), (name, "x")], "headers")


def test_accepted_headers_keep_their_order() -> None:
    given_headers = [
        ("X-Tag", " a "),
        ("CUSTOM-HEADER", "żółć"),
        ("X-Tag", "b"),
        ("References", "<a@b> <c@d>"),
        ("List-Unsubscribe", "<mailto:u@example.com?subject=u>, <https://example.com/u?t=1>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ]
    assert check_custom_headers(given_headers, "headers") == tuple((n, v.strip()) for n, v in given_headers)
    assert check_custom_headers([("List-Post", "NO")], "headers")


@pytest.mark.parametrize(
    "headers",
    [
        [("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")],
        [("List-Unsubscribe-Post", "yes"), ("List-Unsubscribe", "<https://a.example/>")],
        [("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"), ("List-Unsubscribe", "<mailto:a@b.de>")],
        [("List-Unsubscribe", "https://a.example/")],
        [("List-Unsubscribe", "<https://a.example/ x>")],
        [("List-Unsubscribe", "<javascript:alert(1)>")],
        [("List-Unsubscribe", "<https://a.example/>>")],
        [("List-Unsubscribe", "<https://a.example/>, ")],
        [("List-Unsubscribe", "<https://a.example/" + "x" * 2000 + ">")],
        [("List-Unsubscribe", "")],
        [("References", "<a@b>"), ("references", "<c@d>")],
    ],
)
def test_u5_list_headers_that_are_none(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Invalid):
        check_custom_headers(headers, "headers")


def test_unsubscribe_headers() -> None:
    uri = "https://mail.example/u/abc"
    assert unsubscribe_headers(uri) == (("List-Unsubscribe", f"<{uri}>"),)
    assert unsubscribe_headers(uri, one_click=True) == (
        ("List-Unsubscribe", f"<{uri}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    )
    for bad in ("https://a.example/\r\nBcc: x", "https://a.example/>", "ftp://a.example", "https://a b", ""):
        with pytest.raises(Invalid, match="list_unsubscribe"):
            unsubscribe_headers(bad)
    with pytest.raises(Invalid, match="https URI"):
        unsubscribe_headers("http://a.example/", one_click=True)


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nBcc", "Ż", "X\x00", "x" * 127])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Invalid, match="headers is not a valid header name"):
        check_header_name(name, "headers")
    with pytest.raises(Invalid):
        header_line(name, "x")


def test_message_ids() -> None:
    uid = "12345678-1234-5678-1234-567812345678"
    assert new_message_id(uid, "BÜCHER.example") == (
        "<12345678-1234-5678-1234-567812345678@xn--bcher-kva.example>"
    )
    assert is_message_id(new_message_id(uid, "example.com"))
    with pytest.raises(Invalid):
        new_message_id(uid, "example.com>\r\nBcc: x")
    assert not is_message_id("<a b>")
    assert not is_message_id("<a>\r\n")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)))
def test_dates(moment: datetime) -> None:
    us = int((moment - datetime(1970, 1, 1)).total_seconds()) * 1_000_000 + 999_999
    assert date_header(us) == format_datetime(to_datetime(us))
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000", date_header(us))
