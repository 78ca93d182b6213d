"""An older version beside a newer one, on both databases; the newer has a made-up revision 0002."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.errors import Unavailable
from postroom.storage import migrations
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.migrations import OURS, Line, stored_floor, stored_revision
from postroom.storage.migrations import postgres as on_postgres
from postroom.storage.migrations.apply import directory
from postroom.storage.postgres import PostgresStore
from postroom.storage.sqlite import Database
from tests.support import seed_rows
from tests.support.clock import FakeClock
from tests.support.postgres import shared_databases

_NEXT = '''
"""The next version: messages get a colour."""
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
beside = "{beside}"


def upgrade() -> None:
    op.add_column("messages", sa.Column("colour", sa.Text(), server_default="grey", nullable=False))
    op.create_table("colours", sa.Column("name", sa.Text(), primary_key=True))
'''


@pytest.fixture
def following(tmp_path: Path) -> Line:
    """A version whose schema the present one can work on."""
    return line(tmp_path / "following", beside="0001")


@pytest.fixture
def breaking(tmp_path: Path) -> Line:
    """One whose schema it cannot work on."""
    return line(tmp_path / "breaking", beside="0002")


def line(folder: Path, *, beside: str) -> Line:
    folder.mkdir()
    (folder / "r0002_next.py").write_text(_NEXT.format(beside=beside))
    return Line("0002", (*OURS.folders, folder))


def sql(text: str, **params: object) -> Work[Rows]:
    return (yield Sql(text, params))


def test_every_revision_is_numbered_and_says_what_can_work_beside_it() -> None:
    for script in directory().walk_revisions():
        assert len(script.revision) == 4
        assert script.revision.isdigit()
        assert script.module.beside <= script.revision


def test_on_sqlite_the_older_version_works_on_what_the_newer_made(tmp_path: Path, following: Line) -> None:
    database = Database(tmp_path / "db", FakeClock(), durable=False)
    migrations.upgrade(database)
    database.transact(seed_rows.tenants)
    assert stored_floor(database) == "0001"

    migrations.upgrade(database, following)
    assert stored_revision(database) == "0002"
    migrations.upgrade(database)  # the older one starts: nothing to do

    assert stored_revision(database) == "0002"
    database.transact(lambda: seed_rows.message(Purpose.TRANSACTIONAL, ["a@example.net"], "m"))
    assert database.snapshot(lambda: sql("SELECT colour FROM messages"))[0][0] == "grey"
    database.close()


def test_on_sqlite_it_refuses_what_it_cannot_work_on(tmp_path: Path, breaking: Line) -> None:
    database = Database(tmp_path / "db", FakeClock(), durable=False)
    migrations.upgrade(database)
    migrations.upgrade(database, breaking)

    with pytest.raises(Unavailable, match=r"its schema is 0002.*knows up to 0001.*beside it knows 0002"):
        migrations.upgrade(database)
    database.close()


async def put(store: PostgresStore, name: str) -> None:
    await store.write(lambda: seed_rows.message(Purpose.TRANSACTIONAL, ["a@example.net"], name), share=True)


class Load:
    """Mail that comes in all the time, in what counts as one process each."""

    def __init__(self, url: str) -> None:
        self.url, self.taken = url, set[str]()

    async def run(self, name: str, until: asyncio.Event) -> None:
        store = PostgresStore(self.url, connections=3)
        try:
            number = 0
            while not until.is_set():
                number += 1
                await put(store, f"{name}-{number}")
                self.taken.add(f"{name}-{number}")
        finally:
            await store.close()

    async def more(self, than: int) -> None:
        """Wait until so many more were taken."""
        goal = len(self.taken) + than
        while len(self.taken) < goal:
            await asyncio.sleep(0.005)


async def test_a_roll_to_the_next_version_under_load_and_back_loses_nothing(following: Line) -> None:
    with shared_databases().fresh() as url:
        await on_postgres.upgrade(url, unsafe=True)
        first = PostgresStore(url)
        await first.write(seed_rows.tenants)
        load, ends = Load(url), [asyncio.Event() for _ in range(5)]
        async with asyncio.TaskGroup() as tasks:
            for number in (0, 1):
                tasks.create_task(load.run(f"old{number}", ends[number]))
            await load.more(than=20)
            await on_postgres.upgrade(url, unsafe=True, line=following)  # the first new process starts
            assert (await on_postgres.look(url)).revision == "0002"
            await load.more(than=20)  # the old ones go on
            tasks.create_task(load.run("new0", ends[2]))
            ends[0].set()
            await load.more(than=20)
            tasks.create_task(load.run("new1", ends[3]))
            ends[1].set()
            await load.more(than=20)
            assert await on_postgres.upgrade(url, unsafe=True)  # and back: an old one starts
            tasks.create_task(load.run("again", ends[4]))
            await load.more(than=20)
            for end in ends:
                end.set()
        rows = await first.read(lambda: sql("SELECT public_id, colour FROM messages"))
        assert {row[0] for row in rows} >= load.taken
        assert {row[1] for row in rows} == {"grey"}
        assert {name.rstrip("0123456789").rstrip("-") for name in load.taken} == {
            "old0", "old1", "new0", "new1", "again"
        }  # fmt: skip
        await first.close()


async def test_a_revision_waits_in_short_tries_for_who_uses_a_table(following: Line) -> None:
    with shared_databases().fresh() as url:
        await on_postgres.upgrade(url, unsafe=True)
        store = PostgresStore(url)
        await store.write(seed_rows.tenants)
        holds, lets_go = asyncio.Event(), asyncio.Event()
        held = asyncio.create_task(_hold(url, holds, lets_go))
        await holds.wait()

        with pytest.raises(Unavailable, match="cannot be brought to schema 0002"):
            await on_postgres.upgrade(url, unsafe=True, line=following, patience_s=0)
        assert (await on_postgres.look(url)).revision == "0001"

        upgrading = asyncio.create_task(on_postgres.upgrade(url, unsafe=True, line=following))
        for number in range(5):  # who only reads and writes passes between the tries
            await put(store, f"m{number}")
        assert not upgrading.done()
        lets_go.set()
        await held
        await upgrading
        assert (await on_postgres.look(url)).revision == "0002"
        await store.close()


async def _hold(url: str, holds: asyncio.Event, lets_go: asyncio.Event) -> None:
    """Somebody reads messages in a transaction that stays open."""
    import asyncpg

    reader = await asyncpg.connect(url)
    async with reader.transaction():
        await reader.fetch("SELECT 1 FROM messages")
        holds.set()
        await lets_go.wait()
    await reader.close()


async def test_on_postgresql_it_refuses_what_it_cannot_work_on(breaking: Line) -> None:
    with shared_databases().fresh() as url:
        await on_postgres.upgrade(url, unsafe=True)
        await on_postgres.upgrade(url, unsafe=True, line=breaking)

        with pytest.raises(Unavailable, match="beside it knows 0002"):
            await on_postgres.upgrade(url, unsafe=True)


async def test_a_schema_that_running_processes_cannot_work_on_is_not_made(breaking: Line) -> None:
    with shared_databases().fresh() as url:
        await on_postgres.upgrade(url, unsafe=True)
        store = PostgresStore(url)
        await store.write(
            lambda: sql("INSERT INTO workers (worker_id, epoch, expires_at) VALUES (1, 1, :far)", far=1 << 60)
        )

        with pytest.raises(Unavailable, match=r"1 processes of an older version.*stop every"):
            await on_postgres.upgrade(url, unsafe=True, line=breaking)
        assert (await on_postgres.look(url)).revision == "0001"

        await store.write(lambda: sql("UPDATE workers SET expires_at = 1"))
        await on_postgres.upgrade(url, unsafe=True, line=breaking)
        assert (await on_postgres.look(url)).revision == "0002"
        await store.close()
