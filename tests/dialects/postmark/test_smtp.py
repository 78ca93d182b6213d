"""The product's own ways over SMTP: a token as user name and password, and its `X-PM-…` header fields."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.actions.server_secrets import secrets_of
from postroom.actions.servers import ServerChanges, create_server, delete_server, update_server
from postroom.actions.suppressions import suppress
from postroom.core.bounce import BounceKind
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.dialects.postmark.servers import RULES
from postroom.dialects.postmark.smtp import PostmarkWay
from postroom.ids import ServerId
from postroom.mail.compose import compose
from postroom.mail.content import Mailbox
from postroom.storage.interface import Sql, Work
from tests.inbound.submission.desk import Desk, Dialogue, Stored, dialogue, open_desk, plain
from tests.inbound.submission.test_login import cram, login
from tests.support.context import ACTOR

SENDER = b"From: Shop <shop@example.com>\r\n"
REST = b"To: Ann <ann@example.net>\r\nSubject: Hello\r\nMessage-ID: <own@example.com>\r\n\r\nOne line.\r\n"


@dataclass
class Shop:
    """A server made by the product's API, and the token it shows."""

    desk: Desk
    server_id: ServerId
    token: str

    async def last(self) -> Stored:
        return (await self.desk.stored())[-1]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_desk(tmp_path, token_way=PostmarkWay()) as desk:
        made = await create_server(desk.ctx, ACTOR, desk.owner.account_id, "Ours", rules=RULES)
        secrets = await secrets_of(desk.ctx, desk.owner.account_id, [made.server_id])
        (token,) = secrets[made.server_id].tokens
        yield Shop(desk, made.server_id, token)


async def sent(client: Dialogue, *fields: bytes, rest: bytes = REST) -> str:
    content = SENDER + b"".join(one + b"\r\n" for one in fields) + rest
    return await client.send(content, "ann@example.net")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_a_token_is_user_name_and_password_in_any_case(shop: Shop, mechanism: str) -> None:
    for user, password in [(shop.token, shop.token), (shop.token.upper(), shop.token)]:
        async with dialogue(shop.desk.port) as client:
            await client.greet()
            if mechanism == "PLAIN":
                reply = await client.say(b"AUTH PLAIN " + plain(user, password))
            else:
                reply = await (login if mechanism == "LOGIN" else cram)(client, user, password)
            assert reply[:3] == "235"
            assert (await sent(client, b"X-PM-Tag: x"))[:3] == "250"
            assert (await shop.last()).message.options["tag"] == "x"


async def test_an_address_to_try_bounces_with_bounces_as_its_field_says(shop: Shop) -> None:
    """And nothing of it waits to be sent."""
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        content = (
            SENDER + b"X-PM-Bounce-Type: DnsError\r\nTo: x@bounce-testing.postmarkapp.com\r\n\r\nHello.\r\n"
        )
        assert (await client.send(content, "x@bounce-testing.postmarkapp.com"))[:3] == "250"

    def found() -> Work[list[tuple[str, ...]]]:
        rows = yield Sql(
            "SELECT b.kind, d.state FROM bounces b JOIN deliveries d ON d.delivery_id = b.delivery_id"
        )
        return [tuple(row) for row in rows]

    assert await shop.desk.ctx.store.read(found) == [("dns", "bounced")]
    assert b"Bounce-Type" not in ((await shop.last()).content.raw or b"")


async def test_the_fields_are_taken_and_go_no_further(shop: Shop) -> None:
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        fields = (
            b"x-pm-TAG: =?utf-8?q?gr=C3=BC=C3=9Fe?=",
            b"X-PM-Tag: a second one",
            b"X-PM-Metadata-order: 17",
            b"X-PM-Metadata-Colour:\r\n dark\r\n blue",
            b"X-PM-TrackOpens: True",
            b"X-PM-Track-Links: htmlonly",
            b"X-PM-Message-Stream: broadcast",
            b"X-PM-Made-Up: 1",
            b"X-Mailer: kept",
        )
        assert (await sent(client, *fields))[:3] == "250"
    stored = await shop.last()
    message = stored.message
    assert (message.stream, message.purpose) == ("broadcast", Purpose.BROADCAST)
    assert message.options == {
        "mail_from": "shop@example.com",
        "from": "Shop <shop@example.com>",
        "to": "Ann <ann@example.net>",
        "tag": "grüße",
        "metadata": {"order": "17", "Colour": "dark blue"},
        "opens": True,
        "links": "HtmlOnly",
    }
    assert stored.content.headers == (("X-Mailer", "kept"),)
    assert stored.message.rfc_message_id == f"<{message.public_id}@example.com>"


