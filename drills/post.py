"""The post room under drill: `serve` as a process of its own that can be killed, started again, and asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from postroom.control.address import socket_path
from postroom.control.client import call
from postroom.engine.journal import replay
from postroom.ids import AttemptId, WorkerId

ROOT = Path(__file__).resolve().parents[1]
START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 60.0
_UNUSABLE = ("connection failed", "sealed with key", "does not open")


class Post:
    """One data folder and the `serve` that runs on it now, if one does. `up` is set while it answers."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        """settings: by name, as in the environment without its prefix."""
        self.data = folder / "data"
        self.database = self.data / "postroom.db"
        self.journals = self.data / "journals"
        self.log = folder / "serve.log"
        self.url = ""
        self.smtp = ("", 0)
        self.pid = 0
        self.up = asyncio.Event()
        self.instance = ""
        self.flags: tuple[str, ...] = ()
        self.program: tuple[str, ...] = ("-m", "postroom")
        self.addresses: tuple[str, ...] = ("--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0")
        self.within: tuple[str, ...] = ()  # what everything is started by, such as `ip netns exec NAME`
        self._process: asyncio.subprocess.Process | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        given = {f"POSTROOM_{name.upper()}": value for name, value in settings.items()}
        self._environment = {**kept, **given}

    async def spawn(self) -> None:
        """Start it without waiting for anything."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self.within, sys.executable, *self.program, "serve", "--json"),
                *("--data", str(self.data), *self.addresses, "--log-format", "json"),
                *self.flags,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                cwd=ROOT,
            )

    async def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError when it ends instead."""
        await self.spawn()
        process = self._process
        assert process is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_PATIENCE_S):
                document = await process.stdout.readuntil(b"\n}\n")
        except asyncio.IncompleteReadError as error:
            await self.gone()
            raise RuntimeError(f"serve ended with {process.returncode} at start; see {self.log}") from error
        except TimeoutError as error:
            await self.kill()
            raise RuntimeError(f"serve did not start in {START_PATIENCE_S:g} s; see {self.log}") from error
        told = json.loads(document)
        host, _, port = (told.get("smtp") or ":0").rpartition(":")
        self.url, self.smtp = told.get("url") or "", (host, int(port))
        self.pid = told.get("pid") or process.pid
        if not self.instance:
            self.instance = self.rows("SELECT value FROM instance WHERE name = 'id'")[0][0]
        self.up.set()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.shoot()
        await self.gone()

    def shoot(self) -> None:
        """SIGKILL, at this very moment."""
        self.up.clear()
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Until it has ended."""
        assert self._process is not None
        await self._process.communicate()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.up.clear()
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await process.communicate()
        except TimeoutError:
            await self.kill()
        return process.returncode or 0

    async def command(self, *words: str) -> tuple[int, Any]:  # Any: JSON values
        """A command on this data folder, as an operator types it: exit code and JSON document."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "postroom", *words, "--json", "--data", str(self.data), *self.flags[:2]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd=ROOT,
        )
        printed, told = await process.communicate()
        try:
            return process.returncode or 0, json.loads(printed)
        except ValueError:
            return process.returncode or 0, {"error": {"text": told.decode(errors="replace")[-2000:]}}

    async def ask(self, operation: str, **args: object) -> Any:  # Any: JSON values
        """An operation through the control socket. Raises NotListening, any PostroomError."""
        return await call(socket_path(self.data), operation, args)

    def open_at_kill(self) -> set[AttemptId]:
        """Of a dead `serve`: attempts with a final dot and no outcome in the journals it left."""
        found: set[AttemptId] = set()
        for epoch in {int(path.stem.split("-")[1]) for path in (self.journals).glob("*.journal")}:
            told = replay(self.journals, self.instance, WorkerId(1), epoch)
            found |= told.dots - told.outcomes.keys()
        return found

    def states(self) -> Counter[str]:
        """How many deliveries are in each state."""
        return Counter(dict(self.rows("SELECT state, COUNT(*) FROM deliveries GROUP BY state")))

    def recipients(self) -> dict[str, str]:
        """The state of the delivery to each recipient."""
        return dict(self.rows("SELECT recipient, state FROM deliveries"))

    def claimed_by_the_dead(self) -> int:
        """Deliveries that a former epoch still holds."""
        rows = self.rows(
            "SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'"
            " AND epoch < (SELECT MAX(epoch) FROM workers)"
        )
        found: int = rows[0][0]
        return found

    def paused(self) -> int:
        """How many pauses are in force."""
        found: int = self.rows("SELECT COUNT(*) FROM pauses")[0][0]
        return found

    def failed_connections(self) -> int:
        """How often a connection was found unusable, by the log: login refused, secret not opened."""
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        return sum(any(one in line for one in _UNUSABLE) for line in lines)

    def room_taken(self) -> int:
        """What the hourly caps count as used now."""
        rows = self.rows("SELECT COALESCE(SUM(held), 0) FROM cap")
        found: int = rows[0][0]
        return found

    def rows(self, text: str) -> Sequence[Any]:  # Any: rows of whatever was asked
        # Read-only and beside a `serve` that has the file open, so that nothing here tidies up after a kill.
        database = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        try:
            return database.execute(text).fetchall()
        finally:
            database.close()
