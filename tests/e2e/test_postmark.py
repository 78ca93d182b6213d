"""Postmark's API on a running `serve`: what it says was sent is what an SMTP server received."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import json
import re
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from postmark import ServerClient
from postmark.models.bounces import BounceType
from postmarker.core import PostmarkClient

from postroom.folder import DATABASE_NAME
from postroom.inbound.inbox_folder import list_mails, read_mail
from tests.e2e.conftest import ask
from tests.support.anymail import anymail_backend
from tests.support.node import run_node
from tests.support.serve import Serve, serving, start_serve, wait_for
from tests.support.tools import needs


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`serve` with an inbox, which may call itself."""
    data: Path = tmp_path_factory.mktemp("postmark") / "data"
    with serving(data, "--inbox", "127.0.0.1:0", environment={"POSTROOM_DIAL_PRIVATE": "all"}) as serve:
        yield serve


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
    made: dict[str, Any] = live.ask("bootstrap", sender="Shop <shop@example.com>")
    inbox = re.search(r"inbox takes SMTP on (\S+):(\d+)", live.text)
    assert inbox is not None
    fields = {"label": "Inbox", "host": inbox[1], "port": int(inbox[2])}
    fields |= {"for_transactional": True, "for_broadcast": True}
    live.ask("connection.create", fields=fields, account=1)
    live.ask("identity.trust", value="example.com")
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


def test_a_bulk_arrives_each_once_and_filled(live: Serve, keys: dict[str, Any]) -> None:
    people = [{"To": f"b{n}@example.net", "TemplateModel": {"n": n}} for n in range(60)]
    bulk = {"From": "shop@example.com", "Subject": "Bulk", "TextBody": "Number {{n}}", "Messages": people}
    told = call(live, keys["server_key"], "/email/bulk", bulk)
    mails = arrived(live, "Bulk", 60)
    assert sorted((mail["To"], text_of(mail).splitlines()[0]) for mail in mails) == sorted(
        (f"b{n}@example.net", f"Number {n}") for n in range(60)
    )
    assert call(live, keys["server_key"], f"/email/bulk/{told['Id']}")["Status"] == "Completed"


def text_of(mail: EmailMessage) -> str:
    """What its plain text says."""
    part = mail.get_body(("plain",))
    assert part is not None
    found: str = part.get_content()
    return found


def test_a_kill_in_the_middle_of_a_bulk_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """Nothing may leave that post room, so what it accepted is all there to be counted. The kill comes when
    one of sixteen slices is made, and so, on all but the strangest of days, before the last."""
    people = [{"To": f"b{n}@example.net"} for n in range(800)]
    bulk = {"From": "shop@example.com", "Subject": "Bulk", "TextBody": "x", "Messages": people}
    serve = start_serve(tmp_path / "data", smtp=None)
    try:
        key = serve.ask("bootstrap", sender="shop@example.com")["server_key"]
        path = f"/email/bulk/{call(serve, key, '/email/bulk', bulk)['Id']}"
        wait_for(lambda: call(serve, key, path)["ReleasedCount"] > 0, "the bulk to begin")
    finally:
        serve.stop(signal.SIGKILL)
    with serving(tmp_path / "data", smtp=None) as again:
        wait_for(lambda: call(again, key, path)["Status"] == "Completed", "its end", 60.0)
    assert sorted(accepted(again.data)) == sorted(one["To"] for one in people)


def accepted(data: Path) -> list[str]:
    """To whom there are deliveries."""
    with contextlib.closing(sqlite3.connect(data / DATABASE_NAME)) as database:
        return [row[0] for row in database.execute("SELECT recipient FROM deliveries")]


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


@pytest.fixture(scope="module")
def token(live: Serve, keys: dict[str, Any]) -> str:
    """Of a server that was made by this API."""
    made = call(live, keys["account_key"], "/servers", {"Name": "Moved here"}, header="Account")
    text: str = made["ApiTokens"][0]
    return text


@pytest.fixture(scope="module")
def template(live: Serve, token: str) -> str:
    """A template's alias."""
    bodies = {"Subject": "Hello {{name}}", "HtmlBody": "<p>{{name}}</p>"}
    made = call(live, token, "/templates", {"Name": "Hello", "Alias": "hello", **bodies})
    alias: str = made["Alias"]
    return alias