async def test_all_else_stays_byte_for_byte(shop: Shop) -> None:
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        assert (await sent(client, b"X-PM-Tag: x", b"X-Odd:  \tkept ", b"X-PM-Made-Up: 1"))[:3] == "250"
    stored = await shop.last()
    rest = REST.replace(b"Message-ID: <own@example.com>\r\n", b"")
    assert stored.raw == SENDER + b"X-Odd:  \tkept \r\n" + rest
    assert stored.message.rfc_message_id == f"<{stored.message.public_id}@example.com>"


@pytest.mark.parametrize("value", [b"true", b"True", b"1"])
async def test_keepid_keeps_the_message_id(shop: Shop, value: bytes) -> None:
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        await sent(client, b"X-PM-KeepID: " + value)
        assert (await shop.last()).message.rfc_message_id == "<own@example.com>"
        await sent(client, b"X-PM-KeepID: false")
        assert (await shop.last()).message.rfc_message_id != "<own@example.com>"


async def test_what_a_server_tracks_holds_for_its_mail_by_smtp(shop: Shop) -> None:
    wanted = ServerChanges(options={"track_opens": True, "track_links": "TextOnly"})
    owner = Owner(shop.desk.owner.account_id, shop.server_id)
    await update_server(shop.desk.ctx, ACTOR, owner, shop.server_id, wanted)
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        await sent(client, b"X-PM-TrackOpens: false", b"X-PM-TrackLinks: None")
        options = (await shop.last()).message.options
        assert (options["opens"], options.get("links")) == (True, None)


async def test_a_token_that_nobody_shows_is_read_alike_and_keeps_the_rest(shop: Shop) -> None:
    """One of `key create`: its program may not know the product's ways, so its Message-ID stays."""
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.desk.text)
        assert (await sent(client, b"X-PM-Tag: x"))[:3] == "250"
        stored = await shop.last()
        assert (stored.message.options["tag"], stored.raw) == ("x", SENDER + REST)
        assert (await sent(client))[:3] == "250"
        stored = await shop.last()
        assert stored.message.options == {"mail_from": "shop@example.com"}
        said = await sent(client, b"X-PM-Message-Stream: nothing")
        assert said == "554 5.6.0 The stream provided: 'nothing' does not exist on this server."
        assert (await sent(client, b"X-PM-TrackLinks: all"))[:9] == "554 5.6.0"
        assert (await sent(client, b"X-PM-TrackOpens: maybe"))[:9] == "554 5.6.0"


async def test_with_another_user_name_nothing_is_read(shop: Shop) -> None:
    for key in (shop.token, shop.desk.text):
        async with dialogue(shop.desk.port) as client:
            await client.greet()
            assert (await client.say(b"AUTH PLAIN " + plain("apikey", key)))[:3] == "235"
            assert (await sent(client, b"X-PM-Tag: x", b"X-PM-Message-Stream: nothing"))[:3] == "250"
        stored = await shop.last()
        assert stored.raw.count(b"X-PM-") == 2
        assert "tag" not in stored.message.options


async def test_a_message_of_no_more_than_a_header(shop: Shop) -> None:
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        for rest in (b"", b"\r\n", b"no field\r\n\r\nX-PM-Tag: in the body\r\n"):
            assert (await sent(client, b"X-PM-Tag: x", rest=rest))[:3] == "250"
            assert (await shop.last()).message.options["tag"] == "x"
        assert (await sent(client, rest=b"\r\nX-PM-Tag: in the body\r\n"))[:3] == "250"
        stored = await shop.last()
        assert "tag" not in stored.message.options
        assert stored.raw.endswith(b"X-PM-Tag: in the body\r\n")


async def kept(shop: Shop) -> list[tuple[str, str, str]]:
    """(recipient, number told, what is wrong) of every SMTP API error there is, oldest first."""
    query = "SELECT recipient, public_id, text, kind, report FROM bounces ORDER BY bounce_id"

    def work() -> Work[list[tuple[str, str, str]]]:
        rows = yield Sql(query)
        assert {row[3] for row in rows} <= {BounceKind.NOT_ACCEPTED.value}
        assert all(f"Message: {row[2]}" in row[4] for row in rows)
        return [(row[0], row[1], row[2]) for row in rows]

    return await shop.desk.ctx.store.read(work)


