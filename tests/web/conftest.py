"""The public pages on a real socket, and one delivery to have links for."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from postroom.actions import accounts, identities, servers
from postroom.actions.accept import Submission, accept_message
from postroom.actions.context import Context
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.http.app import Mount, http_app
from postroom.http.server import serve_http
from postroom.ids import DeliveryId, ServerId
from postroom.mail.content import Mailbox
from postroom.storage.interface import Rows, Sql, Work
from postroom.tracking.hits import Hits
from postroom.tracking.tokens import TokenKind
from postroom.web import tracking
from postroom.web.public import PATHS, PublicPages
from postroom.web.tracking import TrackingPages
from tests.support.context import ACTOR, Harness, make_harness
from tests.support.engine import LINKS

READER = "203.0.113.7"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@dataclass(frozen=True)
class Site:
    """A server with the pages. `http` comes through a trusted proxy, as READER."""

    harness: Harness
    http: httpx.AsyncClient
    owner: Owner
    hits: Hits

    @property
    def ctx(self) -> Context:
        return self.harness.ctx

    async def send(
        self,
        *to: str,
        purpose: Purpose = Purpose.BROADCAST,
        server_id: ServerId | None = None,
        **more: object,
    ) -> list[DeliveryId]:
        """Accept a message; nothing sends it here."""
        assert self.owner.server_id is not None
        accepted = await accept_message(
            self.ctx,
            Submission(
                self.owner.account_id,
                server_id or self.owner.server_id,
                purpose,
                "test",
                [Mailbox(one) for one in to],
                subject="x",
                **{"text": "x", **more},  # type: ignore[arg-type]  # its fields
            ),
        )
        return [delivery for delivery, _, _ in accepted.deliveries]

    def path(self, delivery: DeliveryId) -> str:
        return f"/u/{LINKS.token(TokenKind.UNSUBSCRIBE, delivery)}"

    async def rows(self, text: str) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text))

        return await self.ctx.store.read(work)

    async def do(self, text: str) -> None:
        def work() -> Work[None]:
            yield Sql(text)

        await self.ctx.store.write(work)

    async def suppressed(self) -> set[tuple[str, str]]:
        """(stream, address) of every suppression."""
        return {(row[0], row[1]) for row in await self.rows("SELECT stream, address FROM suppressions")}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with make_harness(tmp_path) as harness:
        ctx = harness.ctx
        account = await accounts.create_account(ctx, ACTOR, "Acme")
        shop = await servers.create_server(
            ctx, ACTOR, account.account_id, "Shop", default_sender="news@shop.example"
        )
        await identities.trust(ctx, ACTOR, "shop.example", account.account_id)
        hits = Hits(ctx)
        pages = [
            Mount(PublicPages(ctx, LINKS), PATHS, ""),
            Mount(TrackingPages(ctx, LINKS, hits), tracking.PATHS, ""),
        ]
        proxies = [ipaddress.ip_network("127.0.0.0/8")]
        app = http_app(pages, lambda: (), most_body_bytes=1 << 20, trusted_proxies=proxies)
        handle = await serve_http(app, socket.create_server(("127.0.0.1", 0)), drain_s=1.0)
        try:
            async with httpx.AsyncClient(base_url=handle.url, headers={"X-Forwarded-For": READER}) as http:
                yield Site(harness, http, Owner(account.account_id, shop.server_id), hits)
        finally:
            await handle.stop()
            await hits.stop()