def smtp_address(live: Serve) -> tuple[str, int]:
    found = re.search(r"send by SMTP on (\S+):(\d+)", live.text)
    assert found is not None, live.text
    return found[1], int(found[2])


@needs("node")
def test_nodemailer_by_smtp_and_by_the_products_transport(live: Serve, token: str, template: str) -> None:
    """Unmodified, each with the product's own words; what arrives has none of them, and is found by them."""
    host, port = smtp_address(live)
    mail = {
        "from": "Zo\u00eb <zoe@example.com>",
        "to": ["Ann <ann@example.net>", "bob@example.net"],
        "bcc": "dora@example.net",
        "replyTo": "help@example.com",
        "text": "Hello",
        "html": '<p>Hello <img src="cid:logo@example.com"></p>',
        "attachments": [
            {"filename": "logo.png", "content": "picture", "cid": "logo@example.com"},
            {"filename": "a.dat", "content": "data"},
        ],
    }
    words = {"X-PM-Tag": "by-smtp", "X-PM-Metadata-order": "17", "X-PM-Message-Stream": "outbound"}
    kept = {"headers": {"X-PM-KeepID": "true"}, "messageId": "<1@example.com>"}
    asked = {
        "smtp": {"host": host, "port": port, "ignoreTLS": True, "auth": {"user": token, "pass": token}},
        "postmark": {
            "auth": {"apiKey": token},
            "postmarkOptions": {"useHttps": False, "requestHost": live.url.removeprefix("http://")},
        },
        "mails": [
            {"by": "smtp", "subject": "By SMTP", "headers": words, **mail},
            {"by": "smtp", "subject": "Kept", **mail, **kept},
            {"by": "postmark", "subject": "By API", "tag": "by-api", "metadata": {"order": "17"}, **mail},
            {"by": "postmark", **mail, "from": "zoe@stranger.example"},
            {
                "by": "postmark",
                "from": "zoe@example.com",
                "to": "ann@example.net",
                "templateAlias": template,
                "templateModel": {"name": "Ann & Bob"},
            },
            {"by": "smtp", "subject": "Told later", **mail, "from": "zoe@stranger.example"},
        ],
    }
    by_smtp, by_keeping, by_api, wrong, by_template, told_later = run_node("mails.js", asked)
    assert {one["response"][:3] for one in (by_smtp, by_keeping, told_later)} == {"250"}
    assert by_template["accepted"][0]["Message"] == "OK"
    (rendered,) = arrived(live, "Hello Ann & Bob")
    assert rendered.get_content().strip() == "<p>Ann &amp; Bob</p>"
    bounces = call(live, token, "/bounces?count=9&offset=0&type=SMTPApiError")["Bounces"]
    assert {one["Email"] for one in bounces} == {"ann@example.net", "bob@example.net", "dora@example.net"}
    assert {one["MessageID"] for one in bounces} == {told_later["response"].rpartition(" ")[2]}
    assert "zoe@stranger.example" in bounces[0]["Details"]
    assert by_api["accepted"][0]["Message"] == "OK"
    assert "(zoe@stranger.example) is not a Sender Signature" in wrong["error"]
    for subject, tag in (("By SMTP", "by-smtp"), ("By API", "by-api")):
        for arrival in arrived(live, subject, 3):
            assert arrival["From"] == "Zo\u00eb <zoe@example.com>"
            assert arrival["Reply-To"] == "help@example.com"
            assert arrival["Bcc"] is None
            assert "X-PM-" not in str(arrival).upper()
            assert {part.get_filename() for part in arrival.walk()} >= {"logo.png", "a.dat"}
        found = call(live, token, f"/messages/outbound?count=10&offset=0&tag={tag}&metadata_order=17")
        (message,) = found["Messages"]
        assert (message["Subject"], message["From"]) == (subject, '"Zo\u00eb" <zoe@example.com>')
        assert [one["Email"] for one in message["To"]] == ["ann@example.net", "bob@example.net"]
        assert [one["Email"] for one in message["Bcc"]] == ["dora@example.net"]
        assert message["Attachments"] == ["logo.png", "a.dat"]
        details = call(live, token, f"/messages/outbound/{message['MessageID']}/details")
        assert (details["TextBody"].strip(), "cid:logo@example.com" in details["HtmlBody"]) == ("Hello", True)
    assert {one["Message-ID"] for one in arrived(live, "Kept", 3)} == {"<1@example.com>"}
    (own,) = {one["Message-ID"] for one in arrived(live, "By SMTP", 3)}
    assert own != by_smtp["messageId"]


