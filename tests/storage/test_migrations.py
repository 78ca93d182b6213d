"""Migrations: they make what the tables say, once, whole or not at all, and know their own."""

from __future__ import annotations

import ast
import io
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Index, Integer, MetaData, Table, Text, create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, SchemaItem

from postroom.errors import Unavailable
from postroom.storage import migrations
from postroom.storage.migrations import HEAD, __main__, first_postgres, stored_revision, upgrade
from postroom.storage.migrations.apply import directory
from postroom.storage.sqlite import Database
from postroom.storage.tables import metadata
from tests.support import seed_rows
from tests.support.clock import FakeClock

Schema = dict[str, str]  # name of a table or index: the text it was made with, in single spaces


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "db", FakeClock(), durable=False)
    yield made
    made.close()


def schema_of(path: Path) -> Schema:
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {name: " ".join(text.split()) for name, text in found if not name.startswith("sqlite_")}


def schema_of_tables(path: Path) -> Schema:
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    return schema_of(path)


def migrated(path: Path) -> Schema:
    made = Database(path, FakeClock(), durable=False)
    upgrade(made)
    made.close()
    return schema_of(path)


def test_the_migrated_schema_is_the_one_of_the_tables_to_the_letter(tmp_path: Path) -> None:
    found = migrated(tmp_path / "migrated")

    assert found.pop("alembic_version")
    assert found == schema_of_tables(tmp_path / "made")


def test_what_only_sqlite_has_is_in_the_migrated_schema(tmp_path: Path) -> None:
    found = migrated(tmp_path / "db")

    assert found["ready"].endswith("WITHOUT ROWID")
    assert found["unknowns"].endswith("WITHOUT ROWID")
    for table in ("accounts", "messages", "deliveries", "attempts", "events", "contents"):
        assert "PRIMARY KEY AUTOINCREMENT" in found[table], table
    assert found["ix_attempts_open"].endswith("WHERE result IS NULL")


def test_alembic_itself_finds_no_difference(database: Database) -> None:
    upgrade(database)

    context = MigrationContext.configure(database.core)
    assert compare_metadata(context, metadata) == []


def test_the_developers_tool_says_what_a_new_revision_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert __main__.difference().strip() == "pass"

    grown = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.tables.values():
        table.to_metadata(grown)
    grown.tables["audit"].append_column(Column("later", Text))
    monkeypatch.setattr(__main__, "metadata", grown)
    assert "op.add_column('audit', sa.Column('later'" in __main__.difference()


def test_the_first_revision_written_anew_says_what_it_says_now(tmp_path: Path) -> None:
    """Until the first release; the formatter's line breaks do not count."""
    copy = tmp_path / "r0001_first.py"
    copy.write_text(__main__.FIRST.read_text("utf-8"), "utf-8")
    __main__.rewrite_first(copy)

    assert ast.dump(ast.parse(copy.read_bytes())) == ast.dump(ast.parse(__main__.FIRST.read_bytes()))


def test_on_postgresql_the_revisions_make_the_same_tables() -> None:
    """Rendered, not run: what the dialect would be sent, against what the tables would send."""
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written}
    )
    with Operations.context(context):
        for script in reversed(list(directory().walk_revisions())):
            script.module.upgrade()

    found = {" ".join(one.split()) for one in written.getvalue().split(";") if one.strip()}
    wanted: list[SchemaItem] = [*metadata.tables.values()]
    wanted += [index for table in metadata.tables.values() for index in table.indexes]
    made = {" ".join(_postgresql(one).split()) for one in wanted}
    assert found == made | {" ".join(one.split()) for one in first_postgres.STATEMENTS}


def _postgresql(item: SchemaItem) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own constructor
    if isinstance(item, Table):
        return str(CreateTable(item).compile(dialect=dialect))
    assert isinstance(item, Index)
    return str(CreateIndex(item).compile(dialect=dialect))


def test_a_second_upgrade_changes_nothing_and_does_not_ask_alembic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "db"
    before = migrated(path)
    monkeypatch.setitem(sys.modules, "postroom.storage.migrations.apply", None)  # importing it would fail
    database = Database(path, FakeClock(), durable=False)
    changes = database.core.exec_driver_sql("PRAGMA data_version").scalar()
    upgrade(database)

    assert database.core.exec_driver_sql("PRAGMA data_version").scalar() == changes
    assert stored_revision(database) == HEAD
    database.close()
    assert schema_of(path) == before


