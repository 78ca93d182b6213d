"""For tests of any dialect: an account with two servers, a foreign account, and keys of each kind."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from postroom.actions import accounts, identities, keys, servers
from postroom.actions.context import Context
from postroom.core.server import Owner
from postroom.ids import AccountId, ServerId
from tests.support.context import ACTOR, Harness, make_harness
from tests.support.http import application

SENDER = "Shop <hello@shop.example>"


@dataclass
class House:
    """What is there, and a client without a key."""

    harness: Harness
    http: httpx.AsyncClient
    account: AccountId
    channel: ServerId
    other_channel: ServerId
    foreign_channel: ServerId
    server_key: str
    account_key: str
    foreign_key: str
    base: str = ""  # what every path begins with

    @property
    def ctx(self) -> Context:
        return self.harness.ctx

    async def key(self, *scopes: str) -> str:
        _, text = await keys.create_key(self.ctx, ACTOR, Owner(self.account, self.channel), "k", scopes)
        return text.reveal()

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """A request with the channel's key unless told otherwise."""
        said = {"Authorization": f"Bearer {key or self.server_key}", **(headers or {})}
        path = self.base + path
        if body is not None:
            return await self.http.request(method, path, headers=said, json=body)
        return await self.http.request(method, path, headers=said, content=content)


def filled(path: str, number: object, stream: str) -> str:
    """A call's path with a stream where one belongs, and with `number` for everything else it names."""
    return re.sub(r"{(\w+)}", lambda found: stream if found[1] == "stream" else str(number), path)


@asynccontextmanager
async def build_house(folder: Path, base: str) -> AsyncIterator[House]:
    """A house whose calls go below `base`."""
    async with make_harness(folder) as harness:
        ctx = harness.ctx
        account = await accounts.create_account(ctx, ACTOR, "Acme")
        shop = await servers.create_server(ctx, ACTOR, account.account_id, "Shop", default_sender=SENDER)
        stall = await servers.create_server(ctx, ACTOR, account.account_id, "Stall", default_sender=SENDER)
        await identities.trust(ctx, ACTOR, "shop.example", account.account_id)
        rival = await accounts.create_account(ctx, ACTOR, "Rival")
        theirs = await servers.create_server(ctx, ACTOR, rival.account_id, "Theirs")

        async def key(owner: Owner) -> str:
            return (await keys.create_key(ctx, ACTOR, owner, "test", ["all"]))[1].reveal()

        transport = httpx.ASGITransport(application(ctx), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://post.example") as http:
            yield House(
                harness,
                http,
                account.account_id,
                shop.server_id,
                stall.server_id,
                theirs.server_id,
                await key(Owner(account.account_id, shop.server_id)),
                await key(Owner(account.account_id)),
                await key(Owner(rival.account_id, theirs.server_id)),
                base,
            )
