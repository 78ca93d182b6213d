"""Messages whose bytes must not change: each as a function that makes them with fixed ids and a fixed clock.

`tests/corpus/golden` holds what each gave when it was written. A message that is composed otherwise from one
version to the next would make a second copy that is no copy, and break signatures; so a change here is meant,
or it is a fault. After a change that is meant:

    .venv/test/bin/python -m tests.support.golden
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from postroom.engine.copies import Copies
from postroom.ids import DeliveryId
from postroom.mail.compose import compose
from postroom.mail.content import Attachment, Content, Mailbox, TrackLinks
from postroom.mail.dkim import sign
from postroom.mail.links import find_links
from postroom.mail.unsubscribe import Offer, offering
from postroom.tracking.links import PATHS, MailLinks
from postroom.tracking.marking import Marking
from postroom.tracking.tokens import SigningKeys
from tests.support.dkim_corpus import signers_of

FOLDER = Path(__file__).resolve().parents[1] / "corpus" / "golden"
MESSAGE_ID = "<0199aaaa-0000-7000-8000-000000000001@example.com>"
DATE_US = 1_763_733_600_000_000  # 21 November 2025, 14:00 UTC
ANN = Mailbox("ann@example.com", "Ann")
BOB = Mailbox("bob@example.org")
SHORT = Content(ANN, (BOB,), subject="Hello", text="Hi Bob.\n")
_TOKENS = ("aeaqaaaaaaaaaaaaamaaabv4qxh7mzqsxnzjhbo", "bcbqaaaaaaaaaaaaamaaabv4qxh7mzqsxnzjhbp")

RAW = (
    b"Received: from a.example.com by b.example.com; Fri, 21 Nov 2025 13:59:00 +0000\r\n"
    b"From: Ann <ann@example.com>\r\nTO:bob@example.org\r\n"
    b"Subject:  two   blanks\t\r\n and a  fold \r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"Bcc: secret@example.org\r\n\r\nGr\xc3\xbc\xc3\x9fe  \r\n\t tab\r\n\r\n\r\n"
)


def _with(**changes: object) -> Content:
    return msgspec.structs.replace(SHORT, **changes)


def _composed(content: Content) -> bytes:
    return compose(content, message_id=MESSAGE_ID, date_us=DATE_US)


def _signed(message: bytes, *rewritten: str) -> bytes:
    return sign(message, signers_of("example.com"), at_us=DATE_US, rewritten=rewritten) + message


def _copy(content: Content, number: int) -> bytes:
    """The copy of the recipient `number`; from the second on they are filled into the first one's bytes."""
    copies = Copies(
        lambda words: offering(content, f"https://m.example.com/u/{words[0]}", Offer()), _composed
    )
    return [copies.copy((token,)) for token in (*_TOKENS, _TOKENS[0])][number]


def _tracked(content: Content, number: int, offer: Offer | None = None) -> bytes:
    """The same with opens and all links tracked."""
    found = find_links(content.html, content.text, TrackLinks.HTML_AND_TEXT)
    content = msgspec.structs.replace(content, track_opens=True, html_links=found.html, text_links=found.text)
    marking = Marking(content, 7, offer, _LINKS)
    copies = Copies(marking.content, _composed)
    return [copies.copy(marking.words(DeliveryId(one))) for one in (1, 2, 1)][number]


_LINKS = MailLinks([SigningKeys(kind, 1, {1: bytes(32)}) for kind in PATHS], "https://m.example.com")
_NEWS = _with(
    html="<html lang='de'><body><p>Grüße <a href='https://shop.example/?a=1&amp;b=2'>hier</a>,"
    ' <a class=x href=http://shop.example/straße>da</a>, <a href="mailto:x@shop.example">dort</a></p>\n'
    "<!--[if mso]><a href='https://shop.example/'><![endif]--></body></html>",
    text="Grüße: https://shop.example/?a=1&b=2, (http://shop.example/c).\n",
)
_HTML = "<html lang='de'><body><p>Grüße, <b>Bob</b></p></body></html>"
_PAGE = _with(html=_HTML, text="Grüße, Bob\n", preheader="Was es Neues gibt")
_IMAGE = Attachment("logo.png", "image/png", b"\x89PNG" + bytes(range(64)), content_id="logo")
_PAPER = Attachment("Rechnung März.pdf", "application/pdf", b"%PDF-1.7" + bytes(500))

GOLDEN: Mapping[str, Callable[[], bytes]] = {
    "text": lambda: _composed(SHORT),
    "no-body": lambda: _composed(_with(text="")),
    "blank-lines-at-the-end": lambda: _composed(_with(text="Hi.  \n\n\n\n")),
    "long-lines": lambda: _composed(_with(text="word " * 400 + "\n" + "x" * 2_000)),
    "html-and-text": lambda: _composed(_PAGE),
    "inline-image": lambda: _composed(_with(html="<img src='cid:logo'>", attachments=(_IMAGE,))),
    "attachments": lambda: _composed(_with(attachments=(_PAPER, _IMAGE))),
    "cyrillic": lambda: _composed(_with(subject="Привет, мир! " * 8, text="Привет\n" * 40)),
    "many-recipients": lambda: _composed(
        _with(to=tuple(Mailbox(f"r{n}@example.org", f"Reader {n}") for n in range(30)), cc=(BOB,))
    ),
    "undisclosed": lambda: _composed(_with(to=())),
    "idn": lambda: _composed(_with(sender=Mailbox("ann@bücher.example", "Ann"))),
    "smtputf8": lambda: _composed(_with(sender=Mailbox("änne@bücher.example", "Änne"))),
    "own-headers": lambda: _composed(
        _with(headers=(("X-Campaign", "a=?b"), ("References", "<a@b> " * 40)), reply_to=(ANN, BOB))
    ),
    "unsubscribe-1": lambda: _copy(_PAGE, 0),
    "unsubscribe-2": lambda: _copy(_PAGE, 1),
    "unsubscribe-3": lambda: _copy(_PAGE, 2),
    "tracked-1": lambda: _tracked(_NEWS, 0),
    "tracked-2": lambda: _tracked(_NEWS, 1),
    "tracked-base64": lambda: _tracked(_with(html=f"{'Привет ' * 40}<a href=https://shop.example/>"), 1),
    "tracked-unsubscribe": lambda: _tracked(_NEWS, 1, Offer()),
    "raw": lambda: _composed(_with(raw=RAW)),
    "raw-bare": lambda: _composed(_with(raw=b"From: ann@example.com\nto: bob@example.org\n\nHi\r.\n")),
    "signed": lambda: _signed(_composed(_PAGE)),
    "signed-for-a-vendor-that-rewrites": lambda: _signed(_composed(SHORT), "date", "message-id"),
    "signed-unsubscribe": lambda: _signed(_copy(_PAGE, 1)),
    "signed-raw": lambda: _signed(_composed(_with(raw=RAW))),
}


def main() -> None:
    """Write every file anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in GOLDEN.items():
        (FOLDER / f"{name}.eml").write_bytes(make())


if __name__ == "__main__":
    main()
