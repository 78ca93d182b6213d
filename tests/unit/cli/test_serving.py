"""How `serve` takes its data folder: it waits for a command that works there, and for no other `serve`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from postroom.config import load
from postroom.control.lock import COMMAND, SERVE, FolderLock, Locked
from postroom.serving.process import open_when_free


async def opened(folder: Path) -> None:
    room = await open_when_free(load({"data": str(folder)}, {}))
    await room.close()


async def test_z4_a_command_that_works_there_is_waited_for(tmp_path: Path) -> None:
    """A `serve` that is started again after a crash must not stay away for a command that ran meanwhile."""
    held = FolderLock.take(tmp_path, COMMAND)
    asyncio.get_running_loop().call_later(0.1, held.release)
    await opened(tmp_path)


async def test_z4_a_command_that_has_not_signed_yet_is_waited_for(tmp_path: Path) -> None:
    """The file still names the `serve` that was killed."""
    held = FolderLock.take(tmp_path, COMMAND)
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    (tmp_path / "lock").write_text(json.dumps({"pid": gone.pid, "role": SERVE}))
    asyncio.get_running_loop().call_later(0.1, held.release)
    await opened(tmp_path)


async def test_z4_another_serve_is_named_at_once(tmp_path: Path) -> None:
    held = FolderLock.take(tmp_path, SERVE)
    with pytest.raises(Locked, match=str(os.getpid())):
        await opened(tmp_path)
    held.release()


async def test_z4_a_command_that_does_not_end_is_named(tmp_path: Path) -> None:
    held = FolderLock.take(tmp_path, COMMAND)
    with pytest.raises(Locked, match="command"):
        await open_when_free(load({"data": str(tmp_path)}, {}), patience_s=0.0)
    held.release()
