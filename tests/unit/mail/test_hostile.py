"""Hostile headers, addresses and file names: cases H1-H7, A1-A7 and F2 of the hostile-input list."""

from __future__ import annotations

import email
import time

import pytest

from postroom.errors import Invalid
from postroom.mail.address import (
    is_mixed_script,
    parse_address,
    parse_domain,
    parse_mailbox,
    parse_mailbox_list,
)
from postroom.mail.attachments import check_attachment, clean_file_name
from postroom.mail.compose import compose
from postroom.mail.content import Attachment, Content, Mailbox
from postroom.mail.headers import address_line, check_custom_headers, check_header_value, header_line
from postroom.mail.parse import parse
from postroom.mail.words import check_text

ANN = Mailbox("ann@example.com")
BREAKS = ["\r", "\n", "\r\n", "\x00", "\u2028", "\u2029", "\x85", "\x0b", "\x0c"]


def composed(content: Content) -> bytes:
    return compose(content, message_id="<a@example.com>", date_us=0)


@pytest.mark.parametrize("bad", BREAKS)
def test_h1_line_breaks_are_refused_by_the_name_of_the_field(bad: str) -> None:
    text = f"a{bad}Bcc: eve@evil.example"
    with pytest.raises(Invalid, match=r"^subject must not contain"):
        check_text(text, "subject")
    with pytest.raises(Invalid, match=r"^from"):
        parse_mailbox(f'"{text}" <ann@example.com>', "from")
    with pytest.raises(Invalid, match=r"^headers is not a valid header name"):
        check_custom_headers([(f"X-A{bad}", "1")], "headers")
    with pytest.raises(Invalid, match=r"^headers header 'X-A' must not contain"):
        check_custom_headers([("X-A", text)], "headers")
    with pytest.raises(Invalid, match=r"^attachments must not contain"):
        check_attachment(f"a{bad}.pdf", "application/pdf", "", "attachments")
    for content in (
        Content(ANN, (ANN,), subject=text),
        Content(Mailbox("ann@example.com", text), (ANN,)),
        Content(ANN, (ANN,), headers=(("X-A", text),)),
    ):
        with pytest.raises(Invalid):
            composed(content)


@pytest.mark.parametrize(
    "name",
    [
        "Bcc",
        "From",
        "Sender",
        "DKIM-Signature",
        "Return-Path",
        "Received",
        "Message-ID",
        "Content-Type",
        "X-Postroom-Internal",
        "content-disposition",
        "ARC-Message-Signature",
        "bcc",
    ],
)
def test_h2_headers_that_are_not_the_callers(name: str) -> None:
    with pytest.raises(Invalid, match=name):
        check_custom_headers([(name, "x")], "headers")
    with pytest.raises(Invalid):
        composed(Content(ANN, (ANN,), headers=((name, "x"),)))


@pytest.mark.parametrize(
    "word",
    [
        "=?utf-8?q?a=0D=0ABcc:eve@evil.example?=",
        "=?utf-8?b?YQ0KQmNjOiBlQGV2aWw=?=",
        "=?utf-8?q?=E2=80=A8?=",
        "=?utf-8?q?=00?=",
        "=?utf-7?q?+AA0ACg-?= =?utf-16-be?b?AA0ACg==?=",
        "=?utf-8?q?a=0D?= =?utf-8?q?=0Ab?=",
    ],
)
def test_h3_encoded_words_that_hide_newlines(word: str) -> None:
    with pytest.raises(Invalid, match="hides a character"):
        check_text(word, "subject")
    with pytest.raises(Invalid, match="hides a character"):
        check_header_value(word, "headers")
    with pytest.raises(Invalid):
        parse_mailbox(f"{word} <ann@example.com>", "from")
    with pytest.raises(Invalid):
        parse_mailbox(f'"{word}" <ann@example.com>', "from")
    # Never checked, it is shown letter by letter and decoded by nobody.
    message = email.message_from_bytes(
        composed(Content(Mailbox("ann@example.com", word), (ANN,), subject=word))
    )
    assert message["Bcc"] is None
    assert parse(message.as_bytes()).subject == word


def test_h4_too_much_header() -> None:
    with pytest.raises(Invalid, match="larger than 102400 bytes"):
        check_custom_headers([("X-A", "x" * 102_400)], "headers")
    with pytest.raises(Invalid, match="larger than 102400 bytes"):
        check_custom_headers([(f"X-{n}", "ż" * 1000) for n in range(60)], "headers")
    with pytest.raises(Invalid, match="more than 200 headers"):
        check_custom_headers([(f"X-{n}", "1") for n in range(1000)], "headers")
    assert len(check_custom_headers([(f"X-{n}", "1") for n in range(200)], "headers")) == 200


def test_h5_two_hundred_names_fold_right() -> None:
    boxes = [Mailbox(f"user{n}@example.com", f"Żółć {n} 漢字 " + "é" * (n % 90 + 1)) for n in range(200)]
    field = address_line("To", boxes)
    assert max(map(len, field.split("\r\n"))) <= 78
    assert field.isascii()
    began = time.process_time()
    assert list(parse(field.encode("ascii") + b"\r\nx").to) == boxes
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("field", ["helo_name", "bounce_domain", "return_path_domain", "proxy_host"])
@pytest.mark.parametrize(
    "bad",
    ["mail example.com", "mail.example.com\r\nRCPT TO:<x>", "a\x00", " ", "a>b", "a\u2028b", "[1.2.3.4]"],
)
def test_h6_h8_settings_that_end_up_in_a_command(field: str, bad: str) -> None:
    with pytest.raises(Invalid, match=f"^{field} is not a valid domain name"):
        parse_domain(bad, field)


