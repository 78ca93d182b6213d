"""A session whose peer does not answer delays its own message only, not what was claimed to follow it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.transports.interface import Timeouts
from tests.support.engine import QUICK, Bench, bench, sink


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers are waited for as long as in life; what counts as slow is shorter."""
    monkeypatch.setattr("tests.support.engine._TIMEOUTS", Timeouts(quit_s=0.2))
    monkeypatch.setattr("postroom.engine.sessions.SLOW_S", 0.2)


@pytest.mark.parametrize("purpose", [Purpose.BROADCAST, Purpose.TRANSACTIONAL])
async def test_mail_behind_a_hung_session_leaves_by_another_one(tmp_path: Path, purpose: Purpose) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(purpose, ["hang+dot@example.net"])
        await post.until(lambda s: s["claimed"] == 1)
        await post.send(purpose, ["fine@example.net"])
        await post.until(lambda s: s["sent"] == 1, 5.0)
        cut(post)


async def test_where_all_sessions_hang_another_connection_takes_the_rest(tmp_path: Path) -> None:
    settings = replace(QUICK, sessions_per_connection=2)
    async with (
        sink(tmp_path) as tarpit,
        sink(tmp_path) as fine,
        bench(tmp_path, settings=settings) as post,
    ):
        first = await post.connection(tarpit.port)
        runner = post.engine._runners
        for number in range(2):
            await post.send(Purpose.TRANSACTIONAL, [f"hang+dot+{number}@example.net"])
            await post.until(lambda s, n=number: s["claimed"] == n + 1)  # type: ignore[misc]  # bound at once
        await post.until(lambda _: len(runner[first].sessions) == 2)
        await post.connection(fine.port)
        for number in range(6):
            await post.send(Purpose.TRANSACTIONAL, [f"fine{number}@example.net"])
        await post.until(lambda s: s["sent"] == 6, 5.0)
        cut(post)


async def test_bulk_does_not_wait_beside_the_session_kept_for_transactional_mail(tmp_path: Path) -> None:
    settings = replace(QUICK, sessions_per_connection=2)
    async with sink(tmp_path) as tarpit, sink(tmp_path) as fine, bench(tmp_path, settings=settings) as post:
        await post.connection(tarpit.port)
        await post.send(Purpose.TRANSACTIONAL, ["opens@example.net"])
        await post.until_settled()
        await post.send(Purpose.BROADCAST, ["hang+dot@example.net"])
        await post.until(lambda s: s["claimed"] == 1)
        await post.connection(fine.port)
        await post.send(Purpose.BROADCAST, [f"fine{number}@example.net" for number in range(6)])
        await post.until(lambda s: s["sent"] == 7, 5.0)
        cut(post)


def cut(post: Bench) -> None:
    """End what hangs, so that the engine need not wait for it."""
    for runner in post.engine._runners.values():
        for slot in runner.sessions:
            slot.session.abort()