STRANGER = b"From: ceo@stranger.example\r\n"
FILE = b"""MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
\r
Hello\r
--b\r
Content-Type: application/octet-stream; name*=utf-8''set%%75p.%b\r
Content-Disposition: attachment\r
\r
x\r
--b--\r
"""
REFUSED = [
    (STRANGER + REST, "The 'From' address you supplied (ceo@stranger.example) is not a Sender Signature"),
    (SENDER + b"X-PM-Message-Stream: nothing\r\n" + REST, "The stream provided: 'nothing' does not exist"),
    (SENDER + b"X-PM-Message-Stream: inbound\r\n" + REST, "The stream provided: 'inbound' cannot send."),
    (SENDER + b"X-PM-TrackOpens: maybe\r\n" + REST, "Invalid request field(s): 'TrackOpens'."),
    (SENDER + b"X-PM-TrackLinks: all\r\n" + REST, "Invalid 'TrackLinks'"),
    (SENDER + b"X-PM-Metadata-" + b"a" * 21 + b": 1\r\n" + REST, "Invalid metadata content."),
    (SENDER + b"X-PM-Metadata-a: 1\r\nX-PM-Metadata-A: 2\r\n" + REST, "Invalid metadata content."),
    (SENDER + b"X-PM-Tag: =?utf-8?q?a=0D=0Ab?=\r\n" + REST, "Invalid 'Tag'"),
    (SENDER + FILE % b"exe", "Attachments of this type are not allowed: setup.exe."),
    (SENDER + FILE % b"ExE", "Attachments of this type are not allowed: setup.ExE."),
    (REST, "Invalid 'From': is missing in the header."),
    (SENDER + SENDER + REST, "Invalid 'From': must be exactly one header field."),
    (b"From: a@example.com, b@example.com\r\n" + REST, "Invalid 'From': "),
    (SENDER + b"Subject: =?utf-8?b?YQ0KQmNjOiB4?=\r\n\r\n", "Invalid 'Subject': "),
]


async def test_s27_h3_whatever_is_wrong_is_told_later(shop: Shop) -> None:
    """250 for each; nothing is stored to be sent, and each recipient has a bounce that says why."""
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        for content, why in REFUSED:
            said = await client.send(content, "ann@example.net", "bob@example.net")
            assert said[:24] == "250 2.0.0 Ok: queued as ", (content, said)
            found = (await kept(shop))[-2:]
            assert [(who, number) for who, number, _ in found] == [
                ("ann@example.net", said[24:]),
                ("bob@example.net", said[24:]),
            ]
            assert found[0][2].startswith(why), found
    assert await shop.desk.stored() == []


async def test_s4_l3_what_is_no_message_is_refused_at_once(shop: Shop) -> None:
    """What breaks the protocol, comes round or is too large is no matter of the product's."""
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        for content, code in [
            (SENDER + REST + b"a\0b\r\n", "554 5.6.0"),
            (SENDER + REST + b"bare\nLF\r\n", "554 5.6.11"),
            (b"Received: x\r\n" * 51 + SENDER + REST, "554 5.4.6"),
        ]:
            assert (await client.send(content, "ann@example.net"))[: len(code)] == code
    assert await kept(shop) == []
    assert await shop.desk.stored() == []


async def test_more_than_fifty_recipients_are_told_later(shop: Shop) -> None:
    people = [f"u{number}@example.net" for number in range(51)]
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        assert (await client.send(SENDER + REST, *people[:50]))[:3] == "250"
        assert await kept(shop) == []
        assert (await client.send(SENDER + REST, *people))[:3] == "250"
        assert len(await kept(shop)) == 50
        assert len(await shop.desk.stored()) == 1
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.desk.text)
        assert (await client.send(SENDER + b"X-PM-Tag: x\r\n" + REST, *people))[:3] == "250"
    assert len((await shop.last()).deliveries) == 51


