"""A submission server with an account, a server and its key behind it, and a raw client to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from postroom.actions.accounts import create_account
from postroom.actions.context import Context, Limits
from postroom.actions.finding import find
from postroom.actions.identities import trust
from postroom.actions.keys import create_key
from postroom.actions.servers import create_server
from postroom.core.key import Key
from postroom.core.server import Owner
from postroom.inbound.smtp_server import SessionLimits, TlsSource
from postroom.inbound.submission import LoginLimits, SubmissionServer
from postroom.mail.content import Content
from postroom.storage import message_search, messages
from postroom.storage.interface import Sql, Work
from postroom.storage.message_search import Search
from postroom.storage.messages import StoredDelivery, StoredMessage
from tests.support.clock import FakeClock
from tests.support.context import ACTOR, Harness, make_harness

SENDER = "shop@example.com"
MAIL = b"From: Shop <shop@example.com>\r\nTo: b@example.net\r\nSubject: Hello\r\n\r\nOne line.\r\n"
QUICK = LoginLimits(refusal_s=0.01, slow_s=0.01)


@dataclass(frozen=True)
class Stored:
    """One accepted message as it lies in the store."""

    message: StoredMessage
    content: Content
    deliveries: list[StoredDelivery]

    @property
    def raw(self) -> bytes:
        assert self.content.raw is not None
        return self.content.raw


@dataclass
class Desk:
    """A listening submission server and what stands behind it."""

    ctx: Context
    clock: FakeClock
    owner: Owner
    key: Key
    text: str  # of the key
    server: SubmissionServer
    port: int

    async def stored(self) -> list[Stored]:
        """Everything accepted, oldest first, of all servers of the account."""
        account = self.owner.account_id
        found = await find(self.ctx, account, None, Search(), enough=1000)
        stored = await self.ctx.store.read(lambda: message_search.get_many(account, found.numbers))
        return [await self._stored(message) for message in reversed(stored)]

    async def _stored(self, message: StoredMessage) -> Stored:
        account = message.account_id
        content = await self.ctx.store.read(lambda: messages.content(account, message.content_id))
        rows = await self.ctx.store.read(lambda: messages.deliveries(account, message.message_id))
        assert content is not None
        return Stored(message, content, rows)

    async def key_ids(self) -> list[object]:
        """The key each message came with, oldest first."""

        def work() -> Work[list[object]]:
            rows = yield Sql("SELECT key_id FROM messages ORDER BY message_id")
            return [row[0] for row in rows]

        return await self.ctx.store.read(work)

    async def new_key(self, *scopes: str, account: bool = False) -> tuple[Key, str]:
        owner = Owner(self.owner.account_id) if account else self.owner
        key, secret = await create_key(self.ctx, ACTOR, owner, "app", scopes or ("transactionals_write",))
        return key, secret.reveal()


@asynccontextmanager
async def open_desk(
    folder: Path,
    *,
    limits: Limits | None = None,
    sessions: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """A desk in `folder`.

    limits: the context's. sessions: fields of SessionLimits. Any: of those, and what SubmissionServer takes.
    """
    if sessions is not None:
        settings["limits"] = SessionLimits(**sessions)
    folder.mkdir(exist_ok=True)
    async with make_harness(folder) as harness:
        ctx = harness.ctx if limits is None else replace(harness.ctx, limits=limits)
        async with desk_of(harness, ctx, **settings) as desk:
            yield desk


@asynccontextmanager
async def desk_of(
    harness: Harness,
    ctx: Context,
    send_buffer_bytes: int = 0,
    tls: ssl.SSLContext | TlsSource | None = None,
    implicit_tls: bool = False,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """implicit_tls: `tls` from the first byte; else it is for STARTTLS."""
    source = (lambda: tls) if isinstance(tls, ssl.SSLContext) else tls
    settings["tls"] = None if implicit_tls else source
    account = await create_account(ctx, ACTOR, "Acme")
    server = await create_server(ctx, ACTOR, account.account_id, "Shop")
    owner = Owner(account.account_id, server.server_id)
    await trust(ctx, ACTOR, "example.com", account.account_id)
    key, secret = await create_key(ctx, ACTOR, owner, "app", ["transactionals_write"])
    submission = SubmissionServer(ctx, **({"logins": QUICK} | settings))
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer_bytes:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    port: int = listener.getsockname()[1]
    await submission.start(listener, source if implicit_tls else None)
    try:
        yield Desk(ctx, harness.clock, owner, key, secret.reveal(), submission, port)
    finally:
        await submission.stop()
        assert not submission.sessions
        assert not submission.tasks
        assert submission.held_bytes == 0


class Dialogue:
    """A raw SMTP client: what it says is bytes, every wait is short."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        """The last line of the next reply; "" when the peer closed."""
        return (await self.whole_reply())[-1:][0]

    async def whole_reply(self) -> list[str]:
        """All lines of the next reply; [""] when the peer closed."""
        lines = []
        while True:
            try:
                line = (await asyncio.wait_for(self.reader.readline(), 5)).decode()
            except ConnectionError:
                line = ""
            lines.append(line.rstrip("\r\n"))
            if not line or line[3:4] != "-":
                return lines

    async def replies(self) -> list[str]:
        """Every reply until the peer closes."""
        found = []
        while line := await self.reply():
            found.append(line)
        return found

    async def say(self, line: bytes) -> str:
        """Send a line, read its reply."""
        self.writer.write(line + b"\r\n")
        return await self.reply()

    def loop_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def greet(self) -> None:
        """Banner and EHLO."""
        assert (await self.reply())[:3] == "220"
        assert (await self.say(b"EHLO me.example"))[:3] == "250"

    async def log_in(self, key: str) -> None:
        await self.greet()
        assert (await self.say(b"AUTH PLAIN " + plain(key, key)))[:3] == "235"

    async def address(self, sender: str = SENDER, *recipients: str) -> None:
        """MAIL and RCPT, all taken."""
        assert (await self.say(f"MAIL FROM:<{sender}>".encode()))[:3] == "250"
        for recipient in recipients or ("b@example.net",):
            assert (await self.say(f"RCPT TO:<{recipient}>".encode()))[:3] == "250"

    async def data(self, content: bytes) -> str:
        """DATA and a content whose lines begin with no dot; the reply after the final dot."""
        assert (await self.say(b"DATA"))[:3] == "354"
        return await self.say(content + b".")

    async def send(self, content: bytes = MAIL, *recipients: str) -> str:
        await self.address(SENDER, *recipients)
        return await self.data(content)


@asynccontextmanager
async def dialogue(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Dialogue]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
    )
    try:
        yield Dialogue(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the other side may have been quicker
            await writer.wait_closed()


@asynccontextmanager
async def talking(folder: Path, **settings: Any) -> AsyncIterator[tuple[Desk, Dialogue]]:
    """`open_desk`, and one client of it. Any: as there."""
    async with open_desk(folder, **settings) as desk, dialogue(desk.port) as client:
        yield desk, client


def plain(user: str, password: str, acting_as: str = "") -> bytes:
    """The initial response of AUTH PLAIN."""
    return b64encode(f"{acting_as}\0{user}\0{password}".encode())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)
