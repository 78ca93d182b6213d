"""A post room of several processes on a PostgreSQL of its own, any part of which can be killed.

Before a child dies it is stopped for a moment, so that its journal can be read as it leaves it: its siblings
take it up within a second or two.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from drills.post import Post
from postroom.engine.journal import replay
from postroom.ids import AttemptId, WorkerId
from tests.support.postgres import PostgresServer
from tests.support.postgres_keeper import family

# What is tested includes that a killed server forgets nothing: everything as it is shipped.
DURABLE: Mapping[str, str] = {"shared_buffers": "128MB"}


class Target(StrEnum):
    """What a kill hits."""

    CHILD = "child"  # one process of `serve`
    ALL = "all"  # all of them and their supervisor
    DATABASE = "database"  # every process of PostgreSQL


class Cluster(Post):
    """`serve --processes N` and its database; `close` ends the server too."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        processes: int,
        server: Mapping[str, str] = MappingProxyType({}),
        listen: str = "",
    ) -> None:
        """server: lines of its postgresql.conf, besides `DURABLE`. listen: an address of its."""
        super().__init__(folder, settings)
        self.server = PostgresServer({**DURABLE, **server}, listen=listen)
        self._name = self.server.create()
        self.flags = ("--database", self.server.of(self._name))
        if processes > 1:
            self.flags = (*self.flags, "--processes", str(processes))
        self.hits: list[Target] = []

    def close(self) -> None:
        """End the server."""
        self.server.close()

    def children(self) -> list[int]:
        """The processes of `serve` that do the work."""
        assert self._process is not None
        alone = self._process.pid
        return [pid for pid in family(alone) if pid != alone] or [alone]

    async def strike(self, target: Target, chance: random.Random) -> set[AttemptId]:
        """Kill this, have it come back, and say which transactions were open then."""
        self.hits.append(target)
        if target is Target.DATABASE:
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            await asyncio.to_thread(self.server.start)
            return set()
        hit = self.children()
        if target is Target.CHILD:
            hit = [chance.choice(hit)]
        for pid in hit:
            _send(pid, signal.SIGSTOP)
        found = set().union(*(self._open_in(pid) for pid in hit))
        for pid in hit:
            _send(pid, signal.SIGKILL)
        if target is Target.ALL:
            await self.kill()
            await self.start()
        return found

    def _open_in(self, pid: int) -> set[AttemptId]:
        """Attempts of a stopped process with a final dot and no outcome in its journal."""
        held = []
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                held.append(Path(os.readlink(descriptor)))
        mine = [path for path in held if path.suffix == ".journal" and path.exists()]
        with tempfile.TemporaryDirectory(prefix="drill-") as place:
            for path in mine:  # copied, since its owner has it locked
                shutil.copy(path, place)
            found: set[AttemptId] = set()
            for worker, epoch in {tuple(map(int, path.stem.split("-")[:2])) for path in mine}:
                told = replay(Path(place), self.instance, WorkerId(worker), epoch)
                found |= told.dots - told.outcomes.keys()
        return found

    def rows(self, text: str) -> Sequence[Any]:  # Any: rows of whatever was asked
        found = self.server.execute(f"SELECT json_agg(row_to_json(q)) FROM ({text}) q", self._name)
        return [tuple(row.values()) for row in json.loads(found or "null") or []]


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
