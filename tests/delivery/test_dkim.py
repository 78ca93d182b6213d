"""Mail that the real engine signs, as a sink receives it and dkimpy judges it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dkim as dkimpy
import pytest

from postroom import wiring
from postroom.actions import accounts, connections, dkim, identities, servers
from postroom.actions.accept import Submission, accept_message
from postroom.actions.connection_draft import ConnectionDraft
from postroom.config import load
from postroom.control.operations import run
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.mail.content import Mailbox
from postroom.mail.dkim_keys import Algorithm
from postroom.storage.interface import Rows, Sql, Work
from tests.support.context import ACTOR
from tests.support.dkim_corpus import RSA_PEM
from tests.support.engine import sink
from tests.support.sink import Received, Sink

DOMAIN = "shop.example"
_numbers = itertools.count()


@dataclass
class House:
    """A running post room with an account and its server, and the sink its mail goes to."""

    room: wiring.PostRoom
    owner: Owner
    out: Sink
    received: list[Received] = field(default_factory=list)
    records: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def shared(self) -> Owner:
        return Owner(self.owner.account_id)

    async def connect(self, vendor: str = "other", owner: Owner | None = None, **options: object) -> None:
        draft = ConnectionDraft(
            vendor=vendor,
            label="out",
            host="127.0.0.1",
            port=self.out.port,
            security="never",
            for_broadcast=True,
            for_transactional=True,
            options=options,
        )
        await connections.create_connection(self.room.ctx, ACTOR, owner or self.owner, draft)

    async def key(
        self, selector: str, *, domain: str = DOMAIN, owner: Owner | None = None, rsa: bool = False
    ) -> None:
        """A key that signs from now on, with its record in this test's DNS."""
        whose = owner or self.shared
        pem = RSA_PEM.read_bytes() if rsa else None
        made = await dkim.make_key(
            self.room.ctx, ACTOR, whose, domain, Algorithm.ED25519, selector=selector, pem=pem
        )
        await dkim.activate(self.room.ctx, ACTOR, whose, domain, selector, unchecked=True)
        self.records[made.record_name.encode() + b"."] = made.record_value.encode()

    async def send(
        self, sender: str = f"ann@{DOMAIN}", *, purpose: Purpose = Purpose.TRANSACTIONAL, **more: object
    ) -> int:
        given: Mapping[str, object] = {"subject": "Grüße", "text": "Hi  there \n\n\n", **more}
        server_id = given.get("server_id", self.owner.server_id)
        accepted = await accept_message(
            self.room.ctx,
            Submission(
                self.owner.account_id,
                server_id,  # type: ignore[arg-type]  # a ServerId
                purpose,
                "test",
                [Mailbox(f"r{next(_numbers)}@example.net")],
                sender=Mailbox(sender, "Ann"),
                **{name: value for name, value in given.items() if name != "server_id"},  # type: ignore[arg-type]
            ),
        )
        return accepted.message_id

    async def rows(self, text: str) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text))

        return await self.room.store.read(work)

    async def arrives(self, sender: str = f"ann@{DOMAIN}", **more: object) -> bytes:
        """Send one message; its bytes as they came."""
        before = len(self.received)
        await self.send(sender, **more)  # type: ignore[arg-type]  # its own keywords
        async with asyncio.timeout(20):
            while len(self.received) == before:
                await asyncio.sleep(0.01)
        return self.received[-1].content

    def believed(self, message: bytes) -> list[str]:
        """`selector/domain` of each signature; all of them hold."""
        found = []
        for index in range(message.count(b"DKIM-Signature:")):
            judge = dkimpy.DKIM(message)
            assert judge.verify(index, dnsfunc=lambda name, **_: self.records.get(name))
            found.append(f"{judge.selector.decode()}/{judge.domain.decode()}")
        return found


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    received: list[Received] = []
    settings = load({"data": str(folder / "data"), "public_url": "https://mail.shop.example"}, {})
    async with sink(folder, received.append) as out, wiring.opened(settings) as room:
        account = await accounts.create_account(room.ctx, ACTOR, "Acme")
        server = await servers.create_server(room.ctx, ACTOR, account.account_id, "Shop")
        await identities.trust(room.ctx, ACTOR, DOMAIN, account.account_id)
        await room.dispatcher.start()
        try:
            yield House(room, Owner(account.account_id, server.server_id), out, received)
        finally:
            await room.dispatcher.stop(5.0)


