"""A call the engine never got costs seconds, never the mail: it looks by itself, earlier dues included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from postroom.core.message import Purpose
from postroom.engine import unknowns
from postroom.engine.lanes import LaneState
from postroom.errors import Unavailable
from postroom.storage.interface import Work
from tests.support import seed_rows
from tests.support.engine import Bench, bench, sink

T = TypeVar("T")


async def look_by_itself(post: Bench) -> None:
    """The look it takes now and then, without waiting for its turn."""
    await post.engine.looking.reread()
    post.engine.pump()


async def test_mail_nobody_told_of_leaves_a_lane_whose_other_mail_waits_for_its_next_try(
    tmp_path: Path,
) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["defer451@example.net"])
        await post.until(lambda s: s["ready"] == 1 and not s["claimed"])
        await post.until(lambda _: all(not s.has_work(post.clock.now_us()) for s in lanes(post)))
        await post.store.write(
            lambda: seed_rows.message(Purpose.TRANSACTIONAL, ["someone@example.net"], "untold")
        )
        await look_by_itself(post)
        await post.until(lambda s: s["sent"] == 1, 5.0)


def lanes(post: Bench) -> list[LaneState]:
    return list(post.engine._book.lanes.values())


async def test_an_unknown_whose_end_could_not_be_read_ends_all_the_same(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        read = post.store.read
        failed = 0

        async def read_badly(work: Callable[[], Work[T]]) -> T:
            nonlocal failed
            if work is unknowns.next_due and not failed:
                failed += 1
                raise Unavailable("the database cannot be read")
            return await read(work)

        post.store.read = read_badly  # type: ignore[method-assign]
        await post.send(Purpose.TRANSACTIONAL, ["drop+dot+once@example.net"])
        await post.until(lambda s: s["unknown"] == 1 and failed == 1)
        await look_by_itself(post)
        assert await post.until_settled(5.0) == {"sent": 1}


async def test_lanes_that_cannot_be_decided_are_not_tried_without_a_pause(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        read = post.store.read_each
        failed = looked = 0

        async def read_badly(works: Sequence[Callable[[], Work[T]]]) -> list[T]:
            nonlocal failed
            if looked < 5:
                failed += 1
                raise Unavailable("the database cannot be read")
            return await read(works)

        look = post.engine.looking.look

        async def count_looks() -> None:
            nonlocal looked
            looked += 1
            await look()

        post.store.read_each = read_badly  # type: ignore[method-assign]
        post.engine.looking.look = count_looks  # type: ignore[method-assign]
        await post.send(Purpose.BROADCAST, ["someone@example.net"])
        assert await post.until_settled(5.0) == {"sent": 1}
        assert 1 <= failed <= 10
