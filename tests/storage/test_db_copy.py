"""`postroom db copy`: SQLite to PostgreSQL and back, cut off and gone on with, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, Text

from postroom.cli import moving
from postroom.cli.app import run_app
from postroom.config import load
from postroom.control.lock import SERVE
from postroom.control.operations import run as operate
from postroom.core.message import Purpose
from postroom.engine.journal import Journal
from postroom.errors import Unavailable
from postroom.folder import DATABASE_NAME, JOURNALS_NAME, KEY_RING_NAME
from postroom.ids import AttemptId, WorkerId
from postroom.keyring import KeyRing
from postroom.opening import take_folder
from postroom.storage import copying, days, sealed
from postroom.storage.copying import TABLES
from postroom.storage.interface import Rows, Sql, Work
from postroom.storage.places import PostgresDatabase
from postroom.transports.interface import Fault, Outcome, Phase, Result
from postroom.wiring import opened
from tests.support import seed_rows
from tests.support.postgres import shared_databases

Run = Callable[..., tuple[int, Any]]
EACH = 7
ROOT = Path(__file__).parents[2]
# Filled by opening the folder and by what makes sealed rows; copied like all the others.
_REAL = {"accounts", "servers", "streams", "connections", "instance", "pauses", "workers"}
_REAL |= {one.table.name for one in sealed.COLUMNS}
_TEXTS = (
    "plain",
    "",
    "Zoë Ωmega 漢字",
    'it\'s "quoted" \\ %',
    "a\x00b",
    "Ä",
    "ä",
    "Z",
    "a",
    "{}",
    "\u2028\n\t",
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("POSTROOM_DATABASE_MAY_FORGET", "true")

    def command(*arguments: str) -> tuple[int, Any]:
        code = run_app([*arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return command


@pytest.fixture
def url() -> Iterator[str]:
    with shared_databases().fresh() as made:
        yield made


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with rows in every table; tests copy it."""
    folder = tmp_path_factory.mktemp("grown") / "data"

    async def make() -> None:
        async with opened(load({"data": str(folder)}, {})) as room:
            await operate(room.desk, "bootstrap", {})
            fields = {
                "label": "out",
                "host": "mail.example.com",
                "port": 587,
                "for_transactional": True,
                "auth": "plain",
            }
            secret = {"smtp_username": "me", "smtp_password": "pässword"}
            await operate(
                room.desk, "connection.create", {"fields": fields, "secrets": secret, "options": {}}
            )
            await room.store.write(_fill)

    asyncio.run(make())
    return folder


@pytest.fixture
def source(grown: Path, tmp_path: Path) -> Path:
    shutil.copytree(grown, tmp_path / "data")
    return tmp_path / "data"


def _fill() -> Work[None]:
    for table in TABLES:
        if table.name in _REAL:
            continue
        for number in range(EACH):
            row: dict[str, object] = {}
            for place, column in enumerate(table.columns):
                text = _TEXTS[(number + place) % len(_TEXTS)]
                if isinstance(column.type, LargeBinary):
                    row[column.name] = bytes([number, 0, 255]) * (number + 1)
                elif isinstance(column.type, Text):
                    row[column.name] = text + (f"-{number}" if column.primary_key or number else "")
                elif column.nullable and number % 2:
                    row[column.name] = None
                else:
                    row[column.name] = 1000 + number * 3 + place
            yield Sql(
                f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({', '.join(':' + one for one in row)})",
                row,
            )
    yield Sql("DELETE FROM events WHERE event_id = (SELECT MAX(event_id) FROM events)")


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row that is carried, by table."""
    connection = sqlite3.connect(path / DATABASE_NAME)
    try:
        found = {}
        for table in TABLES:
            columns = ", ".join(column.name for column in table.columns)
            rows = connection.execute(f"SELECT {columns} FROM {table.name}").fetchall()
            if table.name == "instance":
                rows = [row for row in rows if row[0] in ("id", "clock")]
            if table.name == "audit":
                rows = [row for row in rows if "instance." not in str(row)]
            found[table.name] = sorted(rows, key=repr)
        return found
    finally:
        connection.close()


def in_file(folder: Path, text: str) -> list[Any]:
    """What a query finds in a data folder's database."""
    connection = sqlite3.connect(folder / DATABASE_NAME)
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


