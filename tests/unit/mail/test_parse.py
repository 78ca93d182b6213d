"""Parsing what comes from outside: never an exception, always within limits."""

from __future__ import annotations

import email
import time
from email.policy import default

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.mail.attachments import clean_file_name
from postroom.mail.compose import compose
from postroom.mail.content import Attachment, Content, Mailbox
from postroom.mail.mime import Limits, parse_parameters, walk
from postroom.mail.parse import Parsed, lenient_mailboxes, parse
from tests.unit.mail.test_compose import ANN, CONTENTS, LOGO, MESSAGE_ID, PDF, lines_of


@settings(derandomize=True, max_examples=200, deadline=None)
@given(CONTENTS)
def test_what_we_compose_is_read_back(content: Content) -> None:
    parsed = parse(compose(content, message_id=MESSAGE_ID, date_us=0))
    assert parsed.subject == content.subject.strip(" \t")
    assert parsed.message_id == MESSAGE_ID
    assert not parsed.defects
    assert [(b.address, b.name.split()) for b in parsed.to] == (
        [(b.address.replace("bücher", "xn--bcher-kva"), b.name.split()) for b in content.to]
    )
    if content.text is not None:
        assert parsed.text is not None
        assert parsed.text.removesuffix("\n") == lines_of(content.text).replace("\0", "\ufffd")
    assert sorted(a.size_bytes for a in parsed.attachments) == sorted(
        len(a.data) for a in content.attachments
    )
    assert {a.name for a in parsed.attachments} == {clean_file_name(a.name) for a in content.attachments}


def test_a_whole_message() -> None:
    content = Content(
        Mailbox("ann@example.com", "Żółć, Ann"),
        (Mailbox("bob@example.org"),),
        text="hi",
        html="<p>hi",
        attachments=(PDF, LOGO),
    )
    parsed = parse(compose(content, message_id=MESSAGE_ID, date_us=0, extra_headers=(("X-A", "1"),)))
    assert parsed.sender == (Mailbox("ann@example.com", "Żółć, Ann"),)
    assert parsed.headers[0] == ("X-A", "1")
    assert (parsed.text, parsed.html) == ("hi", "<p>hi")
    assert [(a.name, a.content_type, a.size_bytes, a.content_id) for a in parsed.attachments] == [
        ("l.png", "image/png", 3, "logo"),
        ("a.pdf", "application/pdf", 4, ""),
    ]
    parts, _ = walk(compose(content, message_id=MESSAGE_ID, date_us=0), Limits())
    assert [parts[a.part].decoded() for a in parsed.attachments] == [b"PNG", b"%PDF"]


def nested(depth: int) -> bytes:
    head = b"Subject: deep\r\n"
    opening = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth)
    )
    return head + opening + b"\r\ncore\r\n"


@pytest.mark.parametrize("depth", [51, 2_000, 100_000])
def test_m1_deep_nesting_is_refused_in_time(depth: int) -> None:
    began = time.process_time()
    parsed = parse(nested(depth))
    assert time.process_time() - began < 2
    assert "multiparts are nested too deep" in parsed.defects
    assert parsed.subject == "deep"


def test_m1_fifty_levels_are_read() -> None:
    parsed = parse(nested(50))
    assert parsed.text == "core\n"
    assert "multiparts are nested too deep" not in parsed.defects


def test_m2_many_parts_are_cut() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000 + b"--b--\r\n"
    began = time.process_time()
    parsed = parse(data)
    assert time.process_time() - began < 1
    assert "has too many parts" in parsed.defects
    assert len(parsed.attachments) < 1000


def test_m3_nested_messages_are_not_opened() -> None:
    data = b"Content-Type: message/rfc822\r\n\r\n" * 3_000 + b"Subject: x\r\n\r\nhi"
    assert [a.content_type for a in parse(data).attachments] == ["message/rfc822"]


def test_m4_boundaries_that_are_prefixes_or_the_parents() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\ninner\r\n--bb--\r\n"
        b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\nx\r\n--b--\r\n"
    )
    assert parse(data).text == "inner"


