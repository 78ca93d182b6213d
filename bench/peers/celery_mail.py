"""Celery with Redis and smtplib: each message a task, each worker process with an SMTP session kept open.

Redis appends to its log and syncs it once a second: a yes is less durable here than with the others. Fed by
one process, pipelined through one connection; there is no HTTP in front of it.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from bench.peers.interface import Fed, Load, NextHop
from bench.peers.programs import Program, killed
from bench.sink import free_port, listening


class Celery:
    """Implements `Peer`."""

    name = "celery + redis + smtplib"

    async def start(self, folder: Path, sink: NextHop) -> None:
        """Start Redis and the workers."""
        self._folder, self._port = folder, free_port()
        await self._start_redis()
        environ = {"BENCH_REDIS": f"redis://127.0.0.1:{self._port}/0", "BENCH_PORT": str(sink.port)}
        self._program = Program("bench.peers.celery_tasks", environ)
        await self._program.begin("work")
        await self._program.run("ready")

    async def feed(self, load: Load) -> Fed:
        """A task for each message."""
        told = await self._program.run("feed", str(load.messages))
        return Fed(float(told["seconds"]))

    async def stop(self) -> None:
        """End the workers and Redis."""
        await self._program.stop()
        self._redis.terminate()
        await self._redis.wait()

    async def kill(self) -> None:
        """SIGKILL the workers and Redis."""
        await self._program.kill()
        await killed(self._redis)

    async def again(self) -> None:
        """Start both on Redis' log."""
        await self._start_redis()
        await self._program.begin("work")
        await self._program.run("ready")

    async def _start_redis(self) -> None:
        server = shutil.which("redis-server")
        if server is None:
            raise SystemExit("redis-server is missing: make deps-bench")
        self._redis = await asyncio.create_subprocess_exec(
            *(server, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await listening(self._port)
