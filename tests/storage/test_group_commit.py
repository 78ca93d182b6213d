"""Units of many callers in one commit: an error reaches its own caller, and a no means nothing is stored."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from postroom.clock import SystemClock
from postroom.errors import Unavailable
from postroom.storage.interface import Sql, Statement, Work
from postroom.storage.sqlite import Database, SqliteStore
from postroom.storage.tables import audit, metadata

Unit = Callable[[], Work[Any]]  # Any: units of all kinds stand in one list


@asynccontextmanager
async def store(folder: Path) -> AsyncIterator[SqliteStore]:
    database = Database(folder / "db", SystemClock(), durable=False)
    metadata.create_all(database.core)
    database.close()
    made = SqliteStore(folder / "db", SystemClock(), durable=False)
    try:
        yield made
    finally:
        await made.close()


def line(action: str, detail: str = "{}") -> Statement:
    return Sql(
        "INSERT INTO audit (account_id, at, actor, action, target, detail) VALUES (1, 0, '', :a, '', :d)",
        {"a": action, "d": detail},
    )


def unit(*statements: Statement) -> Unit:
    def work() -> Work[None]:
        for statement in statements:  # noqa: UP028  # an iterator of statements takes no rows
            yield statement

    return work


async def together(made: SqliteStore, units: list[Unit]) -> list[BaseException | None]:
    """Run these in one commit; what each caller got."""
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> Work[None]:
        entered.set()
        go_on.wait(5)
        yield line("first")

    first = asyncio.ensure_future(made.write(hold))
    await asyncio.to_thread(entered.wait, 5)
    waiting = [asyncio.ensure_future(made.write(one)) for one in units]
    await asyncio.sleep(0)
    go_on.set()
    await first
    commits = made.commits
    got = await asyncio.gather(*waiting, return_exceptions=True)
    assert made.commits <= commits + 1
    return [one if isinstance(one, BaseException) else None for one in got]


async def stored(made: SqliteStore) -> set[str]:
    def work() -> Work[set[str]]:
        rows = yield Sql("SELECT action FROM audit")
        return {row[0] for row in rows}

    return await made.read(work)


@pytest.mark.parametrize(
    "wrong",
    [
        Sql("INSERT INTO audit (account_id) VALUES (:nobody_gave_this)", {}),
        Sql("INSERT INTO audit (account_id) VALUES (:v)", {"v": object()}),
        Sql("INSERT INTO audit (account_id) VALUES (:v)", {"v": 1 << 70}),
        Sql("INSERT INTO audit (account_id) VALUES (1)"),
        insert(audit).values(account_id=1),
    ],
    ids=["no parameter", "no type", "too large", "not null", "core not null"],
)
async def test_a_wrong_statement_fails_its_own_unit_only(tmp_path: Path, wrong: Statement) -> None:
    async with store(tmp_path) as made:
        got = await together(made, [unit(line("a")), unit(line("b"), wrong), unit(line("c"))])
        assert got[0] is None
        assert got[1] is not None
        assert got[2] is None
        assert await stored(made) == {"first", "a", "c"}


async def test_a_broken_rule_is_told_in_the_drivers_words_however_it_was_written(tmp_path: Path) -> None:
    async with store(tmp_path) as made:
        for wrong in (Sql("INSERT INTO audit (account_id) VALUES (1)"), insert(audit).values(account_id=1)):
            with pytest.raises(sqlite3.IntegrityError):
                await made.write(unit(wrong))


@pytest.mark.parametrize("core", [False, True], ids=["sql", "core"])
async def test_nothing_is_stored_for_a_caller_who_was_told_no_on_a_full_disk(
    tmp_path: Path, core: bool
) -> None:
    async with store(tmp_path) as made:
        await made.write(unit(line("before")))
        driver = made._writer_db._driver
        pages = driver.execute("PRAGMA page_count").fetchone()[0]
        driver.execute(f"PRAGMA max_page_count={pages + 20}")
        huge = "x" * 2_000_000
        large: Statement = line("large", huge)
        if core:
            large = insert(audit).values(account_id=1, at=0, actor="", action="large", target="", detail=huge)
        names = ["a", "large", "c", "d"]
        got = await together(made, [unit(line("a")), unit(large), unit(line("c")), unit(line("d"))])
        assert isinstance(got[1], Unavailable)
        yes = {name for name, one in zip(names, got, strict=True) if one is None}
        assert await stored(made) == {"before", "first"} | yes
        driver.execute("PRAGMA max_page_count=1000000")
        await made.write(unit(line("after")))
        assert "after" in await stored(made)


async def test_a_database_that_cannot_be_written_is_told_of_once_and_heals_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a disk was mounted read-only after an error: each caller gets a no, the log gets two lines."""
    async with store(tmp_path) as made:
        driver = made._writer_db._driver
        driver.execute("PRAGMA query_only=ON")
        for _ in range(50):
            with pytest.raises(Unavailable, match="readonly") as refused:
                await made.write(unit(line("a")))
            assert not refused.value.no_room
        assert await stored(made) == set()
        assert sum("cannot be written" in one.getMessage() for one in caplog.records) == 1
        driver.execute("PRAGMA query_only=OFF")
        await made.write(unit(line("b")))
        assert await stored(made) == {"b"}
        assert sum("can be written again" in one.getMessage() for one in caplog.records) == 1


async def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    async with store(tmp_path) as made:
        driver = made._writer_db._driver
        pages = driver.execute("PRAGMA page_count").fetchone()[0]
        driver.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(Unavailable, match="full") as refused:
            await made.write(unit(line("large", "x" * 2_000_000)))
        assert refused.value.no_room
        assert refused.value.retry_after_s >= 10
