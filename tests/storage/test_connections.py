"""Connections in the database, where the actions do not look themselves."""

from __future__ import annotations

from pathlib import Path

from postroom.ids import AccountId, ConnectionId
from postroom.storage import connections
from tests.support import seed_rows
from tests.support.context import make_context
from tests.support.stores import on_both

pytestmark = on_both


async def test_get_names_the_account_and_skips_the_deleted(tmp_path: Path) -> None:
    async with make_context(tmp_path) as ctx:
        await ctx.store.write(seed_rows.tenants)
        made = await ctx.store.write(lambda: seed_rows.connection(100))
        found = await ctx.store.read(lambda: connections.get(AccountId(1), made))
        assert found is not None
        assert (found.connection_id, found.hourly_cap, found.security.value) == (made, 100, "auto")
        assert await ctx.store.read(lambda: connections.get(AccountId(2), made)) is None
        assert await ctx.store.read(lambda: connections.get(AccountId(1), ConnectionId(made + 1))) is None
        await ctx.store.write(lambda: connections.mark_deleted(found, 9))
        assert await ctx.store.read(lambda: connections.get(AccountId(1), made)) is None