async def test_who_is_suppressed_is_told_later_and_the_others_get_it(shop: Shop) -> None:
    owner = Owner(shop.desk.owner.account_id, shop.server_id)
    await suppress(shop.desk.ctx, ACTOR, owner, shop.server_id, ["Ann@example.net"])
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        said = await client.send(SENDER + b"X-PM-Tag: x\r\n" + REST, "ann@example.net", "bob@example.net")
        assert said[:3] == "250"
        stored = await shop.last()
        assert [one.state.value for one in stored.deliveries] == ["suppressed", "captured"]
        ((who, number, text),) = await kept(shop)
        assert (who, number) == ("ann@example.net", stored.message.public_id)
        assert "Found inactive addresses: ann@example.net." in text
        assert (await client.send(SENDER + REST, "ann@example.net"))[:3] == "250"
    assert len(await kept(shop)) == 2
    assert len(await shop.desk.stored()) == 1


async def test_what_was_switched_off_takes_nothing_whatever_is_wrong(shop: Shop) -> None:
    owner = Owner(shop.desk.owner.account_id, shop.server_id)
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        off = ServerChanges(smtp_enabled=False)
        await update_server(shop.desk.ctx, ACTOR, owner, shop.server_id, off)
        for content in (SENDER + REST, STRANGER + REST, REST, SENDER + b"X-PM-TrackLinks: all\r\n" + REST):
            said = await client.send(content, "ann@example.net")
            assert said == "550 5.7.1 Submission by SMTP is switched off for this server"
        await delete_server(shop.desk.ctx, ACTOR, owner, shop.server_id, RULES)
        assert (await client.send(STRANGER + REST, "ann@example.net"))[:3] == "550"
    assert await shop.desk.stored() == []


HTML = b"""MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<p><a href="https://shop.example/">Shop</a> {{{ pm:unsubscribe }}}</p>\r
"""
TO = b"To: Ann <ann@example.net>\r\nCc: bob@example.net\r\nSubject: Hello\r\n"


async def test_what_is_to_be_written_into_it_is(shop: Shop) -> None:
    """Then it is a message as one of the API, with what tells of opens, clicks and how to leave in it."""
    people = ("ann@example.net", "bob@example.net", "dora@example.net")
    words = b"X-PM-TrackOpens: true\r\nX-PM-TrackLinks: HtmlOnly\r\nX-PM-KeepID: true\r\nX-Shop: yes\r\n"
    own = b"Message-ID: <own@example.com>\r\n"
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        assert (await client.send(SENDER + words + own + TO + HTML, *people))[:3] == "250"
    stored = await shop.last()
    content = stored.content
    assert content.raw is None
    assert content.html is not None
    assert "{{ unsubscribe_link }}" in content.html
    assert (content.track_opens, len(content.html_links), content.unsubscribe_link) == (True, 1, True)
    assert (content.to, content.cc) == (
        (Mailbox("ann@example.net", "Ann"),),
        (Mailbox("bob@example.net"),),
    )
    assert [(one.recipient, one.kind) for one in stored.deliveries] == [
        ("ann@example.net", "to"),
        ("bob@example.net", "cc"),
        ("dora@example.net", "bcc"),
    ]
    assert content.headers == (("X-Shop", "yes"),)
    assert stored.message.rfc_message_id == "<own@example.com>"
    made = compose(content, message_id="<1@example.com>", date_us=0)
    assert made.startswith(b"Received: by "), "mail that comes round is known again"
    assert made.count(b"Received:") == 1


@pytest.mark.parametrize(
    "asks",
    [b"X-PM-Message-Stream: broadcast\r\n", b"X-PM-TrackOpens: 1\r\n", b"X-PM-TrackLinks: HtmlOnly\r\n"],
)
async def test_what_cannot_be_written_into_stays_whole_and_says_so(shop: Shop, asks: bytes) -> None:
    """Because somebody is shown who gets nothing, or because it is not made of parts."""
    async with dialogue(shop.desk.port) as client:
        await client.log_in(shop.token)
        await client.send(SENDER + asks + TO + HTML, "ann@example.net", "bob@example.net")
        assert (await shop.last()).content.raw is None
        signed = HTML.replace(b"text/html; charset=utf-8", b"multipart/signed; boundary=b")
        for content, people in (
            (TO + HTML, ["ann@example.net"]),
            (TO + signed, ["ann@example.net", "bob@example.net"]),
        ):
            assert (await client.send(SENDER + asks + content, *people))[:3] == "250"
            stored = await shop.last()
            assert stored.raw == SENDER + content
            assert {"opens", "links"}.isdisjoint(stored.message.options)
