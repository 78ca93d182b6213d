"""On a database that PostgreSQL knows nothing of yet, what is settled is found by its keys all the same."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from postroom.storage import hot
from postroom.storage.migrations.postgres import upgrade
from postroom.storage.postgres_batch import Batches
from postroom.storage.postgres_engine import SETTINGS
from tests.support.postgres import shared_databases

_MORE = "FROM generate_series({}, {}) n"
_ROWS = (
    "INSERT INTO messages (account_id, message_id, public_id, server_id, stream, purpose, sender, subject,"
    " rfc_message_id, content_id, size_bytes, origin, created_at)"
    " SELECT 1, n, n::text, 1, 'outbound', 'broadcast', 's', 's', 'r', n, 1, 'test', 1 ",
    "INSERT INTO deliveries (account_id, delivery_id, server_id, message_id, lane_id, recipient, address,"
    " kind, state, due) SELECT 1, n, 1, n, 1, 'r', 'r', 'to', 'claimed', 1 ",
    "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch, decision_id, day,"
    " granted_at) SELECT 1, n, 1, 1, 1, 1, 1, 1 ",
)
_TYPES = {"account_id": "int8", "attempt_id": "int8"}


@pytest.fixture
async def session() -> AsyncIterator[asyncpg.Connection]:
    with shared_databases().fresh() as url:
        await upgrade(url, unsafe=True)
        made = await asyncpg.connect(url, server_settings=SETTINGS)
        yield made
        await made.close()


async def test_by_its_keys_however_little_there_is(session: asyncpg.Connection) -> None:
    """By the account alone all rows of it would be read for each that is looked up."""
    made = Batches.of(hot.OPEN_ATTEMPT, hot.LOCK_ATTEMPT, _TYPES)
    assert made is not None
    await session.execute(f"PREPARE look AS {made.for_runs([[1], [1]]).text}")
    there = 0
    for rows in (20, 200, 800, 3000):  # a plan of before the first is not kept for long
        for text in _ROWS:
            await session.execute(text + _MORE.format(there + 1, rows))
        there = rows
        await session.execute("DISCARD PLANS")
        found = await session.fetch("EXPLAIN EXECUTE look(array[1, 1], array[1, 2], 1, 2)")
        plan = "\n".join(row[0] for row in found)
        conditions = re.findall(r"Index Cond: (.*)", plan)
        assert len(conditions) >= 3, plan
        for condition in conditions:
            assert re.search("attempt_id|delivery_id|message_id", condition), (rows, plan)
        assert not re.search("Hash|Merge|Materialize|Seq Scan", plan), plan
