"""What was claimed is delivered or comes back, whatever ends while the claim is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.engine.claim import Claims
from postroom.engine.runner import Runner
from postroom.storage import contents
from postroom.storage.interface import Rows
from tests.support.engine import bench, sink
from tests.support.stores import on_both

pytestmark = on_both


async def test_the_last_session_ends_while_it_claims(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port)
        await post.send(Purpose.BROADCAST, ["first@example.net"])
        assert await post.until_settled() == {"sent": 1}
        only = post.engine._runners[connection]
        await post.until(lambda _: len(only.sessions._idle) == 1)
        claim = post.engine.claim

        async def claim_slowly(runner: Runner, wanted: int, wanted_bulk: int) -> Claims | None:
            claims = await claim(runner, wanted, wanted_bulk)
            if claims is not None and claims.claimed:
                post.engine.claim = claim  # type: ignore[method-assign]  # once
                async with asyncio.timeout(5):
                    while runner.sessions:
                        runner.sessions.close_idle()
                        await asyncio.sleep(0.001)
            return claims

        post.engine.claim = claim_slowly  # type: ignore[method-assign]  # a claim whose commit takes long
        await post.send(Purpose.BROADCAST, ["second@example.net"])
        assert await post.until_settled(5.0) == {"sent": 2}


async def test_contents_that_cannot_be_read_ahead_lose_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        read = contents.bodies_of
        failed = 0

        def read_badly(rows: Rows) -> dict[int, bytes]:
            nonlocal failed
            if not failed:
                failed += 1
                raise RuntimeError("the page is broken")
            return read(rows)

        monkeypatch.setattr(contents, "bodies_of", read_badly)
        await post.send(Purpose.BROADCAST, ["someone@example.net"])
        assert await post.until_settled(5.0) == {"sent": 1}
        assert failed == 1
