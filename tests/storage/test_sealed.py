"""Sealed columns: a rotation forgets none, and exchanges a value only where it still is what was read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary

from postroom.keyring import KeyRing
from postroom.storage import instance_keys, sealed
from postroom.storage.interface import Sql, Work
from postroom.storage.migrations import upgrade
from postroom.storage.sqlite import Database
from postroom.storage.tables import metadata
from tests.support.clock import FakeClock

# Bytes that are not sealed: random ids, hashes, what a message says.
PLAIN = {"uid", "hash", "body", "fingerprint", "targets", "label", "shared", "grams", "subjects"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db", FakeClock(), durable=False)
    upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.create(tmp_path / "key")


def test_every_sealed_column_is_known() -> None:
    """A column of bytes is either one of `sealed.COLUMNS` or has a name that says it holds no secret."""
    found = {
        column
        for table in metadata.tables.values()
        for column in table.c
        if isinstance(column.type, LargeBinary) and column.name not in PLAIN
    }
    assert found == {one.column for one in sealed.COLUMNS}
    for one in sealed.COLUMNS:
        assert set(one.keys) == set(one.table.primary_key.columns)


def test_counts_by_key(database: Database, ring: KeyRing) -> None:
    for kind in ("open", "click"):
        database.transact(lambda kind=kind: instance_keys.load(ring, kind))  # type: ignore[misc]
    old, new = ring.active_id, ring.add()
    ring.activate(new)
    database.transact(lambda: instance_keys.load(ring, "bounce"))

    found = database.snapshot(sealed.rows_by_key)
    assert found == {old: {"instance_keys": 2}, new: {"instance_keys": 1}}


def test_slices_go_over_every_value_of_another_key_once(database: Database, ring: KeyRing) -> None:
    kinds = [f"kind{number}" for number in range(7)]
    for kind in kinds:
        database.transact(lambda kind=kind: instance_keys.load(ring, kind))  # type: ignore[misc]
    column = next(one for one in sealed.COLUMNS if one.table.name == "instance_keys")
    seen, after = [], None
    while rows := database.snapshot(lambda: sealed.not_under(column, "00000000", after, 3)):  # noqa: B023
        seen += [row.keys[0] for row in rows]
        after = rows[-1].keys

    assert seen == kinds
    assert database.snapshot(lambda: sealed.not_under(column, ring.active_id, None, 3)) == []


def test_a_value_replaced_meanwhile_is_left_alone(database: Database, ring: KeyRing) -> None:
    database.transact(lambda: instance_keys.load(ring, "open"))
    column = next(one for one in sealed.COLUMNS if one.table.name == "instance_keys")
    (row,) = database.snapshot(lambda: sealed.not_under(column, "00000000", None, 3))

    def change() -> Work[None]:
        yield Sql("UPDATE instance_keys SET sealed = :new", {"new": b"newer"})

    database.transact(change)
    assert database.transact(lambda: sealed.replace(column, [(row, b"mine")])) == 0

    def look() -> Work[object]:
        return (yield Sql("SELECT sealed FROM instance_keys"))[0][0]

    assert database.snapshot(look) == b"newer"
