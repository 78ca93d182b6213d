"""Room under a cap that changes: the owner raises it, and what is full for bulk is not full for the rest."""

from __future__ import annotations

from pathlib import Path

from postroom.core.message import Purpose
from tests.support.clock import FakeClock
from tests.support.engine import bench, sink


async def test_a_raised_cap_is_used_at_once(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port, hourly_cap=1)
        await post.send(Purpose.BROADCAST, ["a@example.net", "b@example.net", "c@example.net"])
        runner = post.engine._runners
        await post.until(lambda s: s["sent"] == 1 and runner[connection].blocked(transactional=False))
        await post.do("UPDATE connections SET hourly_cap = 100, version = version + 1")
        post.engine.connection_changed(connection)
        assert await post.until_settled(5.0) == {"sent": 3}


async def test_transactional_mail_past_a_full_bulk_decides_nothing_anew(tmp_path: Path) -> None:
    """Bulk waits for the room that is kept back from it; each transactional message used to undo that."""
    clock = FakeClock()
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        connection = await post.connection(out.port, hourly_cap=50)
        await post.send(Purpose.TRANSACTIONAL, ["first@example.net"])
        assert await post.until_settled() == {"sent": 1}
        await post.do("UPDATE cap_hour SET transactional = 8")
        await post.send(Purpose.BROADCAST, [f"bulk{i}@example.net" for i in range(60)])
        runner = post.engine._runners[connection]
        await post.until(
            lambda s: s["sent"] == 40 and not s["claimed"] and runner.blocked(transactional=False)
        )
        await post.until(lambda _: not post.engine._pump.deciding)
        before = (await post.rows("SELECT COUNT(*) FROM decisions"))[0][0]
        for number in range(5):
            await post.send(Purpose.TRANSACTIONAL, [f"t{number}@example.net"])
            await post.until(lambda s, n=number: s["sent"] == 41 + n)  # type: ignore[misc]  # bound at once
        assert (await post.rows("SELECT COUNT(*) FROM decisions"))[0][0] <= before + 1
