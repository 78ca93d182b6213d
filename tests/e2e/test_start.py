"""Z5: what is wrong at the start is told, ends it with an exit code, and nothing was sent by then."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from postroom import wiring
from postroom.cli import exits
from postroom.cli.app import run_app
from postroom.config import load
from postroom.control.lock import holder_of
from postroom.control.operations import run
from postroom.keyring import KeyRing

ANYWHERE = ("--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0")


def _lose(data: Path) -> None:
    (data / "keys.ring").unlink()


def _open_up(data: Path) -> None:
    (data / "keys.ring").chmod(0o644)


def _exchange(data: Path) -> None:
    _lose(data)
    KeyRing.create(data / "keys.ring")


def _nothing(data: Path) -> None:
    (data / "bad.pem").write_text("no certificate")


CASES: Sequence[tuple[str, Callable[[Path], None], tuple[str, ...], int, str]] = (
    ("http", _nothing, ("--http", "{taken}", "--smtp", "127.0.0.1:0"), exits.UNAVAILABLE, "--http"),
    ("smtp", _nothing, ("--smtp", "{taken}", "--http", "127.0.0.1:0"), exits.UNAVAILABLE, "--smtp"),
    ("smtps", _nothing, (*ANYWHERE, "--smtps", "{taken}"), exits.UNAVAILABLE, "--smtps"),
    ("inbox", _nothing, (*ANYWHERE, "--inbox", "{taken}"), exits.UNAVAILABLE, "--inbox"),
    (
        "certificate",
        _nothing,
        (*ANYWHERE, "--smtp-tls-cert", "{data}/bad.pem"),
        exits.REFUSED,
        "smtp_tls_cert",
    ),
    ("no key file", _lose, ANYWHERE, exits.USAGE, "no key file"),
    ("open key file", _open_up, ANYWHERE, exits.USAGE, "chmod 600"),
    ("other key file", _exchange, ANYWHERE, exits.USAGE, "another database"),
)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which a message waits for a connection."""
    data: Path = tmp_path_factory.mktemp("waiting") / "data"

    async def fill() -> None:
        async with wiring.opened(load({"data": str(data)}, {})) as room:
            await run(room.desk, "bootstrap", {"sender": "shop@example.com"})
            fields = {"label": "out", "host": "127.0.0.1", "port": 9, "for_transactional": True}
            await run(room.desk, "connection.create", {"fields": fields, "server": 1})
            await run(room.desk, "message.send", {"to": ["a@example.net"], "text": "x"})

    asyncio.run(fill())
    return data


@pytest.mark.parametrize(
    ("spoil", "flags", "code", "said"), [one[1:] for one in CASES], ids=[one[0] for one in CASES]
)
def test_z5_it_ends_with_a_sentence_and_has_sent_nothing(
    waiting: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    flags: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    data = tmp_path / "data"
    shutil.copytree(waiting, data)
    with socket.create_server(("127.0.0.1", 0)) as peer, socket.create_server(("127.0.0.1", 0)) as other:
        with sqlite3.connect(data / "postroom.db") as database:
            database.execute("UPDATE connections SET port = ?", (peer.getsockname()[1],))
        database.close()
        spoil(data)
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        words = [one.format(taken=taken, data=data) for one in flags]
        assert run_app(["serve", "--data", str(data), *words]) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert said in told.err
        assert "Traceback" not in told.err
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.accept()  # nobody came
    assert not (data / "control.sock").exists()
    assert holder_of(data) is None