def without_nul(found: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """As PostgreSQL can hold it."""
    return {
        name: sorted(
            (
                tuple(one.replace("\x00", "\u2400") if isinstance(one, str) else one for one in row)
                for row in rows
            ),
            key=repr,
        )
        for name, rows in found.items()
    }


def ask(url: str, text: str) -> Rows:
    async def look() -> Rows:
        store = await PostgresDatabase(url).open_store()
        try:

            def work() -> Work[Rows]:
                return (yield Sql(text))

            return await store.write(work)
        finally:
            await store.close()

    return asyncio.run(look())


def test_there_and_back_again_every_row_is_the_same(run: Run, source: Path, url: str, tmp_path: Path) -> None:
    before = dump(source)
    assert {name for name, rows in before.items() if not rows} <= _REAL

    code, done = run("db", "copy", "--from", str(source), "--to", url)
    assert code == 0, done
    assert done["rows"]["contents"] == EACH
    assert done["secrets"] >= 3
    assert done["serve"] == f"postroom serve --data {source} --database {url}"
    assert done["to"] == url
    with_password = "postgresql://me:hush@db.example:5433/post?sslmode=require&password=hush"
    assert PostgresDatabase(with_password).name == "postgresql://me@db.example:5433/post?sslmode=require"

    back = tmp_path / "back"
    code, done = run("db", "copy", "--from", url, "--to", str(back), "--data", str(source))
    assert code == 0, done
    assert dump(back) == without_nul(before)
    assert (back / KEY_RING_NAME).read_bytes() == (source / KEY_RING_NAME).read_bytes()
    assert (back / KEY_RING_NAME).stat().st_mode & 0o777 == 0o600
    assert (back / DATABASE_NAME).stat().st_mode & 0o777 == 0o600


def test_numbers_go_on_after_the_highest_ever_given(run: Run, source: Path, url: str, tmp_path: Path) -> None:
    highest = {
        row[0]: row[1]
        for row in sqlite3.connect(source / DATABASE_NAME).execute("SELECT * FROM sqlite_sequence")
    }
    assert run("db", "copy", "--from", str(source), "--to", url)[0] == 0

    today = ask(url, "SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint")[0][0]
    for table, key in copying.counted():
        found = ask(url, f"SELECT nextval('{table}_{key}_seq')")[0][0]
        if table not in days.PARTITIONED:
            assert found > highest.get(table, 0), table
    assert ask(url, "SELECT postroom_id('contents_content_id_seq')")[0][0] >> days.BITS == today
    assert {row[0] for row in ask(url, "SELECT tableoid::regclass::text FROM events")} == {"events_before"}

    assert run("db", "copy", "--from", url, "--to", str(tmp_path / "back"), "--data", str(source))[0] == 0
    then = {
        row[0]: row[1]
        for row in sqlite3.connect(tmp_path / "back" / DATABASE_NAME).execute("SELECT * FROM sqlite_sequence")
    }
    assert all(then[name] >= number for name, number in highest.items())
    assert all(then[name] >> days.BITS == today for name in days.PARTITIONED)


# Kills itself when so many slices were told of; slices are small.
_KILLED = """
import os, signal, sys
from postroom.cli import moving
from postroom.cli.app import run_app
from postroom.storage import copying

copying.ROWS = 3
left = int(sys.argv[1])

def told(self, table, rows, wanted):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

moving._Progress.__call__ = told
sys.exit(run_app(["db", "copy", *sys.argv[2:]]))
"""


def test_killed_at_any_place_it_goes_on_there(run: Run, source: Path, url: str, tmp_path: Path) -> None:
    before = dump(source)
    places = ["--from", str(source), "--to", url]
    for slices in (9, 40):
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED, str(slices), *places],
            cwd=ROOT,
            env={**os.environ, "POSTROOM_DATABASE_MAY_FORGET": "true"},
            check=False,
            timeout=60,
        )
        assert ended.returncode == -signal.SIGKILL
        for flags in ({"data": str(source)}, {"data": str(tmp_path / "new"), "database": url}):
            with pytest.raises(Unavailable, match="postroom db copy"):
                asyncio.run(_open({**flags, "database_may_forget": "true"}))

    code, done = run("db", "copy", *places)
    assert code == 0, done
    assert done["went_on"]
    assert run("db", "copy", "--from", url, "--to", str(tmp_path / "back"), "--data", str(source))[0] == 0
    assert dump(tmp_path / "back") == without_nul(before)


