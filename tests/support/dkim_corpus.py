"""Signed messages of all shapes for verifiers to judge, always the same, and what a relay may do to them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from postroom.mail.compose import compose
from postroom.mail.content import Attachment, Content, Mailbox
from postroom.mail.dkim import Signer, sign
from postroom.mail.dkim_keys import Algorithm, PrivateKey, public_text, read_pem, record_value

RSA_PEM = Path(__file__).resolve().parents[1] / "corpus" / "dkim" / "rsa.pem"
AT_US = 1_763_733_600_000_000
COUNT = 500
DOMAINS = ("example.com", "mail.example.com", "xn--bcher-kva.example")
_TEXTS = ("Hi Bob.\n", "", "\n\n\n", " \n", "two  blanks\tand tabs \t\nnext\n \n\n", "Grüße aus Köln\n" * 9)
_LONG = ("word " * 500, "x" * 3_000 + "\n.\n..\n", "日本語のメール" * 300)
_BODIES = (
    b"Gr\xfc\xdfe  \t\r\n.\r\n",
    b"",
    b"\r\n\r\n",
    b" \t \r\n",
    b"a" * 2_000 + b"\t" * 500 + b"\r\n",
    bytes(range(1, 256)),
    b"no line end",
)


@dataclass(frozen=True)
class Signed:
    """One message with its signatures on top."""

    number: int
    data: bytes


@cache
def key_of(algorithm: Algorithm) -> PrivateKey:
    """Always the same one, so that what it signs is too."""
    if algorithm is Algorithm.RSA:
        return read_pem(RSA_PEM.read_bytes())
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@cache
def signers_of(domain: str) -> tuple[Signer, ...]:
    """Both kinds, as a domain with both has it."""
    return tuple(Signer(domain, f"{one}.2025", one, key_of(one)) for one in Algorithm)


@cache
def records() -> dict[str, str]:
    """What stands in DNS."""
    return {
        one.name: record_value(one.algorithm, public_text(one.key))
        for domain in DOMAINS
        for one in signers_of(domain)
    }


@cache
def corpus() -> tuple[Signed, ...]:
    """500 of them."""
    return tuple(_messages())


def _messages() -> Iterator[Signed]:
    chance = random.Random(20251121)
    for number in range(COUNT):
        content = _raw(chance) if number % 4 == 3 else _parts(chance)
        message = compose(content, message_id=f"<{number}@example.com>", date_us=AT_US + number)
        rewritten = ("message-id", "date") if number % 5 == 4 else ()
        signers = signers_of(chance.choice(DOMAINS))
        fields = sign(message, signers, at_us=AT_US, rewritten=rewritten)
        yield Signed(number, fields + message)


def _parts(chance: random.Random) -> Content:
    names = ("Ann", "", "Änne, Köchin", "A" * 150, '"quoted"')
    local = chance.choice(("ann", "änne", "a.b+c"))
    everyone = tuple(
        Mailbox(f"r{n}@bücher.example", chance.choice(names)) for n in range(chance.choice((1, 1, 2, 40)))
    )
    html = chance.choice((None, "<p>Hi  Bob</p>\n", "<p>Grüße</p>" * 300))
    return Content(
        Mailbox(f"{local}@example.com", chance.choice(names)),
        everyone,
        cc=everyone[:1] if chance.random() < 0.2 else (),
        reply_to=(Mailbox("reply@example.com"),) if chance.random() < 0.3 else (),
        subject=chance.choice(("Hello", "", "Grüße  an alle", "word " * 60, "日本語" * 40, "a  b\tc")),
        text=chance.choice((*_TEXTS, *_LONG)),
        html=html,
        headers=chance.choice(
            (
                (),
                (
                    ("List-Unsubscribe", "<https://m.example.com/u/abc>, <mailto:off@example.com>"),
                    ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
                ),
                (("References", "<one@example.com> " * 30), ("X-Mine", "a  b")),
            )
        ),
        attachments=(Attachment("März.pdf", "application/pdf", chance.randbytes(700)),)
        if chance.random() < 0.2
        else (),
    )


def _raw(chance: random.Random) -> Content:
    """What a client composed itself, with all that is allowed."""
    head = [
        chance.choice((b"From: Ann <ann@example.com>", b"FROM:\tann@example.com", b"from:ann@example.com")),
        chance.choice((b"To: bob@example.org", b"To: bob@example.org,\r\n\t  eve@example.org \t")),
        chance.choice((b"Subject: Hi", b"Subject:", "Subject: Grüße".encode(), b"Subject: a\r\n  b\t\r\n c")),
    ]
    if chance.random() < 0.5:
        head += [b"MIME-Version: 1.0", b"Content-Type: text/plain;\r\n\tcharset=iso-8859-1"]
    if chance.random() < 0.3:
        head += [b"Received: from a by b;\r\n Fri, 21 Nov 2025 13:00:00 +0000", b"X-Odd:\x01\x7f~"]
    if chance.random() < 0.3:
        head.append(b"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=AAAA; b=AAAA")
    chance.shuffle(head)
    raw = b"\r\n".join(head) + b"\r\n\r\n" + chance.choice(_BODIES)
    return Content(Mailbox("ann@example.com"), raw=raw)


def refolded(message: bytes) -> bytes:
    """As a relay may leave it: header lines folded otherwise, blanks at ends of lines, a trace on top."""
    head, _, body = message.partition(b"\r\n\r\n")
    fields = re.sub(rb"\r\n[ \t]+", b" ", head).split(b"\r\n")
    folded = []
    for one in fields:
        name, _, value = one.partition(b":")
        words = value.split(b" ")
        width = 40 if len(value) > 60 else 900
        lines, line = [], name.title() + b":"
        for word in words:
            if len(line) + len(word) > width and line.strip() and not line.endswith(b":"):
                lines.append(line)
                line = b"\t"
            line += b" " + word if word else b""
        folded.append(b"\r\n".join([*lines, line]) + b" ")
    kept = body.rstrip(b"\r\n")
    kept = kept.replace(b"\r\n", b" \t\r\n") + (b"\r\n" if kept else b"")
    trace = b"Received: from us by relay.example;\r\n Fri, 21 Nov 2025 15:00:00 +0000\r\n"
    return trace + b"\r\n".join(folded) + b"\r\n\r\n" + kept + b"\r\n\r\n"


def tampered(message: bytes, number: int) -> bytes:
    """With one thing changed that a signature covers."""
    head, _, body = message.partition(b"\r\n\r\n")
    if number % 3 == 0:
        return head + b"\r\n\r\n" + b"Pay here instead. " + body
    if number % 3 == 1:
        return b"From: eve@example.net\r\n" + message
    return b"List-Unsubscribe: <https://evil.example/>\r\n" + message
