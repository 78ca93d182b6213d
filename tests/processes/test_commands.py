"""Commands on PostgreSQL: beside any number of processes, wherever those run."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path

import pytest

from postroom.cli import reach
from postroom.cli.terminal import Terminal
from postroom.cli.top import ELSEWHERE, print_found
from postroom.config import Settings, load
from postroom.control import seeing
from postroom.control.lock import COMMAND, FolderLock
from tests.processes.conftest import House, until_states
from tests.support.engine import sink


def settings_of(house: House, folder: Path) -> Settings:
    return load({"data": str(folder), "database": house.url, "database_may_forget": "true"}, {})


async def test_status_tells_of_processes_elsewhere_where_none_runs_here(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    await house.connect(await house.open(COMMAND), 1)
    await house.open(does="http,deliver")
    found = await reach.call(settings_of(house, house.folder), "status", {})
    assert found["state"] == ELSEWHERE == seeing.ELSEWHERE
    (alive,) = found["alive"]
    assert (alive["host"], alive["pid"]) == (socket.gethostname(), os.getpid())
    assert alive["roles"] == ["http", "deliver"]
    assert found["queue"]["transactional"]["waiting"] == 0
    print_found(Terminal({}, None, as_json=False), found)
    shown = capsys.readouterr().out
    assert "No `serve` runs on this data folder" in shown
    assert [socket.gethostname(), str(os.getpid()), "http,deliver"] in [
        line.split()[:3] for line in shown.splitlines()
    ]


async def test_a_folder_that_another_command_holds_is_not_waited_for(house: House) -> None:
    held = FolderLock.take(house.folder, COMMAND)
    try:
        async with asyncio.timeout(5):
            found = await reach.call(settings_of(house, house.folder), "account.list", {}, patience_s=60)
    finally:
        held.release()
    assert [one["name"] for one in found["data"]] == ["default"]


async def test_a_command_on_another_machine_is_in_force_when_it_says_so(house: House, tmp_path: Path) -> None:
    """It has a data folder of its own, where no `serve` runs."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(house.folder / "keys.ring", elsewhere / "keys.ring")
    settings = settings_of(house, elsewhere)
    async with sink(tmp_path) as out:
        serving = await house.deliver()
        connection = await house.connect(serving, out.port)
        paused = await reach.call(settings, "queue.pause", {"everything": True})
        assert (paused["made"], paused["on_their_way"]) == (True, 0)
        message = await house.send(serving, "a@example.net")
        told = await reach.call(settings, "queue.show", {})
        assert told["serving"]
        assert "paused" in told["lanes"][0]["waits_for"]
        story = await reach.call(settings, "explain", {"message": message})
        assert "`postroom serve`" not in story["deliveries"][0]["waits_for"]
        cancelled = await reach.call(settings, "message.cancel", {"message": message})
        assert len(cancelled["cancelled"]) == 1
        await house.send(serving, "b@example.net")
        await reach.call(settings, "queue.resume", {"everything": True})
        await until_states(serving, {"cancelled": 1, "sent": 1})
        await reach.call(settings, "connection.delete", {"connection": connection})
        assert out.accepted == 1
