"""What the Python peers share: programs of the `.venv/bench` environment, run as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support.postgres_keeper import family

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "bench" / "bin" / "python"


class Program:
    """A Python module of `bench.peers`, started in the peers' environment."""

    def __init__(self, module: str, environ: Mapping[str, str]) -> None:
        self._module = module
        self._environ = {**os.environ, **environ, "PYTHONPATH": str(ROOT)}
        self._running: list[asyncio.subprocess.Process] = []

    async def run(self, *arguments: str) -> Any:  # Any: a JSON document
        """Run it to its end; what it printed last, as JSON, or None."""
        process = await self._start(*arguments)
        told, _ = await process.communicate()
        if process.returncode:
            raise SystemExit(f"{self._module} {' '.join(arguments)} failed")
        lines = told.decode().strip().splitlines()
        return json.loads(lines[-1]) if lines else None

    async def begin(self, *arguments: str) -> None:
        """Start it; `stop` ends it."""
        self._running.append(await self._start(*arguments, quiet=True))

    async def stop(self) -> None:
        """End what `begin` started."""
        for process in self._running:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        self._running = []

    async def kill(self) -> None:
        """SIGKILL what `begin` started, with all it started itself."""
        for process in self._running:
            await killed(process)
        self._running = []

    async def _start(self, *arguments: str, quiet: bool = False) -> asyncio.subprocess.Process:
        if not PYTHON.exists():
            raise SystemExit("the peers' environment is missing: make deps-bench")
        return await asyncio.create_subprocess_exec(
            str(PYTHON),
            *("-m", self._module, *arguments),
            env=self._environ,
            stdout=asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL if quiet else None,
        )


async def killed(process: asyncio.subprocess.Process) -> None:
    """SIGKILL a process and its children."""
    if process.returncode is None:
        kill_all(family(process.pid))
        await process.wait()


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL those of them that still run."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
