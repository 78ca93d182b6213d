"""Postmark's API on a running `serve`: what it says was sent is what an SMTP server received."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import re
import urllib.error
import urllib.request
from email.message import EmailMessage
from typing import Any

import pytest

from postroom.inbound.inbox_folder import list_mails, read_mail
from tests.support.serve import Serve, wait_for


def call(live: Serve, token: str, path: str, body: object = None, *, header: str = "Server") -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{live.url}{path}", data=data)
    request.add_header(f"X-Postmark-{header}-Token", token)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(error.read().decode()) from None


@pytest.fixture(scope="module")
def keys(live: Serve) -> dict[str, Any]:
    """A server with a connection to the inbox, which every server of the account may use."""
    made: dict[str, Any] = live.answer("bootstrap", "--sender", "Shop <shop@example.com>")
    inbox = re.search(r"inbox takes SMTP on (\S+):(\d+)", live.text)
    assert inbox is not None
    live.answer("connection", "create", "--host", inbox[1], "--port", inbox[2])
    live.answer("identity", "trust", "example.com", "--account", str(made["account_id"]))
    return made


def arrived(live: Serve, subject: str, count: int = 1) -> list[EmailMessage]:
    """The mails of this subject, once there are so many."""
    folder = live.data / "inbox"

    def found() -> list[int]:
        numbers = [one.number for one in list_mails(folder, 500) if one.subject == subject]
        return numbers if len(numbers) >= count else []

    numbers = wait_for(found, f"{count} mails {subject!r}")
    assert len(numbers) == count
    return [
        email.message_from_bytes(read_mail(folder, number), policy=email.policy.default) for number in numbers
    ]


def test_what_was_sent_is_what_arrives(live: Serve, keys: dict[str, Any]) -> None:
    told = call(
        live,
        keys["server_key"],
        "/email",
        {
            "From": "Zo\u00eb <zoe@example.com>",
            "To": "Ann <ann@example.net>, bob@example.net",
            "Cc": "carl@example.net",
            "Bcc": "dora@example.net",
            "ReplyTo": "help@example.com",
            "Subject": "Header by header",
            "HtmlBody": "<p>Hello <img src='cid:logo@example.com'></p>",
            "TextBody": "Hello",
            "Tag": "secret-tag",
            "Metadata": {"internal": "secret-value"},
            "Headers": [
                {"Name": "X-Shop", "Value": "yes"},
                {"Name": "Message-ID", "Value": "<1@example.com>"},
            ],
            "Attachments": [
                {
                    "Name": "logo.png",
                    "Content": base64.b64encode(b"picture").decode(),
                    "ContentType": "image/png",
                    "ContentID": "cid:logo@example.com",
                },
                {"Name": "a.dat", "Content": "AAEC", "ContentType": "application/octet-stream"},
            ],
        },
    )
    assert told["Message"] == "OK"
    mails = arrived(live, "Header by header", 4)
    for mail in mails:
        assert mail["From"] == "Zo\u00eb <zoe@example.com>"
        assert mail["To"] == "Ann <ann@example.net>, bob@example.net"
        assert mail["Cc"] == "carl@example.net"
        assert mail["Bcc"] is None
        assert mail["Reply-To"] == "help@example.com"
        assert mail["Message-ID"] == "<1@example.com>"
        assert mail["X-Shop"] == "yes"
        assert b"secret" not in mail.as_bytes()
        parts = {part.get_content_type(): part for part in mail.walk() if not part.is_multipart()}
        assert parts["text/plain"].get_content().strip() == "Hello"
        assert "cid:logo@example.com" in parts["text/html"].get_content()
        assert parts["image/png"].get_content() == b"picture"
        assert parts["image/png"]["Content-ID"] == "<logo@example.com>"
        assert parts["application/octet-stream"].get_filename() == "a.dat"


def test_a_batch_arrives_each_once(live: Serve, keys: dict[str, Any]) -> None:
    many = [
        {"From": "shop@example.com", "To": f"u{n}@example.net", "Subject": "Many", "TextBody": str(n)}
        for n in range(30)
    ]
    told = call(live, keys["server_key"], "/email/batch", many)
    assert [one["Message"] for one in told] == ["OK"] * 30
    mails = arrived(live, "Many", 30)
    assert sorted(mail["To"] for mail in mails) == sorted(one["To"] for one in many)


def test_sandboxed_mail_goes_nowhere(live: Serve, keys: dict[str, Any]) -> None:
    """What was sent after it arrives; it does not."""
    made = call(
        live, keys["account_key"], "/servers", {"Name": "Sand", "DeliveryType": "Sandbox"}, header="Account"
    )
    mail = {"From": "shop@example.com", "To": "ann@example.net", "TextBody": "x"}
    told = call(live, made["ApiTokens"][0], "/email", {**mail, "Subject": "Sandboxed"})
    assert told["Message"] == "OK"
    call(live, keys["server_key"], "/email", {**mail, "Subject": "After the sandbox"})
    arrived(live, "After the sandbox")
    assert [one for one in list_mails(live.data / "inbox", 500) if one.subject == "Sandboxed"] == []
