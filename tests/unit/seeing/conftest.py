"""An open data folder with what `serve` shows of itself, not started: nothing looks unless a test does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom import wiring
from postroom.config import load
from postroom.serving.seeing import Seeing
from postroom.wiring import PostRoom
from tests.support.clock import FakeClock


@dataclass(frozen=True)
class Seen:
    """The folder, what is shown of it, and the clock of both."""

    room: PostRoom
    seeing: Seeing
    clock: FakeClock


@pytest.fixture
async def seen(tmp_path: Path) -> AsyncIterator[Seen]:
    clock = FakeClock()
    room = await wiring.open_post_room(load({"data": str(tmp_path / "data")}, {}), clock=clock)
    try:
        yield Seen(room, Seeing(room), clock)
    finally:
        await room.close()
