"""What cannot be begun because of us is tried again after a pause, not as fast as the database allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.ids import AttemptId
from tests.support.clock import FakeClock
from tests.support.engine import Bench, bench, sink


async def thirty_looks(post: Bench) -> int:
    """How many attempts there are when the engine has looked thirty times by itself."""
    looked = 0
    look = post.engine.looking.look

    async def count_looks() -> None:
        nonlocal looked
        looked += 1
        await look()

    post.engine.looking.look = count_looks  # type: ignore[method-assign]
    await post.until(lambda _: looked >= 30)
    post.engine.looking.look = look  # type: ignore[method-assign]
    rows = await post.rows("SELECT COUNT(*) FROM attempts")
    found: int = rows[0][0]
    return found


@pytest.mark.parametrize("record", ["begin", "dot"])
async def test_while_the_journal_cannot_be_written(
    tmp_path: Path, record: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()  # it stands still, so whatever waits for a second waits
    async with sink(tmp_path) as out, bench(tmp_path, clock=clock) as post:
        await post.connection(out.port, hourly_cap=1000)

        refused: list[AttemptId] = []

        def full(attempt: AttemptId) -> None:
            refused.append(attempt)
            raise OSError("No space left on device")

        with monkeypatch.context() as disk:
            assert post.engine.terms.present is not None
            disk.setattr(post.engine.terms.present.journal, record, full)
            await post.send(Purpose.BROADCAST, [f"r{number}@example.net" for number in range(20)])
            await post.until(lambda _: bool(refused))
            assert await thirty_looks(post) <= 40  # what was claimed before the first came back
        clock.advance(2)
        assert await post.until_settled() == {"sent": 20}
