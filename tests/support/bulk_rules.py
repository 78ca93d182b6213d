"""What mailbox providers ask of a bulk message, held against its bytes as a sink received them.

Gmail's and Yahoo's guidelines for senders, RFC 8058 (3.1, 4), RFC 2369 (3.2), RFC 5322 (2.1.1, 2.3, 3.6).
Read with the standard library and an HTML5 parser, not with code of ours.
"""

from __future__ import annotations

import re
import warnings
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from xml.etree.ElementTree import Element

from tests.support.sink import Received

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import html5lib

_ONCE = (
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
)
_FIELD = re.compile(rb"(?im)^list-unsubscribe(-post)?:.*\r\n(?:[ \t].*\r\n)*")


def unsubscribe_link(received: Received) -> str:
    """Checks the message by AssertionError; its one-click link."""
    content = received.content
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")
    message = message_from_bytes(content, policy=policy.SMTP)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    for name in _ONCE:
        assert len(message.get_all(name, [])) == 1, name
    _check_identity(message, received)
    _check_signature(message, received)
    link = _check_headers(message, content)
    _check_body(message, link)
    return link


def _check_identity(message: EmailMessage, received: Received) -> None:
    """One author, whose domain the envelope has too (what SPF and DMARC compare)."""
    ((_, author),) = getaddresses([str(message["From"])])
    assert author.rpartition("@")[2] == received.sender.rpartition("@")[2]
    assert re.fullmatch(r"<[^<>\s@]+@[^<>\s@]+>", str(message["Message-ID"]))
    assert parsedate_to_datetime(str(message["Date"])).tzinfo is not None


def _check_signature(message: EmailMessage, received: Received) -> None:
    """One of the author's domain, which covers both unsubscribe fields (RFC 8058 4)."""
    (signature,) = message.get_all("DKIM-Signature", [])
    tags = dict(one.strip().split("=", 1) for one in "".join(str(signature).split()).split(";"))
    assert tags["d"] == received.sender.rpartition("@")[2]
    covered = tags["h"].lower().split(":")
    assert {"from", "list-unsubscribe", "list-unsubscribe-post"} <= set(covered)


def _check_headers(message: EmailMessage, content: bytes) -> str:
    found = re.fullmatch(r"<(https://[!-;=?-~]+)>", str(message["List-Unsubscribe"]))
    assert found is not None
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    # What DKIM signs is the line as it stands: one line, ASCII, no blanks at its end for a relay to trim.
    head = content.partition(b"\r\n\r\n")[0] + b"\r\n"
    lines = [field.group() for field in _FIELD.finditer(head)]
    assert len(lines) == 2
    for line in lines:
        assert line.isascii()
        assert line.count(b"\r\n") == 1
        assert not line.rstrip(b"\r\n").endswith((b" ", b"\t"))
    return found[1]


def _check_body(message: EmailMessage, link: str) -> None:
    """Somebody who reads either part sees where to go."""
    seen = 0
    html = message.get_body(("html",))
    if html is not None:
        document: Element = html5lib.parse(html.get_content(), namespaceHTMLElements=False)
        anchors = [one for one in document.iter("a") if one.get("href") == link]
        assert len(anchors) == 1
        assert "".join(anchors[0].itertext()).strip()
        assert not _hidden(document, anchors[0])
        seen += 1
    text = message.get_body(("plain",))
    if text is not None:
        assert link in text.get_content().split()
        seen += 1
    assert seen


def _hidden(document: Element, wanted: Element) -> bool:
    """Whether it or what it stands in has a style that hides."""
    parents = {child: parent for parent in document.iter() for child in parent}
    at: Element | None = wanted
    while at is not None:
        if re.search(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0", at.get("style") or ""):
            return True
        at = parents.get(at)
    return False