def test_the_head_is_the_newest_revision_and_the_line_has_no_branches() -> None:
    scripts = directory()
    assert scripts.get_heads() == [HEAD]
    assert all(not script.is_merge_point for script in scripts.walk_revisions())
    assert all(not hasattr(script.module, "downgrade") for script in scripts.walk_revisions())


def test_what_was_stored_is_there_after_the_next_upgrade(database: Database) -> None:
    upgrade(database)
    database.transact(seed_rows.tenants)
    upgrade(database)

    assert database.core.exec_driver_sql("SELECT name FROM servers").all() == [("default",)]


def test_a_newer_database_is_refused_and_left_alone(database: Database, tmp_path: Path) -> None:
    upgrade(database)
    database.core.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.core.exec_driver_sql("UPDATE instance SET value = '9999' WHERE name = 'schema_floor'")
    before = schema_of(tmp_path / "db")

    with pytest.raises(Unavailable, match="written by a newer Postroom") as caught:
        upgrade(database)

    assert "9999" in str(caught.value)
    assert HEAD in str(caught.value)
    assert stored_revision(database) == "9999"
    assert schema_of(tmp_path / "db") == before


@pytest.mark.parametrize("also", ["", "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"])
def test_a_database_that_is_not_ours_is_refused_and_left_alone(
    database: Database, tmp_path: Path, also: str
) -> None:
    database.core.exec_driver_sql("CREATE TABLE recipes (name TEXT)")
    if also:
        database.core.exec_driver_sql(also)
    before = schema_of(tmp_path / "db")

    with pytest.raises(Unavailable, match="Postroom did not make it"):
        upgrade(database)

    assert schema_of(tmp_path / "db") == before


# Kills itself right before the statement whose number, counted among those that make something, is argv[2].
_KILLED = """
import os, signal, sqlite3, sys
from postroom.clock import SystemClock
from postroom.storage.migrations import upgrade
from postroom.storage.sqlite import Database

database = Database(sys.argv[1], SystemClock())
left = int(sys.argv[2])

def seen(statement):
    global left
    if statement.lstrip().startswith(("CREATE", "INSERT", "COMMIT")):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

database.core.connection.driver_connection.set_trace_callback(seen)
upgrade(database)
"""


@pytest.mark.parametrize("statements", [20, -1], ids=["half way", "the commit"])
def test_an_upgrade_that_was_killed_is_done_by_the_next_one(tmp_path: Path, statements: int) -> None:
    path = tmp_path / "db"
    wanted = migrated(tmp_path / "wanted")
    # The tables and indexes, Alembic's own table and the row in it; then comes the commit.
    before_commit = len(wanted) + 1
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path), str(statements if statements >= 0 else before_commit)],
        cwd=Path(migrations.__file__).parents[3],
        check=False,
        timeout=30,
    )
    assert ended.returncode == -signal.SIGKILL
    assert schema_of(path) == {}

    assert migrated(path) == wanted


def test_a_statement_that_fails_leaves_the_database_as_it_was(database: Database, tmp_path: Path) -> None:
    driver = database.core.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)

    def no_messages(action: int, name: str | None, *_: object) -> int:
        refused = action == sqlite3.SQLITE_CREATE_TABLE and name == "messages"
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK

    driver.set_authorizer(no_messages)
    with pytest.raises(Unavailable, match="cannot be brought to schema"):
        upgrade(database)
    assert schema_of(tmp_path / "db") == {}

    driver.set_authorizer(None)
    upgrade(database)
    assert stored_revision(database) == HEAD


def test_two_that_begin_at_once_end_with_one_schema(database: Database, tmp_path: Path) -> None:
    """The second looked before the first began, and got the lock after it was done."""
    other = Database(tmp_path / "db", FakeClock(), durable=False)
    assert stored_revision(other) is None
    real_begin = other.begin

    def begin_late(*, write: bool) -> None:
        upgrade(database)
        real_begin(write=write)

    other.begin = begin_late  # type: ignore[method-assign]  # the moment between look and lock
    upgrade(other)
    assert stored_revision(other) == HEAD
    other.close()


def test_integers_are_the_widest_everywhere() -> None:
    """Microseconds since 1970 overflow 32 bits; SQLite's keys count up only when spelt INTEGER."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own constructor
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type.dialect_impl(dialect), Integer):
                assert column.type.compile(dialect=dialect) == "BIGINT", f"{table.name}.{column.name}"
