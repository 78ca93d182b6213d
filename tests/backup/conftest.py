"""A data folder with a bit of everything, made once and copied for each test."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from postroom import wiring
from postroom.config import Settings, load
from postroom.control.operations import run
from postroom.storage.sealed import COLUMNS

LOGIN = {"smtp_username": "u", "smtp_password": "hunter2-canary"}


def settings_of(data: Path) -> Settings:
    return load({"data": str(data)}, {})


async def _fill(data: Path) -> None:
    async with wiring.opened(settings_of(data)) as room:
        await run(room.desk, "bootstrap", {"sender": "shop@example.com"})
        fields = {"label": "out", "host": "127.0.0.1", "port": 9, "auth": "plain", "for_transactional": True}
        await run(room.desk, "connection.create", {"fields": fields, "secrets": LOGIN, "server": 1})
        for number in range(3):
            to = [f"r{number}@example.net"]
            await run(room.desk, "message.send", {"to": to, "subject": f"s{number}", "text": "hello"})


def secrets_in(data: Path) -> int:
    """How many sealed values its database has: the connection's login, and keys of the instance's own."""
    database = sqlite3.connect(data / "postroom.db")
    try:
        counts = [database.execute(f"SELECT COUNT(*) FROM {one.table.name}").fetchone()[0] for one in COLUMNS]
    finally:
        database.close()
    return sum(counts)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data: Path = tmp_path_factory.mktemp("filled") / "data"
    asyncio.run(_fill(data))
    return data


@pytest.fixture
def data(filled: Path, tmp_path: Path) -> Path:
    """A folder of the test's own with an account, a server, a connection with a login and three messages."""
    shutil.copytree(filled, tmp_path / "data")
    return tmp_path / "data"