def test_anymail_sends_as_it_does_to_the_product(live: Serve, token: str, template: str) -> None:
    """Django's way to it: one mail, many by merging, and each recipient's status as it reads it."""
    anymail = anymail_backend(live.url, token)
    one = anymail.message("By anymail", "Hello", to=["Ann <ann@example.net>"], cc=["bob@example.net"])
    one.attach_alternative("<p>Hello", "text/html")
    one.tags, one.metadata, one.track_opens = ["by-anymail"], {"order": 17}, True
    one.attach("a.dat", b"data", "application/octet-stream")
    assert one.send() == 1
    assert {who: said.status for who, said in one.anymail_status.recipients.items()} == {
        "ann@example.net": "sent",
        "bob@example.net": "sent",
    }
    many = anymail.message("Merged", "Hello", to=["ann@example.net", "bob@example.net"])
    many.merge_metadata = {"ann@example.net": {"order": "18"}, "bob@example.net": {"order": "19"}}
    assert many.send() == 1
    each = anymail.message("", "", to=["ann@example.net", "bob@example.net"])
    each.template_id = template
    each.merge_data = {"ann@example.net": {"name": "Ann"}, "bob@example.net": {"name": "Bob"}}
    each.merge_global_data = {"name": "nobody"}
    assert each.send() == 1
    assert {said.status for said in each.anymail_status.recipients.values()} == {"sent"}
    assert len({said.message_id for said in many.anymail_status.recipients.values()}) == 2
    bulk = anymail_backend(live.url, token, use_bulk_api=True)
    all_at_once = bulk.message("In bulk", "Hello {{name}}", to=["ann@example.net", "bob@example.net"])
    all_at_once.merge_data = {"ann@example.net": {"name": "Ann"}, "bob@example.net": {"name": "Bob"}}
    assert all_at_once.send() == 1
    assert {said.status for said in all_at_once.anymail_status.recipients.values()} == {"queued"}
    refused = anymail.message("x", "y", to=["nobody@"], sender="zoe@stranger.example")
    with pytest.raises(anymail.Refused):
        refused.send()

    assert {mail["To"] for mail in arrived(live, "By anymail", 2)} == {"Ann <ann@example.net>"}
    for name in ("Ann", "Bob"):
        assert [mail["To"] for mail in arrived(live, f"Hello {name}")] == [f"{name.lower()}@example.net"]
    assert {mail["To"] for mail in arrived(live, "Merged", 2)} == {"ann@example.net", "bob@example.net"}
    bulk_mail = arrived(live, "In bulk", 2)
    assert all("List-Unsubscribe" in mail for mail in bulk_mail), "it is on a stream of broadcasts"
    assert {mail["To"]: mail.get_content().splitlines()[0] for mail in bulk_mail} == {
        "ann@example.net": "Hello Ann",
        "bob@example.net": "Hello Bob",
    }
    (message,) = call(live, token, "/messages/outbound?count=9&offset=0&tag=by-anymail")["Messages"]
    assert (message["MessageID"], message["TrackOpens"]) == (one.anymail_status.message_id, True)
    assert (message["Metadata"], message["Attachments"]) == ({"order": "17"}, ["a.dat"])
    listed = call(live, token, "/messages/outbound?count=9&offset=0&metadata_order=19")
    assert [row["Recipients"] for row in listed["Messages"]] == [["bob@example.net"]]