async def _open(flags: dict[str, str | None]) -> str:
    async with opened(load(flags, {})) as room:
        return room.instance


def test_the_source_is_not_served_by_mistake_and_the_copy_is_the_same_installation(
    run: Run, source: Path, url: str
) -> None:
    instance = (
        sqlite3.connect(source / DATABASE_NAME)
        .execute("SELECT value FROM instance WHERE name = 'id'")
        .fetchone()[0]
    )
    assert run("db", "copy", "--from", str(source), "--to", url)[0] == 0

    with pytest.raises(Unavailable, match=r"was moved to postgresql://.*db reopen"):
        asyncio.run(_open({"data": str(source)}))
    on_postgres: dict[str, str | None] = {"data": str(source), "database": url, "database_may_forget": "true"}
    assert asyncio.run(_open(on_postgres)) == instance

    code, found = run("db", "copy", "--from", str(source), "--to", url)
    assert code == 1
    assert "was moved to" in found["error"]["text"]

    code, found = run("db", "reopen", "--data", str(source), "--yes")
    assert (code, found["paused"]) == (0, True)
    assert asyncio.run(_open({"data": str(source)})) == instance
    assert [row[1] for row in dump(source)["pauses"]] == ["all"]
    code, found = run("db", "reopen", "--data", str(source), "--yes")
    assert code == 1
    assert "was not moved" in found["error"]["text"]


