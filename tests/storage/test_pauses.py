"""Pauses on a real database."""

from __future__ import annotations

from pathlib import Path

from postroom.ids import AccountId
from postroom.storage import pauses
from postroom.storage.pauses import Pause, PauseScope
from tests.support.context import make_context
from tests.support.stores import on_both

pytestmark = on_both

ONE = Pause(AccountId(1), PauseScope.SERVER, 7, 10, "command line", "moving house")


async def test_a_pause_comes_and_goes(tmp_path: Path) -> None:
    async with make_context(tmp_path) as ctx:
        assert await ctx.store.write(lambda: pauses.add(ONE)) is True
        again = Pause(AccountId(1), PauseScope.SERVER, 7, 20, "key 3", "other words")
        assert await ctx.store.write(lambda: pauses.add(again)) is False
        assert await ctx.store.read(pauses.everything) == [ONE]
        assert await ctx.store.write(lambda: pauses.remove(AccountId(2), PauseScope.SERVER, 7)) is False
        assert await ctx.store.write(lambda: pauses.remove(AccountId(1), PauseScope.CONNECTION, 7)) is False
        assert await ctx.store.write(lambda: pauses.remove(AccountId(1), PauseScope.SERVER, 7)) is True
        assert await ctx.store.write(lambda: pauses.remove(AccountId(1), PauseScope.SERVER, 7)) is False
        assert await ctx.store.read(pauses.everything) == []