@needs("node")
def test_the_products_own_clients_from_a_new_server_to_the_mail(live: Serve, keys: dict[str, Any]) -> None:
    """Each of three, unmodified: a server, its token, a template, mail that arrives, what became of it."""
    account = keys["account_key"]
    mail = {
        "From": "zoe@example.com",
        "To": "ann@example.net",
        "Subject": "By JavaScript",
        "TextBody": "Hello",
    }
    server = {"server": {"$": [0, "ApiTokens", 0]}}
    model = {"Alias": "hi", "Name": "Hi", "Subject": "Hi {{name}}", "TextBody": "Hello"}
    filled = {"TemplateAlias": "hi", "TemplateModel": {"name": "there"}}
    tried = {**mail, "To": "HardBounce@bounce-testing.postmarkapp.com"}
    calls: list[dict[str, object]] = [
        {"account": account, "method": "createServer", "args": [{"Name": "JavaScript"}]},
        {**server, "method": "sendEmail", "args": [mail]},
        {**server, "method": "createTemplate", "args": [model]},
        {
            **server,
            "method": "sendEmailWithTemplate",
            "args": [{**filled, "From": mail["From"], "To": mail["To"]}],
        },
        {**server, "method": "sendEmail", "args": [tried]},
        {**server, "method": "getBounces", "args": [{"count": 10}]},
        {**server, "method": "getOutboundMessages", "args": [{"count": 10}]},
        {**server, "method": "getDeliveryStatistics"},
    ]
    told = run_node("postmark.js", {"host": live.url.removeprefix("http://"), "calls": calls})
    assert [one for one in told if "error" in one] == []
    assert [one["Type"] for one in told[5]["ok"]["Bounces"]] == ["HardBounce"]
    assert told[6]["ok"]["TotalCount"] == 3
    assert told[7]["ok"]["InactiveMails"] == 1
    token = told[0]["ok"]["ApiTokens"][0]

    async def by_python() -> None:
        async with ServerClient(token, retries=0, base_url=live.url) as client:
            sent = await client.outbound.send({**mail, "Subject": "By Python"})
            assert (await client.outbound.get(sent.message_id)).subject == "By Python"
            assert [one.type for one in (await client.bounces.list()).items] == [BounceType.HARD_BOUNCE]

    asyncio.run(by_python())
    client = PostmarkClient(token, account, root_api_url=live.url)
    client.emails.send(**{**mail, "Subject": "By postmarker"})
    assert client.messages.outbound.all(count=10, subject="By postmarker")[0].Subject == "By postmarker"
    for subject in ("By JavaScript", "Hi there", "By Python", "By postmarker"):
        (one,) = arrived(live, subject)
        assert (one["To"], one.get_content().strip()) == ("ann@example.net", "Hello")


def test_it_stands_in_front_of_itself(live: Serve, keys: dict[str, Any]) -> None:
    """Mail by Broadcast's API leaves through a connection to Postmark's API, which is this very instance."""
    account = live.ask("account.create", name="Front")["account_id"]
    server = live.ask("server.create", name="Front", account=account, default_sender="a@example.com")[
        "server_id"
    ]
    key = live.ask("key.create", label="front", account=account, server=server)["key"]
    fields = {"label": "Itself", "vendor": "postmark", "delivery_method": "api", "for_transactional": True}
    secrets, options = {"postmark_api_token": keys["server_key"]}, {"api_url": live.url}
    live.ask(
        "connection.create", fields=fields, secrets=secrets, options=options, account=account, server=server
    )
    body = {"to": "ann@example.net", "subject": "Through itself", "body": "Hello"}
    status, told = ask(f"{live.url}/api/v1/transactionals", key, body)
    assert status == 201, told
    (mail,) = arrived(live, "Through itself")
    assert mail["To"] == "ann@example.net"
    assert mail.get_content().strip() == "Hello"
    ours = call(live, keys["server_key"], "/messages/outbound?count=1&offset=0&subject=through+itself")
    theirs = call(live, key, "/messages/outbound?count=1&offset=0&subject=through+itself")
    assert ours["TotalCount"] == theirs["TotalCount"] == 1
    (first,) = ours["Messages"]
    assert first["Metadata"]["postroom"]
    assert first["MessageID"] != theirs["Messages"][0]["MessageID"]