@pytest.mark.parametrize(
    "boundary", [b"", b"; boundary=", b'; boundary=""', b"; boundary=" + b"x" * 1000, b'; boundary="a']
)
def test_m5_no_usable_boundary_keeps_the_text(boundary: bytes) -> None:
    parsed = parse(b"Subject: s\r\nContent-Type: multipart/mixed" + boundary + b"\r\n\r\nkept")
    assert parsed.text == "kept"
    assert parsed.defects


def test_m5_no_closing_boundary() -> None:
    parsed = parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext")
    assert parsed.text == "text"
    assert parsed.defects == ("multipart has no end",)


def test_m6_thousands_of_continuations() -> None:
    value = b"".join(b"; filename*%d*=a" % n for n in range(5_000))
    began = time.process_time()
    parsed = parse(b"Content-Disposition: attachment" + value + b"\r\n\r\nx")
    assert time.process_time() - began < 0.5
    assert len(parsed.attachments[0].name) <= 200


def test_m7_twenty_thousand_recipients() -> None:
    value = b", ".join(b'"N %d" <u%d@example.com>' % (n, n) for n in range(20_000))
    began = time.process_time()
    parsed = parse(b"To: " + value[:250_000] + b"\r\n\r\nx")
    assert time.process_time() - began < 1
    assert len(parsed.to) == 1000


@pytest.mark.parametrize(
    "value", ['"', '\\"' * 50_000, '"\\' * 50_000, "(" * 50_000, "<" * 50_000, "a" * 100_000, ",:;" * 30_000]
)
def test_r1_address_fields_are_read_in_linear_time(value: str) -> None:
    began = time.process_time()
    lenient_mailboxes(value, 1000)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        (b"base64", b"aG!k=\r\n", "hi"),
        (b"base64", b"aGk", "hi"),
        (b"base64", b"a", ""),
        (b"BASE64 ", b"aG k=", "hi"),
        (b"quoted-printable", b"a=20b=\r\nc=ZZ", "a bc=ZZ"),
        (b"x-unknown", b"as it is", "as it is"),
        (b"8bit", "ż".encode(), "ż"),
        (b"8bit", b"caf\xe9", "café"),
    ],
)
def test_m8_transfer_encodings_best_effort(encoding: bytes, body: bytes, text: str) -> None:
    assert parse(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body).text == text


@pytest.mark.parametrize(
    "charset", ["nope", "zlib_codec", "unicode_escape", "undefined", "a\0b", "x" * 500, '"']
)
def test_m9_hostile_charsets(charset: str) -> None:
    data = f"Content-Type: text/plain; charset={charset}\r\n\r\nzażółć".encode()
    assert parse(data).text == "zażółć"


def test_m10_broken_fields_are_kept_as_they_are() -> None:
    parsed = parse(b"Message-ID: <\r\nFrom: nobody\r\nTo: <\r\nContent-Type: ;;;\r\nDate: x\r\n\r\n")
    assert parsed.message_id == "<"
    assert parsed.sender == (Mailbox("nobody"),)
    assert parsed.to == (Mailbox("<"),)


def test_m12_the_first_of_two_counts_and_is_named() -> None:
    parsed = parse(b"Subject: one\r\nSubject: two\r\nFrom: a@b.de\r\nFROM: e@vil.de\r\n\r\n")
    assert (parsed.subject, parsed.sender) == ("one", (Mailbox("a@b.de"),))
    assert parsed.defects == ("has more than one Subject", "has more than one FROM")


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"body only", b"Subject: x", b"From a Mon\nSubject: x\n\n", b"\0\xff\xfe"]
)
def test_m15_odd_messages(data: bytes) -> None:
    parsed = parse(data)
    assert isinstance(parsed, Parsed)
    assert parsed.subject in ("", "x")


def test_m18_m19_nothing_a_database_refuses() -> None:
    data = b"Subject: a\0\xed\xa0\x80 =?utf-8?q?=00=0A?=\r\nX-\0: y\r\n\r\na\0b"
    parsed = parse(data)
    everything = repr(parsed.headers) + parsed.subject + (parsed.text or "")
    assert "\0" not in everything
    everything.encode("utf-8")
    assert parsed.subject.endswith("\ufffd\ufffd")


def test_huge_headers_are_cut() -> None:
    parsed = parse(b"Subject: s\r\n" + b"X: y\r\n" * 100_000 + b"\r\nbody")
    assert {"header is too large", "has too many headers"} == set(parsed.defects)
    assert (parsed.subject, parsed.text, len(parsed.headers)) == ("s", "body", 1000)


