"""What mailbox providers ask of bulk senders, on 500 messages that a sink received from the real engine."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from postroom import wiring
from postroom.actions import accounts, connections, dkim, identities, servers
from postroom.actions.accept import Submission, accept_message
from postroom.actions.connection_draft import ConnectionDraft
from postroom.config import load
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.http.server import serve_http
from postroom.ids import DeliveryId
from postroom.mail.content import Attachment, Mailbox
from postroom.storage.interface import Rows, Sql, Work
from postroom.tracking.tokens import TokenKind
from tests.support.bulk_rules import unsubscribe_link
from tests.support.context import ACTOR
from tests.support.dkim_corpus import RSA_PEM
from tests.support.engine import sink
from tests.support.sink import Received, Sink

PUBLIC = "https://mail.shop.example"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
BODIES: list[tuple[str | None, str | None]] = [
    ("Plain words.\n", None),
    (None, "<!doctype html><html lang=en><body><h1>News</h1><p>Words.</p></body></html>"),
    ("Zażółć gęślą jaźń. " * 20, "<p>Zażółć gęślą jaźń.</p>"),
    ("お知らせです。" * 80, "<html lang='ja'><body>" + "<p>お知らせです。</p>" * 60 + "</body></html>"),
    (None, "<p>" + "a long line without end " * 200),
    ("." * 400 + "\r\n.\r\n" + "=" * 200, "<body><!-- </body> --><p>x</p></body>"),
]


@dataclass
class House:
    """One open folder with a server, and the sink its mail goes to."""

    room: wiring.PostRoom
    owner: Owner
    out: Sink
    http: httpx.AsyncClient
    received: list[Received] = field(default_factory=list)

    async def connect(self, vendor: str = "other", **options: object) -> None:
        draft = ConnectionDraft(
            vendor=vendor,
            label="out",
            host="127.0.0.1",
            port=self.out.port,
            security="never",
            for_broadcast=True,
            for_sequence=True,
            for_transactional=True,
            options=options,
        )
        await connections.create_connection(self.room.ctx, ACTOR, self.owner, draft)

    async def send(
        self, number: int, people: list[str], *, purpose: Purpose = Purpose.BROADCAST, **more: object
    ) -> list[DeliveryId]:
        assert self.owner.server_id is not None
        text, html = BODIES[number % len(BODIES)]
        attachments = [Attachment("a.pdf", "application/pdf", b"x" * 500)] if number % 3 == 0 else ()
        accepted = await accept_message(
            self.room.ctx,
            Submission(
                self.owner.account_id,
                self.owner.server_id,
                purpose,
                "test",
                [Mailbox(people[0])] if len(people) == 1 else (),
                bcc=[Mailbox(one) for one in people] if len(people) > 1 else (),
                subject=f"News {number} ☂",
                **{"text": text, "html": html, "attachments": attachments, **more},  # type: ignore[arg-type]  # its fields
            ),
        )
        return [delivery for delivery, _, _ in accepted.deliveries]

    async def rows(self, text: str) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text))

        return await self.room.store.read(work)

    async def settled(self) -> dict[str, str]:
        """State by recipient of the newest delivery to each, once nothing waits any more."""
        async with asyncio.timeout(30):
            while await self.rows("SELECT 1 FROM deliveries WHERE state IN ('ready', 'claimed') LIMIT 1"):
                await asyncio.sleep(0.02)
        return dict(await self.rows("SELECT recipient, state FROM deliveries ORDER BY delivery_id"))


@asynccontextmanager
async def open_house(
    folder: Path, public_url: str = PUBLIC, *, start: bool = True, signed: bool = True
) -> AsyncIterator[House]:
    received: list[Received] = []
    settings = load({"data": str(folder / "data"), "public_url": public_url}, {})
    async with sink(folder, received.append) as out, wiring.opened(settings) as room:
        ctx = room.ctx
        account = await accounts.create_account(ctx, ACTOR, "Acme")
        server = await servers.create_server(
            ctx, ACTOR, account.account_id, "Shop", default_sender="Shop <news@shop.example>"
        )
        await identities.trust(ctx, ACTOR, "shop.example", account.account_id)
        if signed:
            shared = Owner(account.account_id)
            await dkim.make_key(ctx, ACTOR, shared, "shop.example", selector="s", pem=RSA_PEM.read_bytes())
            await dkim.activate(ctx, ACTOR, shared, "shop.example", "s", unchecked=True)
        app = wiring.http_application(room, url="http://unused.example", missing=lambda: ())
        handle = await serve_http(app, socket.create_server(("127.0.0.1", 0)), drain_s=1.0)
        try:
            async with httpx.AsyncClient(base_url=handle.url) as http:
                if start:
                    await room.dispatcher.start()
                yield House(room, Owner(account.account_id, server.server_id), out, http, received)
        finally:
            await room.dispatcher.stop(5.0)
            await handle.stop()


def by_recipient(received: list[Received]) -> dict[str, str]:
    """Checks each message; its one-click path by recipient."""
    links = {one.recipients[0]: unsubscribe_link(one) for one in received}
    assert len(set(links.values())) == len(links) == len(received)
    assert all(link.startswith(f"{PUBLIC}/u/") for link in links.values())
    return {who: urlsplit(link).path for who, link in links.items()}


async def test_500_messages_keep_the_rules_and_their_links_work(tmp_path: Path) -> None:
    people = [f"reader{number}@example.net" for number in range(500)]
    async with open_house(tmp_path) as house:
        await house.connect()
        for number, one in enumerate(people[:200]):
            await house.send(number, [one])
        for number in range(6):
            await house.send(number, people[200 + 50 * number : 250 + 50 * number])
        await house.settled()
        assert len(house.received) == 500
        paths = by_recipient(house.received)
        assert set(paths) == set(people)

        chosen = set(random.Random(8058).sample(people, 50))
        for one in sorted(chosen):
            assert (await house.http.post(paths[one], data=ONE_CLICK)).status_code == 200
        rows = await house.rows("SELECT address, stream, reason, origin FROM suppressions")
        assert {tuple(row) for row in rows} == {
            (one, "broadcast", "unsubscribe", "recipient") for one in chosen
        }

        house.received.clear()
        await house.send(1, people)
        states = await house.settled()
        assert {one for one in people if states[one] == "suppressed"} == chosen
        assert {one.recipients[0] for one in house.received} == set(people) - chosen


async def test_q13_who_unsubscribes_while_mail_waits_gets_none_of_it(tmp_path: Path) -> None:
    async with open_house(tmp_path, start=False) as house:
        await house.connect()
        stays, leaves = (
            await house.send(0, ["stays@example.net"]),
            await house.send(0, ["leaves@example.net"]),
        )
        invoice = await house.send(0, ["leaves@example.net"], purpose=Purpose.TRANSACTIONAL)
        token = house.room.links.token(TokenKind.UNSUBSCRIBE, leaves[0])
        assert (await house.http.post(f"/u/{token}", data=ONE_CLICK)).status_code == 200
        await house.room.dispatcher.start()
        await house.settled()
        states = dict(await house.rows("SELECT delivery_id, state FROM deliveries"))
        assert (states[stays[0]], states[leaves[0]], states[invoice[0]]) == ("sent", "suppressed", "sent")
        assert sorted(one.recipients[0] for one in house.received) == [
            "leaves@example.net",
            "stays@example.net",
        ]


async def test_u6_transactional_mail_offers_it_only_when_it_asks(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.send(0, ["silent@example.net"], purpose=Purpose.TRANSACTIONAL)
        await house.send(0, ["asks@example.net"], purpose=Purpose.TRANSACTIONAL, unsubscribe_link=True)
        await house.settled()
        found = {one.recipients[0]: one for one in house.received}
        _, _, below_the_signature = found["silent@example.net"].content.partition(b"\r\n b=")
        assert b"nsubscribe" not in below_the_signature
        assert unsubscribe_link(found["asks@example.net"]).startswith(PUBLIC)


async def test_a_connection_says_what_is_written(tmp_path: Path) -> None:
    custom = "https://shop.example/off"
    async with open_house(tmp_path) as house:
        await house.connect(
            include_unsubscribe_link=False, use_custom_unsubscribe_link=True, custom_unsubscribe_link=custom
        )
        await house.send(1, ["a@example.net"])
        await house.settled()
        (one,) = house.received
        assert f"List-Unsubscribe: <{custom}>\r\n".encode() in one.content
        assert b"\r\nList-Unsubscribe-Post:" not in one.content
        assert b"Unsubscribe from" not in one.content


async def test_without_a_public_url_links_lead_to_where_it_listens(tmp_path: Path) -> None:
    async with open_house(tmp_path, public_url="") as house:
        house.room.links.base_url = str(house.http.base_url).rstrip("/")
        await house.connect()
        await house.send(1, ["a@example.net"])
        await house.settled()
        (one,) = house.received
        assert f"List-Unsubscribe: <{house.room.links.base_url}/u/".encode() in one.content
        assert b"\r\nList-Unsubscribe-Post:" not in one.content  # RFC 8058 3.1: https only


async def test_one_click_is_offered_only_where_a_signature_covers_it(tmp_path: Path) -> None:
    async with open_house(tmp_path, signed=False) as house:
        await house.connect()
        await house.send(1, ["unsigned@example.net"])
        await house.settled()
        (one,) = house.received
        assert f"\r\nList-Unsubscribe: <{PUBLIC}/u/".encode() in one.content
        assert b"List-Unsubscribe-Post" not in one.content  # RFC 8058 4


async def test_a_vendor_that_signs_it_covers_it(tmp_path: Path) -> None:
    async with open_house(tmp_path, signed=False) as house:
        await house.connect(vendor="sendgrid")
        await house.send(1, ["covered@example.net"])
        await house.settled()
        (one,) = house.received
        assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in one.content
