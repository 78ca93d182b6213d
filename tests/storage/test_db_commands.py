"""`postroom db status` and `db upgrade`, on both databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom.cli.app import run_app
from postroom.clock import SystemClock
from postroom.config import load
from postroom.folder import KEY_RING_NAME
from postroom.opening import take_folder
from postroom.storage import migrations
from postroom.storage.sqlite import Database
from postroom.wiring import opened
from tests.support.postgres import shared_databases

Run = Callable[..., tuple[int, Any]]


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


def test_an_empty_database_gets_its_schema_and_serve_makes_the_key_file(
    run: Run, url: str, tmp_path: Path
) -> None:
    code, found = run("db", "status", "--database", url)
    assert (code, found["schema"], found["works"]) == (1, None, False)

    code, found = run("db", "upgrade", "--database", url)
    assert code == 0
    assert (found["former"], found["schema"], found["works"]) == (None, migrations.HEAD, True)
    assert len(found["partitions"]["contents"]) == 10

    async def serve() -> bool:
        settings = load({"data": str(tmp_path), "database": url, "database_may_forget": "true"}, {})
        async with opened(settings) as room:
            return room.fresh

    assert asyncio.run(serve())  # nobody ran on it yet, so it may make its key file
    assert (tmp_path / KEY_RING_NAME).exists()
    assert not asyncio.run(serve())


def test_what_a_newer_version_made_is_told_apart(run: Run, url: str) -> None:
    run("db", "upgrade", "--database", url)
    databases = shared_databases()
    name = url.partition("?")[0].rpartition("/")[2]
    databases.execute("UPDATE alembic_version SET version_num = '0002'", name)
    code, found = run("db", "status", "--database", url)
    assert (code, found["schema"], found["oldest"], found["works"]) == (0, "0002", "0001", True)

    databases.execute("UPDATE instance SET value = '0002' WHERE name = 'schema_floor'", name)
    code, found = run("db", "status", "--database", url)
    assert (code, found["oldest"], found["works"]) == (1, "0002", False)
    code, found = run("db", "upgrade", "--database", url)
    assert code == 4
    assert "written by a newer Postroom" in found["error"]["text"]


def test_on_sqlite_too(run: Run, tmp_path: Path) -> None:
    code, found = run("db", "status", "--data", str(tmp_path))
    assert code == 3
    assert "there is no Postroom data" in found["error"]["text"]

    database = Database(tmp_path / "postroom.db", SystemClock())
    migrations.upgrade(database)
    database.close()
    code, found = run("db", "upgrade", "--data", str(tmp_path))
    assert (code, found["database"], found["former"], found["schema"]) == (0, "sqlite", "0001", "0001")

    held = take_folder(tmp_path, "serve")
    assert run("db", "status", "--data", str(tmp_path))[0] == 0  # only looks
    code, found = run("db", "upgrade", "--data", str(tmp_path))
    assert code == 4
    assert "in use" in found["error"]["text"]
    held.release()


def test_a_database_of_somebody_elses_is_left_alone(run: Run, url: str) -> None:
    shared_databases().execute("CREATE TABLE recipes (name text)", url.partition("?")[0].rpartition("/")[2])
    for command in ("status", "upgrade"):
        code, found = run("db", command, "--database", url)
        assert code == 4
        assert "Postroom did not make it" in found["error"]["text"]
        assert url not in found["error"]["text"]
