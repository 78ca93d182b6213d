"""Fixtures for tests of actions: a context, and an account with a server in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.actions.accounts import create_account
from postroom.actions.context import Context
from postroom.actions.servers import create_server
from postroom.core.server import Owner
from tests.support.context import ACTOR, Harness, make_harness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with make_harness(tmp_path) as made:
        yield made


@pytest.fixture
def ctx(harness: Harness) -> Context:
    return harness.ctx


@pytest.fixture
async def owner(ctx: Context) -> Owner:
    """A server of an account, as its key sees it."""
    account = await create_account(ctx, ACTOR, "Acme")
    server = await create_server(ctx, ACTOR, account.account_id, "Shop")
    return Owner(account.account_id, server.server_id)


@pytest.fixture
async def stranger(ctx: Context, owner: Owner) -> Owner:
    """A server of another account."""
    account = await create_account(ctx, ACTOR, "Rival")
    server = await create_server(ctx, ACTOR, account.account_id, "Stall")
    return Owner(account.account_id, server.server_id)
