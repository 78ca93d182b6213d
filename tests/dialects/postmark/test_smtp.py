"""The product's own ways over SMTP: a token as user name and password, and its `X-PM-…` header fields."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.actions.server_secrets import secrets_of
from postroom.actions.servers import ServerChanges, create_server, update_server
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.dialects.postmark.servers import RULES
from postroom.dialects.postmark.smtp import take
from postroom.ids import ServerId
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
    async with open_desk(tmp_path, token_way=take) as desk:
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
    assert b"x-pm-" not in stored.raw.lower()
    rest = REST.replace(b"Message-ID: <own@example.com>\r\n", b"")
    assert stored.raw == SENDER + b"X-Mailer: kept\r\n" + rest
    assert stored.message.rfc_message_id == f"<{message.public_id}@example.com>"


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