def test_a_copy_that_was_given_up_is_not_gone_on_with(
    run: Run, source: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source was served in between, so what was copied of it may have changed since."""

    def cut_off(self: object, table: str, rows: int, wanted: int) -> None:
        raise Unavailable("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(moving._Progress, "__call__", cut_off)
        assert run("db", "copy", "--from", str(source), "--to", url)[0] == 4
    code, found = run("db", "reopen", "--data", str(source), "--yes")
    assert (code, found["paused"]) == (0, False)
    asyncio.run(_open({"data": str(source)}))

    code, found = run("db", "copy", "--from", str(source), "--to", url)
    assert code == 1
    assert "half a copy" in found["error"]["text"]


def test_what_is_refused_changes_nothing(run: Run, source: Path, url: str, tmp_path: Path) -> None:
    def refused(code: int, text: str, *arguments: str) -> None:
        got, found = run("db", "copy", *arguments)
        assert got == code, found
        assert text in found["error"]["text"]

    refused(1, "the other way round", "--from", str(source), "--to", str(tmp_path / "other"))
    refused(1, "the other way round", "--from", url, "--to", url)
    refused(3, "no Postroom data", "--from", str(tmp_path / "nothing"), "--to", url)

    held = take_folder(source, SERVE)
    refused(4, "in use", "--from", str(source), "--to", url)
    held.release()

    ring = (source / KEY_RING_NAME).read_bytes()
    (source / KEY_RING_NAME).unlink()
    KeyRing.create(source / KEY_RING_NAME)
    refused(2, "key", "--from", str(source), "--to", url)
    (source / KEY_RING_NAME).write_bytes(ring)

    secret = url.replace("postroom@", "postroom:hush@")
    got, found = run(
        "db", "copy", "--from", str(source), "--to", secret.replace("/postroom_test_", "/nowhere_")
    )
    assert got == 4
    assert "hush" not in json.dumps(found)

    name = url.partition("?")[0].rpartition("/")[2]
    shared_databases().execute("INSERT INTO lacks VALUES (1, 1, 'smtputf8', 0, '')", name)
    refused(1, "not empty: there are rows in lacks", "--from", str(source), "--to", url)
    assert ask(url, "SELECT 1 FROM instance WHERE name LIKE 'copy%'") == []
    shared_databases().execute("DELETE FROM lacks", name)

    async def beside() -> None:
        store = await PostgresDatabase(url).open_store()
        await store.read(partial(copying.get, "x"))
        code, found = await asyncio.to_thread(run, "db", "copy", "--from", str(source), "--to", url)
        assert code == 4
        assert "stop every" in found["error"]["text"]
        await store.close()

    asyncio.run(beside())
    asyncio.run(_open({"data": str(source)}))  # it was not marked
    assert run("db", "copy", "--from", str(source), "--to", url)[0] == 0


def test_a_database_that_writes_something_else_is_found_out(run: Run, source: Path, url: str) -> None:
    run("db", "upgrade", "--database", url)
    name = url.partition("?")[0].rpartition("/")[2]
    shared_databases().execute(
        "CREATE FUNCTION bend() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.subject = lower(NEW.subject);"
        " RETURN NEW; END$$",
        name,
    )
    shared_databases().execute(
        "CREATE TRIGGER bend BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION bend()", name
    )

    code, found = run("db", "copy", "--from", str(source), "--to", url)
    assert code == 1
    assert "what was written to messages is not what was read" in found["error"]["text"]
    with pytest.raises(Unavailable, match="is not done"):
        asyncio.run(_open({"data": str(source), "database": url, "database_may_forget": "true"}))


def test_what_was_on_its_way_is_settled_by_its_journal_first(run: Run, tmp_path: Path, url: str) -> None:
    """Of three that a killed process left, one was delivered, one was at its dot, one had not begun."""
    folder = tmp_path / "data"

    async def leave() -> None:
        async with opened(load({"data": str(folder)}, {})) as room:
            await room.store.write(seed_rows.tenants)
            connection = await room.store.write(lambda: seed_rows.connection(100))
            await room.store.write(
                lambda: seed_rows.message(Purpose.TRANSACTIONAL, [f"{n}@example.net" for n in range(3)], "m")
            )

            def claim() -> Work[list[int]]:
                yield Sql("INSERT INTO workers (worker_id, epoch) VALUES (1, 1)")
                yield Sql(
                    "INSERT INTO cap (account_id, connection_id, held) VALUES (1, :c, 3)", {"c": connection}
                )
                yield Sql("DELETE FROM ready")
                ids = yield Sql(
                    "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch,"
                    " decision_id, day, granted_at) SELECT 1, delivery_id, :c, 1, 1, 1, 0, 0 FROM deliveries"
                    " RETURNING attempt_id",
                    {"c": connection},
                )
                yield Sql(
                    "UPDATE deliveries SET state = 'claimed', worker_id = 1, epoch = 1, attempt_id ="
                    " (SELECT attempt_id FROM attempts a WHERE a.delivery_id = deliveries.delivery_id)"
                )
                return [row[0] for row in ids]

            ids = [AttemptId(one) for one in await room.store.write(claim)]
            journals = folder / JOURNALS_NAME
            journals.mkdir(exist_ok=True)
            journal = Journal(journals, room.instance, WorkerId(1), 1)
            for one in ids[:2]:
                journal.begin(one)
                journal.dot(one)
            journal.outcome(
                ids[0], Outcome(Result.SENT, Fault.NONE, Phase.DONE, 250, "2.0.0", "Ok", begun=True)
            )
            journal.close(remove=False)

    asyncio.run(leave())
    code, done = run("db", "copy", "--from", str(folder), "--to", url)
    assert code == 0, done
    assert done["settled"] == 3
    assert [tuple(row) for row in ask(url, "SELECT state FROM deliveries ORDER BY delivery_id")] == [
        ("sent",), ("unknown",), ("ready",)
    ]  # fmt: skip
    assert ask(url, "SELECT 1 FROM attempts WHERE result IS NULL") == []
    assert list((folder / JOURNALS_NAME).iterdir()) == []
