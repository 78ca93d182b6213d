"""What the engine reads of its connections is never older than what it knew already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import pytest

from postroom.clock import MICROS
from postroom.core.message import Purpose
from postroom.engine import looking
from postroom.engine.lanes import LaneState
from postroom.ids import LaneId
from postroom.storage.interface import Store, Work
from tests.support.clock import FakeClock
from tests.support.engine import QUICK, bench

T = TypeVar("T")


class LateAnswers:
    """A store whose reads are answered when a test lets them, each from the moment it was asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.waiting: list[asyncio.Event] = []

    async def read(self, work: Callable[[], Work[T]]) -> T:
        found = await self._store.read(work)
        told = asyncio.Event()
        self.waiting.append(told)
        await told.wait()
        return found


async def test_an_answer_that_comes_late_takes_nothing_back(tmp_path: Path) -> None:
    """The read of before a connection was held ends after the one that was asked because of it."""
    clock = FakeClock()
    async with bench(tmp_path, clock=clock) as post:
        made = await post.connection(1)
        async with asyncio.timeout(10):
            while made not in post.engine.runners:
                await asyncio.sleep(0.005)
        late = LateAnswers(post.store)
        looks = post.engine.looking
        looks._store = cast(Store, late)

        async def asked(number: int) -> asyncio.Event:
            async with asyncio.timeout(10):
                while len(late.waiting) < number:
                    await asyncio.sleep(0.005)
            return late.waiting[number - 1]

        early = asyncio.create_task(looks.refresh(made))
        early_answer = await asked(1)
        until_us = clock.now_us() + 60 * MICROS
        await post.do("UPDATE connections SET held_until = :u", u=until_us)
        after = asyncio.create_task(looks.refresh(made))
        (await asked(2)).set()
        await after
        assert post.engine.runners[made].route.held_until == until_us
        early_answer.set()
        await early
        assert post.engine.runners[made].route.held_until == until_us
        looks._store = post.store


async def test_many_lanes_are_doubted_by_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deciding hundreds anew each half minute, in case a call was missed, would be most of what is done."""
    monkeypatch.setattr(looking, "_DOUBTS", 2)
    async with bench(tmp_path, settings=replace(QUICK, look_every_s=3600.0)) as post:
        for purpose in Purpose:
            await post.send(purpose, ["a@example.net"])
        doubted: list[LaneId] = []

        def doubt(state: LaneState) -> None:
            doubted.append(state.lane.lane_id)

        monkeypatch.setattr(post.engine._book, "doubt", doubt)
        for count in (2, 4, 6):
            await post.engine.looking.reread()
            assert len(doubted) == count
            if count >= len(Purpose):
                assert set(doubted[-4:]) == set(post.engine.lanes)  # each in two rereads
