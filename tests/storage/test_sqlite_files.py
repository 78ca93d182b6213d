"""A copy of a database in use is one moment of it, whatever is written meanwhile, and it comes to an end."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.storage import sqlite_files

ROWS = 400


@pytest.fixture
def used(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database of a few hundred pages, whose numbers add up to 0, that somebody has open."""
    writer = sqlite3.connect(tmp_path / "db", isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE n (id INTEGER PRIMARY KEY, value INTEGER, filler BLOB)")
    writer.executemany("INSERT INTO n VALUES (?, 0, randomblob(3000))", [(i,) for i in range(ROWS)])
    yield writer
    writer.close()


def test_a_copy_is_one_moment_and_ends_while_others_write(
    used: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step both ends of the file change together: a copy of two moments would not add up."""
    monkeypatch.setattr(sqlite_files, "_STEP_BYTES", 4096 * 8)
    steps = 0
    real = os.fdatasync

    def written(descriptor: int) -> None:
        nonlocal steps
        steps += 1
        used.execute("BEGIN IMMEDIATE")
        used.execute("UPDATE n SET value = value + 1, filler = randomblob(3000) WHERE id = 0")
        used.execute(f"UPDATE n SET value = value - 1, filler = randomblob(3000) WHERE id = {ROWS - 1}")
        used.execute("COMMIT")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", written)
    sizes: list[int] = []
    sqlite_files.copy(tmp_path / "db", tmp_path / "copy", sizes.append)

    assert 40 < steps < 80  # once over the file: it never began anew
    assert sizes == [(tmp_path / "copy").stat().st_size]
    copied = sqlite3.connect(tmp_path / "copy")
    assert copied.execute("SELECT SUM(value), COUNT(*), MAX(value) FROM n").fetchone() == (0, ROWS, 0)
    assert copied.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copied.close()
    assert used.execute("SELECT value FROM n WHERE id = 0").fetchone() == (steps,)


def test_where_there_is_no_room_nothing_is_written(used: sqlite3.Connection, tmp_path: Path) -> None:
    def none(size_bytes: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        sqlite_files.copy(tmp_path / "db", tmp_path / "copy", none)
    assert not (tmp_path / "copy").exists()


def test_a_file_that_is_there_is_not_written_over(used: sqlite3.Connection, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(FileExistsError):
        sqlite_files.copy(tmp_path / "db", tmp_path / "copy", lambda size: None)
    assert (tmp_path / "copy").read_text() == "mine"
