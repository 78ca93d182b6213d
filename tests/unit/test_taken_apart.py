"""Messages of other programs in parts, composed again, and what is left whole."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest

from postroom.mail.compose import compose
from postroom.mail.content import Attachment, Content, Mailbox
from postroom.mail.taken_apart import Apart, take_apart

PICTURE = bytes(range(256))


def message(**fields: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in {
        "From": "Shop <shop@example.com>",
        "To": "Zo\u00eb <zoe@example.net>, bob@example.net",
        "Subject": "Gr\u00fc\u00dfe",
        "Message-ID": "<1@example.com>",
        "X-Shop": "a caf\u00e9",
        **fields,
    }.items():
        made[name.replace("_", "-")] = value
    return made


def full() -> EmailMessage:
    """Everything there is: both bodies, a picture in the HTML, two files beside it."""
    made = message(Cc="carl@example.net", Reply_To="help@example.com", References="<0@example.com>")
    made.set_content("Hello,\n\ncaf\u00e9 " + "x" * 2000 + "\n")
    made.add_alternative('<p>Hello <img src="cid:logo@example.com"></p>\n', subtype="html")
    html = made.get_body(("html",))
    assert isinstance(html, EmailMessage)
    html.add_related(PICTURE, "image", "png", cid="<logo@example.com>", filename="logo.png")
    made.add_attachment(PICTURE, "application", "octet-stream", filename="\u00fc.dat")
    made.add_attachment("a,b\n", subtype="csv", filename="a.csv")
    return made


def as_sent(made: EmailMessage) -> bytes:
    return made.as_bytes(policy=email.policy.SMTP)


def composed(apart: Apart) -> EmailMessage:
    content = Content(
        Mailbox("shop@example.com", "Shop"), apart.to, apart.cc, apart.reply_to, "Gr\u00fc\u00dfe",
        text=apart.text, html=apart.html, headers=apart.headers, attachments=apart.attachments,
    )  # fmt: skip
    data = compose(content, message_id="<1@example.com>", date_us=0)
    return email.message_from_bytes(data, policy=email.policy.default)


def leaves(made: EmailMessage) -> list[tuple[object, ...]]:
    """What a reader sees of it, in order."""
    return [
        (part.get_content_type(), part.get_filename(), part["Content-ID"], part.get_content())
        for part in made.walk()
        if not part.is_multipart()
    ]


def test_everything_comes_back() -> None:
    sent = email.message_from_bytes(as_sent(full()), policy=email.policy.default)
    apart = take_apart(as_sent(full()))
    assert apart is not None
    again = composed(apart)
    assert leaves(again) == leaves(sent)
    for name in ("From", "To", "Cc", "Reply-To", "Subject", "Message-ID", "X-Shop", "References"):
        assert again[name] == sent[name], name
    assert apart.message_id == "<1@example.com>"
    assert apart.to == (Mailbox("zoe@example.net", "Zo\u00eb"), Mailbox("bob@example.net"))


def test_one_body_alone() -> None:
    plain, html = message(), message()
    plain.set_content("Hello\n")
    html.set_content("<p>Hello</p>\n", subtype="html")
    one, other = take_apart(as_sent(plain)), take_apart(as_sent(html))
    assert one is not None
    assert other is not None
    assert (one.text, one.html) == ("Hello\n", None)
    assert (other.text, other.html) == (None, "<p>Hello</p>\n")
    assert take_apart(b"From: a@example.com\r\n\r\nNo type at all\r\n") is not None
    assert take_apart(b"From: a@example.com\r\nTo: undisclosed-recipients:;\r\n\r\nx\r\n") is not None


HEAD = b"From: a@example.com\r\nMIME-Version: 1.0\r\n"


def typed(kind: bytes, body: bytes, *more: bytes) -> bytes:
    return HEAD + b"".join(one + b"\r\n" for one in more) + b"Content-Type: " + kind + b"\r\n\r\n" + body


def multipart(kind: bytes, *parts: bytes) -> bytes:
    whole = b"".join(b"--b\r\n" + one + b"\r\n" for one in parts) + b"--b--\r\n"
    return typed(b"multipart/" + kind + b"; boundary=b", whole)


TEXT, HTML = b"Content-Type: text/plain\r\n\r\nHello", b"Content-Type: text/html\r\n\r\n<p>Hello"
FILE = b"Content-Type: a/b; name=x\r\nContent-Disposition: attachment\r\n\r\nx"


def test_flowed_text_is_in_paragraphs() -> None:
    body = b"One \r\nline.\r\n\r\n stuffed\r\n-- \r\nAnn\r\n"
    for parameters, text in (
        (b"format=flowed", "One line.\n\nstuffed\n-- \nAnn\n"),
        (b"format=Flowed; delsp=yes", "Oneline.\n\nstuffed\n-- \nAnn\n"),
    ):
        apart = take_apart(typed(b"text/plain; " + parameters, body))
        assert apart is not None
        assert apart.text == text


def test_a_files_content_id_counts_where_the_html_shows_it() -> None:
    named = FILE.replace(b"\r\n\r\n", b"\r\nContent-ID: <1@x>\r\n\r\n")
    shown = multipart(b"mixed", b'Content-Type: text/html\r\n\r\n<img src="cid:1@x">', named)
    for raw, content_id in ((shown, "1@x"), (multipart(b"mixed", HTML, named), "")):
        apart = take_apart(raw)
        assert apart is not None
        assert apart.attachments == (Attachment("x", "a/b", b"x", content_id),)


@pytest.mark.parametrize(
    "raw",
    [
        multipart(b"signed", TEXT, FILE),
        multipart(b"encrypted", FILE, FILE),
        multipart(b"report", TEXT, FILE),
        multipart(b"mixed", TEXT, TEXT),
        multipart(b"mixed", TEXT, HTML),
        multipart(b"mixed", FILE, TEXT),
        multipart(b"mixed", FILE),
        multipart(b"mixed", TEXT, b"Content-Type: message/rfc822; name=x\r\n\r\nFrom: b@example.com\r\n\r\n"),
        multipart(b"mixed", TEXT, b"Content-Type: text/calendar; name=x\r\n\r\nBEGIN:VCALENDAR"),
        multipart(b"mixed", TEXT, FILE.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: x-uue\r\n\r\n")),
        multipart(b"alternative", HTML, TEXT),
        multipart(b"alternative", TEXT, TEXT),
        multipart(b"alternative", TEXT, HTML, b"Content-Type: text/x-amp-html\r\n\r\n<html amp4email>"),
        multipart(b"related", TEXT, FILE),
        multipart(b"related; start=\"<2@x>\"", HTML, FILE),
        multipart(b"related", HTML, FILE),
        multipart(b"mixed", TEXT).replace(b"--b--", b""),
        typed(b"text/plain; charset=x-unknown", b"Hello\r\n"),
        typed(b"text/plain; charset=utf-8", b"\xff\r\n"),
        typed(b"text/plain", b"caf\xc3\xa9\r\n"),
        typed(b"text/plain; format=flowed", b"> quoted \r\n> text\r\n"),
        typed(b"application/pkcs7-mime; name=smime.p7m", b"x\r\n"),
        typed(b"text/plain", b"x\r\n", b"Received: by relay.example"),
        typed(b"text/plain", b"x\r\n", b"DKIM-Signature: v=1"),
        typed(b"text/plain", b"x\r\n", b"Sender: b@example.com"),
        typed(b"text/plain", b"x\r\n", b"To: a@example.net", b"To: b@example.net"),
        typed(b"text/plain", b"x\r\n", b"To: friends: a@example.net;"),
        typed(b"text/plain", b"x\r\n", b"Reply-To: nobody"),
        typed(b"text/plain", b"x\r\n", b"X-A: =?utf-8?q?a=0D=0AB:_c?="),
    ],
)  # fmt: skip
def test_h3_what_would_become_another_message_stays_whole(raw: bytes) -> None:
    assert take_apart(raw) is None
