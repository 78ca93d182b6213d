"""What compose writes, as the standard library reads it."""

from __future__ import annotations

import email
import time
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from email.utils import getaddresses
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.mail.attachments import clean_file_name
from postroom.mail.compose import compose, needs_eight_bit, needs_utf8, parts_size
from postroom.mail.content import Attachment, Content, Mailbox

ANN = Mailbox("ann@example.com", "Ann")
BOB = Mailbox("bob@example.org")
MESSAGE_ID = "<0190-1234@example.com>"
DATE_US = 1_700_000_000_000_000

_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=100)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.text(
    "ab .=\r\n\t\0é", max_size=2500
)
_MAILBOXES = st.lists(
    st.builds(
        Mailbox, st.sampled_from(["a@b.de", "a.b+c@bücher.example", '"a b"@c.de']), _LINE.map(str.strip)
    ),
    max_size=4,
).map(tuple)
_ATTACHMENTS = st.lists(
    st.builds(
        Attachment,
        _LINE,
        st.sampled_from(
            ["application/pdf", "text/csv; charset=utf-16", "message/rfc822", "broken", "image/png"]
        ),
        st.binary(max_size=300),
        st.sampled_from(["", "", "logo@x", "img_1"]),
    ),
    max_size=4,
).map(tuple)
CONTENTS = st.builds(
    Content,
    sender=st.builds(Mailbox, st.just("ann@example.com"), _LINE.map(str.strip)),
    to=_MAILBOXES,
    cc=_MAILBOXES,
    reply_to=_MAILBOXES,
    subject=_LINE,
    text=st.none() | _TEXT,
    html=st.none() | _TEXT,
    preheader=_LINE,
    headers=st.lists(st.tuples(st.sampled_from(["X-A", "X-Long-Name", "Comments"]), _LINE), max_size=3).map(
        tuple
    ),
    attachments=_ATTACHMENTS,
)


def composed(content: Content, extra: tuple[tuple[str, str], ...] = ()) -> bytes:
    return compose(content, message_id=MESSAGE_ID, date_us=DATE_US, extra_headers=extra)


def read(data: bytes) -> EmailMessage:
    return email.message_from_bytes(data, policy=default)


