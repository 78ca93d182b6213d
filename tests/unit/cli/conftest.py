"""A desk on a real database, with fakes for the engine and the outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from postroom.control.desk import Desk
from postroom.core.server import Owner
from postroom.engine.housekeeping import Housekeeping, HousekeepingSettings
from tests.support.context import Harness, make_harness

KEPT = HousekeepingSettings(keep_content_s=1.0, pause_s=0.0)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with make_harness(tmp_path) as made:
        yield made


@pytest.fixture
def desk(harness: Harness) -> Desk:
    async def explain(owner: Owner, text: str) -> Mapping[str, object]:
        return {"owner": [owner.account_id, owner.server_id], "message": text}

    async def database() -> Mapping[str, object]:
        return {"kind": "sqlite", "journal_mode": "wal", "synchronous": 2}

    return Desk(
        harness.ctx,
        explain,
        database,
        lambda: "mail.example.org",
        Housekeeping(harness.store, harness.clock, KEPT),
        [{"name": "data", "value": "x"}],
    )