async def test_both_kinds_sign_and_everything_says_so(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.key("r", rsa=True)
        await house.key("e")
        message = await house.arrives(purpose=Purpose.BROADCAST, html="<p>Grüße</p>")
        assert house.believed(message) == [f"r/{DOMAIN}", f"e/{DOMAIN}"]
        assert b"\r\nList-Unsubscribe-Post:" in message
        async with asyncio.timeout(20):
            while await house.rows("SELECT 1 FROM deliveries WHERE state <> 'sent'"):
                await asyncio.sleep(0.01)
        told = await run(house.room.desk, "explain", {"message": "1"})
        assert isinstance(told, dict)
        (attempt,) = told["deliveries"][0]["attempts"]
        assert attempt["signed"] == f"rsa r._domainkey.{DOMAIN}, ed25519 e._domainkey.{DOMAIN}"
        assert house.room.ctx.tally.signed == {"rsa": 1, "ed25519": 1}


async def test_a_clients_own_message_gets_our_signature_on_top(tmp_path: Path) -> None:
    raw = (
        b"From: ann@shop.example\r\nTo: a@example.net\r\nSubject: x\r\n"
        b"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=AAAA; b=AAAA\r\n"
        b"\r\n8bit \xff\r\n"
    )
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.key("e")
        message = await house.arrives(raw=raw, text=None, subject="")
        judge = dkimpy.DKIM(message)
        assert judge.verify(0, dnsfunc=lambda name, **_: house.records.get(name))
        assert message.endswith(b"\r\n\r\n8bit \xff\r\n")
        assert message.count(b"DKIM-Signature:") == 2


async def test_every_recipients_copy_is_signed(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.key("r", rsa=True)
        assert house.owner.server_id is not None
        people = [Mailbox(f"p{number}@example.net") for number in range(40)]
        for purpose in (Purpose.BROADCAST, Purpose.TRANSACTIONAL):  # a copy for each, and one for all
            await accept_message(
                house.room.ctx,
                Submission(
                    *(house.owner.account_id, house.owner.server_id, purpose, "test", people),
                    sender=Mailbox(f"ann@{DOMAIN}"),
                    subject="News",
                    text="x",
                ),
            )
        async with asyncio.timeout(20):
            while len(house.received) < 80:
                await asyncio.sleep(0.01)
        assert {tuple(house.believed(one.content)) for one in house.received} == {(f"r/{DOMAIN}",)}
        assert len({one.content for one in house.received}) == 41


async def test_a_rotation_while_mail_flows_leaves_none_unsigned(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await house.key("old")
        assert house.believed(await house.arrives()) == [f"old/{DOMAIN}"]
        for number in range(30):
            await house.send()
            if number == 10:
                await house.key("new")
        assert house.believed(await house.arrives()) == [f"new/{DOMAIN}"]
        async with asyncio.timeout(20):
            while len(house.received) < 32:
                await asyncio.sleep(0.01)
        signed = {tuple(house.believed(one.content)) for one in house.received}
        assert signed == {(f"old/{DOMAIN}",), (f"new/{DOMAIN}",)}
        await dkim.stop(house.room.ctx, ACTOR, house.shared, DOMAIN, "new")
        assert house.believed(await house.arrives()) == []


async def test_the_nearest_domain_and_the_narrowest_owner_sign(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await identities.trust(house.room.ctx, ACTOR, f"news.{DOMAIN}", house.owner.account_id)
        await identities.trust(house.room.ctx, ACTOR, DOMAIN, house.owner.account_id, house.owner.server_id)
        await house.key("parent")
        assert house.believed(await house.arrives(f"ann@news.{DOMAIN}")) == [f"parent/{DOMAIN}"]
        await house.key("own", owner=house.owner)
        await house.key("child", domain=f"news.{DOMAIN}")
        assert house.believed(await house.arrives()) == [f"own/{DOMAIN}"]
        assert house.believed(await house.arrives(f"ann@NEWS.{DOMAIN}")) == [f"child/news.{DOMAIN}"]
        sibling = await servers.create_server(house.room.ctx, ACTOR, house.owner.account_id, "Two")
        await house.connect(owner=Owner(house.owner.account_id, sibling.server_id))
        message = await house.arrives(server_id=sibling.server_id)
        assert house.believed(message) == [f"parent/{DOMAIN}"]


async def test_a_domain_that_ends_alike_is_another_one(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await identities.trust(house.room.ctx, ACTOR, f"not{DOMAIN}", house.owner.account_id)
        await house.key("e")
        assert house.believed(await house.arrives(f"ann@not{DOMAIN}")) == []


async def test_an_international_domain_is_signed_as_a_label(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await identities.trust(house.room.ctx, ACTOR, "bücher.example", house.owner.account_id)
        await house.key("e", domain="bücher.example")
        message = await house.arrives("ann@bücher.example")
        assert house.believed(message) == ["e/xn--bcher-kva.example"]


@pytest.mark.parametrize(
    ("vendor", "options", "signed", "date"),
    [
        ("other", {}, True, True),
        ("other", {"dkim": "never"}, False, True),
        ("aws_ses", {"aws_region": "eu-west-1"}, True, False),
        ("sendgrid", {}, False, False),
        ("sendgrid", {"dkim": "always"}, True, True),
        ("postmark", {"dkim": "always"}, True, False),
        ("smtp_com", {"dkim": "auto"}, False, False),
    ],
)
async def test_signed_is_what_arrives_as_it_left(
    tmp_path: Path, vendor: str, options: dict[str, object], signed: bool, date: bool
) -> None:
    async with open_house(tmp_path) as house:
        await house.connect(vendor, None, **options)
        await house.key("e")
        message = await house.arrives()
        assert bool(house.believed(message)) == signed
        if signed:
            names = dkimpy.DKIM(message)
            names.verify(dnsfunc=lambda name, **_: house.records.get(name))
            covered = {name.lower() for name, _ in names.signed_headers}
            assert {b"date", b"message-id"} <= covered if date else not {b"date", b"message-id"} & covered


async def test_a_domain_taken_back_is_signed_no_more(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.connect()
        await identities.trust(house.room.ctx, ACTOR, f"ann@{DOMAIN}", house.owner.account_id)
        await house.key("e")
        assert house.believed(await house.arrives()) != []
        (domain, _) = await identities.list_identities(house.room.ctx, house.owner.account_id)
        await identities.forget(house.room.ctx, ACTOR, domain.identity_id, house.owner.account_id)
        assert house.believed(await house.arrives()) == []


async def test_a_key_that_does_not_open_holds_its_mail_and_no_other(tmp_path: Path) -> None:
    def break_it() -> Work[None]:
        yield Sql("UPDATE dkim_keys SET sealed = substr(sealed, 1, 20)")

    async with open_house(tmp_path) as house:
        await house.connect()
        await identities.trust(house.room.ctx, ACTOR, "fine.example", house.owner.account_id)
        await house.key("e")
        await house.room.store.write(break_it)
        await house.key("f", domain="fine.example")
        await house.send()
        assert house.believed(await house.arrives("bob@fine.example")) == ["f/fine.example"]
        async with asyncio.timeout(20):
            while not (rows := await house.rows("SELECT reason FROM deliveries WHERE state = 'held'")):
                await asyncio.sleep(0.01)
        assert rows[0][0].startswith(f"the DKIM key e of {DOMAIN} cannot be used")
        assert len(house.received) == 1