def lines_of(text: str) -> str:
    """The text as it must come back: line ends alike, and one at the end or none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def decoded(part: EmailMessage) -> str:
    data = cast(bytes, part.get_payload(decode=True))
    return lines_of(data.decode(part.get_content_charset("ascii")))


def assert_well_formed(data: bytes) -> None:
    assert data.isascii()
    assert data.endswith(b"\r\n")
    assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")
    assert b"\0" not in data
    assert max(map(len, data.split(b"\r\n"))) <= 998
    head = data.partition(b"\r\n\r\n")[0]
    assert all(line.strip() for line in head.split(b"\r\n"))
    names = [n.lower() for n in email.message_from_bytes(data).keys()]  # noqa: SIM118 (keeps duplicates)
    for name in ("date", "message-id", "from", "to", "subject", "mime-version", "content-type"):
        assert names.count(name) == 1 or (name == "to" and "cc" in names), name
    assert "bcc" not in names


@settings(derandomize=True, max_examples=250, deadline=None)
@given(CONTENTS)
def test_round_trip(content: Content) -> None:
    data = composed(content, (("X-Postroom-Ref", "r1"),))
    assert data == composed(content, (("X-Postroom-Ref", "r1"),))
    assert_well_formed(data)
    assert len(data) <= parts_size(content) + 30
    raw = email.message_from_bytes(data)
    assert not any(part.defects for part in raw.walk())
    assert raw["X-Postroom-Ref"] == "r1"
    assert raw["Message-ID"] == MESSAGE_ID

    def shown(value: str) -> str:
        return str(make_header(decode_header("".join(value.splitlines()))))

    assert shown(raw["Subject"]) == content.subject
    for field, boxes in (
        ("From", (content.sender,)),
        ("To", content.to),
        ("Cc", content.cc),
        ("Reply-To", content.reply_to),
    ):
        if boxes:
            got = getaddresses(["".join(raw[field].splitlines())])
            assert [a for _, a in got] == [b.address.replace("bücher", "xn--bcher-kva") for b in boxes]
            assert [shown(n).split() for n, _ in got] == [b.name.split() for b in boxes]
    assert [shown(v) for n, v in raw.items() if n in ("X-A", "X-Long-Name", "Comments")] == [
        v for _, v in content.headers
    ]
    message = read(data)
    leaves = [part for part in message.walk() if not part.is_multipart()]
    texts = [p for p in leaves if p.get_content_type() == "text/plain" and p.get_filename() is None]
    htmls = [p for p in leaves if p.get_content_type() == "text/html"]
    files = [p for p in leaves if p.get_filename() is not None]
    if content.text is not None:
        assert decoded(texts[0]) == lines_of(content.text)
    assert len(htmls) == (content.html is not None)
    if content.html is not None and not content.preheader:
        assert decoded(htmls[0]) == lines_of(content.html)
    inline_first = sorted(content.attachments, key=lambda a: not (a.content_id and content.html is not None))
    assert [p.get_payload(decode=True) for p in files] == [a.data for a in inline_first]
    assert [p.get_filename() for p in files] == [clean_file_name(a.name) for a in inline_first]
    assert [(p["Content-ID"] or "").strip("<>") for p in files] == [a.content_id for a in inline_first]


def structure(message: EmailMessage) -> object:
    kind = message.get_content_subtype()
    if not message.is_multipart():
        return kind
    return (kind, *[structure(cast(EmailMessage, part)) for part in message.iter_parts()])


PDF = Attachment("a.pdf", "application/pdf", b"%PDF")
LOGO = Attachment("l.png", "image/png", b"PNG", "logo")


@pytest.mark.parametrize(
    ("content", "tree"),
    [
        (Content(ANN, (BOB,), text="a"), "plain"),
        (Content(ANN, (BOB,), html="a"), "html"),
        (Content(ANN, (BOB,)), "plain"),
        (Content(ANN, (BOB,), text="a", html="b"), ("alternative", "plain", "html")),
        (Content(ANN, (BOB,), text="a", attachments=(PDF,)), ("mixed", "plain", "pdf")),
        (Content(ANN, (BOB,), attachments=(PDF,)), ("mixed", "pdf")),
        (Content(ANN, (BOB,), html="b", attachments=(LOGO,)), ("related", "html", "png")),
        (Content(ANN, (BOB,), text="a", attachments=(LOGO,)), ("mixed", "plain", "png")),
        (
            Content(ANN, (BOB,), text="a", html="b", attachments=(PDF, LOGO)),
            ("mixed", ("alternative", "plain", ("related", "html", "png")), "pdf"),
        ),
    ],
)
def test_the_tree_is_no_deeper_than_needed(content: Content, tree: object) -> None:
    assert structure(read(composed(content))) == tree


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("short lines\n" * 99, "7bit"),
        ("x" * 998, "7bit"),
        ("x" * 999, "quoted-printable"),
        ("Dzień dobry, to jest zwykły list o zamówieniu.\n" * 3, "quoted-printable"),
        ("ご注文の品を発送しました\n" * 3, "base64"),
        ("a\0b", "quoted-printable"),
        (".\n..\nFrom here", "7bit"),
        ("trailing blanks é  \n", "quoted-printable"),
    ],
)
def test_transfer_encoding(text: str, encoding: str) -> None:
    message = read(composed(Content(ANN, (BOB,), text=text)))
    assert message["Content-Transfer-Encoding"] == encoding
    assert decoded(message) == lines_of(text)


def test_encoded_lines_keep_to_76() -> None:
    for blanks in range(60, 90):
        for text in ("é" + "x" * blanks + " \nb", "é" + "x y" * blanks + "\t\n" * 3, "é" + " " * blanks):
            body = composed(Content(ANN, (BOB,), text=text)).partition(b"\r\n\r\n")[2]
            assert max(map(len, body.split(b"\r\n"))) <= 76


def test_a_boundary_that_stands_in_a_text_is_not_used() -> None:
    content = Content(ANN, (BOB,), text="a", html="b")
    taken = read(composed(content)).get_boundary()
    copied = msgspec.structs.replace(
        content, text=f"a\n--{taken}\nContent-Type: text/html\n\nevil\n--{taken}--"
    )
    message = read(composed(copied))
    assert message.get_boundary() != taken
    assert structure(message) == ("alternative", "plain", "html")


def test_nested_boundaries_differ_and_come_from_the_message_id() -> None:
    content = Content(ANN, (BOB,), text="a", html="b", attachments=(PDF, LOGO))
    marks = [p.get_boundary() for p in read(composed(content)).walk() if p.is_multipart()]
    assert len(set(marks)) == len({len(cast(str, m)) for m in marks}) + 2 == 3
    other = read(compose(content, message_id="<other@example.com>", date_us=DATE_US)).get_boundary()
    assert other not in marks


@pytest.mark.parametrize(
    ("html", "before"),
    [
        ("<p>hi</p>", ""),
        ("<!DOCTYPE html><html><head><title>t</title></head><BODY class='a>b' id=\"c>\">hi", 'id="c>">'),
        ("<!doctype html><p>hi", "<!doctype html>"),
        ("<html lang=en><head></head><p>hi", "</head>"),
        ("<!--[if mso]><body class='m'><![endif]--><body>hi", "<body>"),
        ("<!--[if !mso]><!--><body><!--<![endif]-->hi", "<body>"),
        ("<bodyguard><p>hi", ""),
        ("<!-- <body>", ""),
        ("<body", ""),
    ],
)
def test_preheader_is_the_first_hidden_element(html: str, before: str) -> None:
    content = Content(ANN, (BOB,), html=html, preheader='Save <b>50 %</b> & "more"')
    shown = decoded(read(composed(content)))
    place = html.index(before) + len(before)
    assert shown.startswith(html[:place] + '<div style="display:none')
    assert shown.endswith("Save &lt;b&gt;50 %&lt;/b&gt; &amp; &quot;more&quot;</div>" + html[place:])


def test_preheader_on_hostile_html_is_linear() -> None:
    for html in ("<body " * 200_000, "<!--" * 200_000, '<html a="' * 100_000, "<head>" * 200_000):
        began = time.process_time()
        composed(Content(ANN, (BOB,), html=html, preheader="x"))
        assert time.process_time() - began < 2


def test_nobody_in_to_or_cc() -> None:
    message = read(composed(Content(ANN, text="a")))
    assert message["To"] == "undisclosed-recipients:;"


def test_extra_headers_stand_on_top_and_replace() -> None:
    content = Content(ANN, (BOB,), text="a", headers=(("List-Unsubscribe", "<https://old/>"), ("X-A", "1")))
    data = composed(content, (("X-Postroom-Ref", "r"), ("List-Unsubscribe", "<https://new.example/>")))
    assert data.startswith(b"X-Postroom-Ref: r\r\nList-Unsubscribe: <https://new.example/>\r\nDate: ")
    assert b"old" not in data
    assert b"X-A: 1\r\n" in data


def test_utf8_only_where_an_address_needs_it() -> None:
    plain = Content(Mailbox("ann@bücher.example", "Żółć"), (BOB,), text="ż")
    assert not needs_utf8(plain)
    assert composed(plain).isascii()
    international = msgspec.structs.replace(plain, to=(Mailbox("żółć@bücher.example"),))
    assert needs_utf8(international)
    data = composed(international)
    assert "To: żółć@xn--bcher-kva.example\r\n".encode() in data
    assert not needs_eight_bit(international)


def test_message_attachments_are_not_taken_apart() -> None:
    inner = b"Subject: x\r\n\r\nhi"
    part = Attachment("m.eml", "message/rfc822", inner)
    message = read(composed(Content(ANN, (BOB,), text="a", attachments=(part,))))
    (got,) = message.iter_attachments()
    assert (got.get_content_type(), got.get_payload(decode=True)) == ("application/octet-stream", inner)


@pytest.mark.parametrize(
    "content",
    [
        Content(ANN, (BOB,), subject="a\r\nBcc: x@y.de"),
        Content(Mailbox("ann@example.com", "a\nBcc: x"), (BOB,)),
        Content(Mailbox("ann@example.com>\r\nBcc: <x@y.de"), (BOB,)),
        Content(ANN, (Mailbox("bob@example.org, eve@example.org"),)),
        Content(ANN, (BOB,), headers=(("X-A", "a\r\n\r\nbody"),)),
        Content(ANN, (BOB,), headers=(("X-A\r\nBcc", "x@y.de"),)),
        Content(ANN, (BOB,), headers=(("Bcc", "x@y.de"),)),
        Content(ANN, (BOB,), attachments=(Attachment("a", "a/b", b"", "x>\r\nX: y"),)),
    ],
)
def test_injection_is_impossible_whatever_was_checked_before(content: Content) -> None:
    with pytest.raises(Invalid):
        composed(content)


def test_hostile_attachment_names_and_types_stay_in_their_header() -> None:
    part = Attachment('a"\r\nBcc: x@y.de\r\n\r\n', 'text/html"; x\r\nX-Evil: 1', b"data")
    data = composed(Content(ANN, (BOB,), text="a", attachments=(part,)))
    assert_well_formed(data)
    assert b"X-Evil" not in data
    assert read(data)["Bcc"] is None


def test_lone_surrogates_in_a_body_do_no_harm() -> None:
    assert decoded(read(composed(Content(ANN, (BOB,), text="a\ud800b")))) == "a?b"


def test_bad_message_id() -> None:
    for bad in ("", "a@b", "<a>\r\nBcc: x", "<a b>"):
        with pytest.raises(Invalid, match="message_id"):
            compose(Content(ANN), message_id=bad, date_us=0)


def test_composing_is_fast() -> None:
    line = "The quick brown fox jumps over the lazy dog, again and again.\n"
    content = Content(ANN, (BOB,), subject="Your order", text=line * 50, html=f"<p>{line}</p>" * 100)
    best = 1.0
    for _ in range(30):
        began = time.process_time()
        composed(content)
        best = min(best, time.process_time() - began)
    # About 0.1 ms on a desktop core; the limit only catches a change of order.
    assert best < 0.002
