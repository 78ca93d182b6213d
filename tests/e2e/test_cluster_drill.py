"""The drill of a cluster in small: PostgreSQL and three processes, any of which is killed, or all, or the
database; `make drill ARGS=cluster` is the large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills import kills
from drills.cluster import Target
from drills.kills import Course
from postroom.core.message import Purpose


@pytest.mark.parametrize(("target", "count"), [(Target.CHILD, 3), (Target.ALL, 1), (Target.DATABASE, 2)])
async def test_nothing_is_lost_and_copies_stay_within_open_transactions(
    tmp_path: Path, target: Target, count: int
) -> None:
    course = Course(
        Purpose.TRANSACTIONAL, 250, kills=count, processes=3, targets=(target,), seed=7, reply_ms=15.0
    )
    verdict = await kills.run(tmp_path, course)
    assert verdict.problems() == [], verdict.line()
    assert (verdict.counts.accepted, verdict.kills) == (250, count)


async def test_kills_of_processes_do_not_widen_an_hourly_cap(tmp_path: Path) -> None:
    course = Course(
        Purpose.BROADCAST, 240, kills=3, hourly_cap=120, processes=3, targets=(Target.CHILD,), seed=3
    )
    verdict = await kills.run(tmp_path, course)
    assert verdict.problems() == [], verdict.line()
    assert verdict.counts.waiting >= 120
