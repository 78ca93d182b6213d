"""Several units that only read, on one snapshot: each gets its own, and what they ask alike is asked once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from postroom.errors import Conflict
from postroom.storage.interface import Now, Rows, Sql, Together, Work, now
from postroom.storage.postgres import PostgresStore
from tests.support.context import Harness, make_harness
from tests.support.stores import on_both, on_postgresql

pytestmark = on_both


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with make_harness(tmp_path) as made:
        yield made


def put() -> Work[None]:
    named = [{"name": name, "value": name * 2} for name in "abc"]
    yield Sql("INSERT INTO instance (name, value) VALUES (:name, :value)", named)


def value(name: str) -> Work[tuple[Rows, bool]]:
    """In two steps, the second of them not the same for all."""
    at, found = yield Together([Now(), Sql("SELECT value FROM instance WHERE name = :name", {"name": name})])
    if not found:
        raise Conflict(f"there is no {name}")
    again = yield Sql("SELECT name FROM instance WHERE value = :value", {"value": found[0][0]})
    later = (yield from now()) >= at[0][0]
    return [*found, *again], later


async def test_each_gets_its_own_in_their_order(harness: Harness) -> None:
    await harness.store.write(put)
    told = await harness.store.read_each([partial(value, name) for name in "cabca"])
    assert told == [([(name * 2,), (name,)], True) for name in "cabca"]
    assert await harness.store.read_each([]) == []


async def test_what_one_raises_is_raised_and_the_next_call_works(harness: Harness) -> None:
    await harness.store.write(put)
    with pytest.raises(Conflict, match="there is no x"):
        await harness.store.read_each([partial(value, name) for name in "axb"])
    assert len(await harness.store.read_each([partial(value, "a")])) == 1


@on_postgresql
async def test_many_cost_as_many_statements_as_one(harness: Harness) -> None:
    store = harness.store
    assert isinstance(store, PostgresStore)
    await store.write(put)
    await store.read_each([partial(value, name) for name in "abc"])
    counts = []
    for many in ("a", "abcabcabc"):
        before = store.statements
        await store.read_each([partial(value, name) for name in many])
        counts.append(store.statements - before)
    assert counts[0] == counts[1]


async def test_nothing_can_be_changed_there(harness: Harness) -> None:
    with pytest.raises(Exception, match=r"read-?only"):
        await harness.store.read_each([put, put])