def test_e1_parts_are_never_glued() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<img src='\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\nsecret\r\n--b--\r\n"
    )
    parsed = parse(data)
    assert parsed.html == "<img src='"
    assert [a.content_type for a in parsed.attachments] == ["text/html"]


@pytest.mark.parametrize(
    ("value", "boxes"),
    [
        ("a@b.de", [("a@b.de", "")]),
        ("Ann <a@b.de>, Bob <c@d.de>", [("a@b.de", "Ann"), ("c@d.de", "Bob")]),
        ('"Lee, \\"A\\"" <a@b.de>', [("a@b.de", 'Lee, "A"')]),
        ("team: a@b.de, c@d.de;, e@f.de", [("a@b.de", ""), ("c@d.de", ""), ("e@f.de", "")]),
        ("undisclosed-recipients:;", []),
        ("a@b.de (Ann (x))", [("a@b.de", "")]),
        ("=?utf-8?q?a=2C_b?= <a@b.de>", [("a@b.de", "a, b")]),
        ("=?utf-8?q?a=0D=0Ab?= <a@b.de>", [("a@b.de", "a\ufffd\ufffdb")]),
        ("Ann <a@b.de", [("Ann <a@b.de", "")]),
        ("", []),
        (", ,", []),
    ],
)
def test_lenient_mailboxes(value: str, boxes: list[tuple[str, str]]) -> None:
    assert lenient_mailboxes(value, 100) == tuple(Mailbox(a, n) for a, n in boxes)


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        ('text/plain; charset="utf-8"; Name=a', {"charset": "utf-8", "name": "a"}),
        (r'x/y; name="a \" ; b"', {"name": 'a " ; b'}),
        ("x/y; name*=utf-8'en'%C5%BC", {"name": "ż"}),
        ("x/y; name*0*=iso-8859-1''%E9; name*1=b%20", {"name": "éb%20"}),
        ("x/y; name*1=b; name*0=a", {"name": "ab"}),
        ('x/y; name="open', {"name": "open"}),
    ],
)
def test_parameters(value: str, parameters: dict[str, str]) -> None:
    assert parse_parameters(value, Limits())[1] == parameters


_PIECES = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"--b",
    b"--",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"; name=",
    b"*0*=",
]
_PIECES += [
    b"Content-Type: text/html; charset=",
    b"Content-Transfer-Encoding: base64\r\n",
    b"=?utf-8?b?",
    b"?=",
    b"\xff",
    b"\0",
]
_PIECES += [b"To: ", b"<a@b>", b'"', b"(", b"\\", b"Subject: ", b"message/rfc822", b"utf-16", b" "]


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join))
def test_never_raises(data: bytes) -> None:
    parsed = parse(data, Limits(depth=3, parts=5, text_bytes=50))
    repr(parsed).encode("utf-8")
    assert len(parsed.attachments) <= 5


def test_foreign_messages_are_read_as_the_standard_library_does() -> None:
    message = email.message.EmailMessage()
    message["Subject"] = "Zażółć gęślą jaźń " * 8
    message["From"] = "Jörg <j@example.com>"
    message.set_content("Grüße\n")
    message.add_alternative("<p>Grüße</p>\n", subtype="html")
    message.add_attachment(b"data", maintype="application", subtype="pdf", filename="żółć.pdf")
    parsed = parse(message.as_bytes(policy=default))
    assert parsed.subject == str(message["Subject"]).strip()
    assert parsed.sender == (Mailbox("j@example.com", "Jörg"),)
    assert (parsed.text, parsed.html) == ("Grüße\n", "<p>Grüße</p>\n")
    assert [a.name for a in parsed.attachments] == ["żółć.pdf"]


def test_an_attachment_can_be_the_whole_message() -> None:
    part = Attachment("a.pdf", "application/pdf", b"%PDF")
    data = compose(Content(ANN, attachments=(part,)), message_id=MESSAGE_ID, date_us=0)
    assert parse(data).text is None
    assert parse(b"Content-Type: application/pdf; name=a.pdf\r\n\r\nx").attachments[0].name == "a.pdf"