@pytest.mark.parametrize(
    "bad",
    ["a\r@b.de", "a@b.de\r\nDATA", '"a\r\nb"@c.de', "a@b.de>", "x@y.de\0", "a@b.de SIZE=1", "<a@b.de> X"],
)
def test_h7_no_address_carries_more_than_itself_into_a_command(bad: str) -> None:
    with pytest.raises(Invalid):
        parse_address(bad, "to")


@pytest.mark.parametrize(
    "text",
    [
        "alice@trusted.com)bob@evil.com",
        "a@b@c",
        '"a@evil.com x"@ours',
        "<a@b>,c@d",
        "a@b,c@d",
        "a@b c@d",
        "a@b;c@d",
        "alice@trusted.com(@evil.com)",
        "alice@trusted.com\\@evil.com",
        "alice@trusted.com\x00@evil.com",
    ],
)
def test_a1_one_field_one_address(text: str) -> None:
    with pytest.raises(Invalid):
        parse_address(text, "to")
    with pytest.raises(Invalid):
        parse_mailbox(text, "to")


@pytest.mark.parametrize("local", ['"a b"', '"a,b"', r'"a\"b"', '"<a>"', '"a;b:c"'])
def test_a2_quoted_local_parts_stay_quoted(local: str) -> None:
    text = f"{local}@example.com"
    assert parse_address(text, "to").wire == text
    assert parse_mailbox_list(f"x@y.de, {text}", "to", 2)[1].address == text
    assert f"To: {text}\r\n".encode("ascii") in composed(Content(ANN, (Mailbox(text),)))


@pytest.mark.parametrize(
    "text", ["(" * 5000, "(" * 5000 + ")" * 5000 + "a@b.de", "a:" * 5000, '"' * 5000, "a@" * 5000, "<" * 5000]
)
def test_a3_nesting_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    for parser in (parse_address, parse_mailbox):
        with pytest.raises(Invalid):
            parser(text, "to")
    with pytest.raises(Invalid):
        parse_mailbox_list(text, "to", 9)
    assert time.process_time() - began < 0.15


def test_a4_lengths() -> None:
    assert parse_address("x" * 64 + "@example.com", "to")
    assert parse_address("x@" + "y" * 63 + ".com", "to")
    long_domain = ".".join(["y" * 61] * 4)  # 247
    assert len(parse_address(f"{'x' * 6}@{long_domain}", "to").wire) == 254
    for bad in (
        "x" * 65 + "@example.com",
        "ż" * 33 + "@example.com",
        "x@" + "y" * 64 + ".com",
        "x@" + "ü" * 60 + ".com",
        "x@" + ".".join(["y" * 63] * 4),
        f"{'x' * 7}@{long_domain}",
        "x@" + "y." * 50_000 + "com",
    ):
        with pytest.raises(Invalid, match=r"longer than|characters? that"):
            parse_address(bad, "to")


def test_a5_imitated_domains_are_stored_as_a_labels_and_noticed() -> None:
    address = parse_address("ann@p\u0430ypal.com", "from")
    assert address.ascii_domain == "xn--pypal-4ve.com"
    assert address.key == "ann@xn--pypal-4ve.com"
    assert is_mixed_script(address.domain)


@pytest.mark.parametrize(
    "name",
    [
        "=?utf-8?b?cG90dXNAd2hpdGVob3VzZS5nb3YA?=",
        "=?utf-8?q?potus=40whitehouse.gov=0A?=",
        "=?utf-8?q?potus=40whitehouse.gov=00?=",
    ],
)
def test_a6_names_that_hide_the_real_address(name: str) -> None:
    with pytest.raises(Invalid):
        parse_mailbox(f"{name} <eve@evil.example>", "from")
    shown = parse(f"From: {name} <eve@evil.example>\r\n\r\nx".encode()).sender
    assert [box.address for box in shown] == ["eve@evil.example"]
    assert shown[0].name == "potus@whitehouse.gov\ufffd"


def test_a7_from_that_is_not_one_mailbox() -> None:
    for text in ("", "a@b.de, c@d.de, e@f.de", "team: a@b.de;", "undisclosed-recipients:;", " "):
        with pytest.raises(Invalid):
            parse_mailbox(text, "from")
    parsed = parse(b"From: a@b.de, c@d.de, e@f.de\r\nFrom: x@y.de\r\n\r\n")
    assert len(parsed.sender) == 3
    assert "has more than one From" in parsed.defects


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("a\x00b.txt", "ab.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("/", "attachment"),
        ("...", "attachment"),
        ("x" * 10_000 + ".txt", "x" * 196 + ".txt"),
    ],
)
def test_f2_file_names_are_never_paths(name: str, shown: str) -> None:
    assert clean_file_name(name) == shown
    data = composed(Content(ANN, (ANN,), text="a", attachments=(Attachment(name, "a/b", b""),)))
    (attachment,) = parse(data).attachments
    assert attachment.name == shown


def test_no_header_line_can_hold_a_second_one() -> None:
    for bad in BREAKS:
        with pytest.raises(Invalid):
            header_line("X-A", f"a{bad}Bcc: x")
