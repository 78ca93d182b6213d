"""Postroom: `serve` in processes of its own, mail in over HTTP, out over SMTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench.peers.interface import PLAIN, SENDER, Fed, Load, NextHop, Way
from bench.peers.programs import killed
from bench.sink import free_port, listening
from tests.support.postgres import PostgresServer
from tests.support.postgres_keeper import family

_TICKS = os.sysconf("SC_CLK_TCK")
_COUNTED = ("statements", "commits")


class Postroom:
    """Implements `Peer`. paused: nothing leaves, for measuring accepts and what waits."""

    def __init__(self, name: str = "postroom", *, way: Way = PLAIN, paused: bool = False) -> None:
        self.name, self._way, self._paused = name, way, paused
        self._flags: tuple[str, ...] = ()
        self.data = Path()
        self._process: asyncio.subprocess.Process | None = None
        self._fed = 0

    async def start(self, folder: Path, sink: NextHop) -> None:
        """Start `serve` on fresh data, with one connection to the sink."""
        self.data = folder / "data"
        self.url = f"http://127.0.0.1:{free_port()}"
        self._smtp = f"127.0.0.1:{free_port()}"
        await self.again()
        made = await self.command("bootstrap", "--sender", SENDER)
        self.key = made["server_key"]
        await self.command(
            *("connection", "create", "--label", "sink", "--host", "127.0.0.1", "--port", str(sink.port)),
            *("--security", "never", "--transactional"),
            *(("--disabled",) if self._paused else ()),
        )
        if self._way.dkim:
            domain = SENDER.partition("@")[2]
            await self.command("identity", "trust", domain)
            kind = ("--ed25519",) if self._way.dkim == "ed25519" else ()
            await self.command("identity", "dkim", domain, *kind)
            await self.command("identity", "dkim", domain, "--activate", "--unchecked")

    async def feed(self, load: Load) -> Fed:
        """A feeder in a process of its own, over as many connections."""
        before = self.counters()
        first, self._fed = self._fed, self._fed + load.messages
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.load", self.url, self.key),
            *("--messages", str(load.messages), "--connections", str(load.connections)),
            *("--first", str(first), "--batch", str(self._way.batch)),
            *(("--tracked",) if self._way.tracked else ()),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        if process.returncode:
            raise SystemExit("the feeder failed")
        found: dict[str, float] = json.loads(told)
        return Fed(found["seconds"], found["p50_ms"], found["p99_ms"], before)

    def counters(self) -> dict[str, float]:
        """CPU seconds, bytes written to disk, resident megabytes, statements and commits of all of `serve` up
        to now."""
        assert self._process is not None
        found = {"cpu_s": 0.0, "written_bytes": 0.0, "resident_mb": 0.0}
        for pid in family(self._process.pid):
            for name, value in _counters(Path(f"/proc/{pid}")).items():
                found[name] += value
        return found | self._told()

    def _told(self) -> dict[str, float]:
        """What `/metrics` counts over all processes."""
        with urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {
            name: float(line.rpartition(" ")[2]) for line in lines for name in _COUNTED if _is(line, name)
        }

    async def again(self) -> None:
        """Start `serve` on its data."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "postroom", "serve", "--data", str(self.data)),
            *("--http", self.url.removeprefix("http://"), "--smtp", self._smtp, "--api-rate-per-minute", "0"),
            *("--log-level", "warning", *self._flags),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await listening(int(self.url.rsplit(":", 1)[1]))

    async def kill(self) -> None:
        """SIGKILL every process of `serve`."""
        assert self._process is not None
        await killed(self._process)

    async def stop(self) -> None:
        """End `serve`."""
        await self.stop_serving()

    async def stop_serving(self) -> None:
        """End `serve`, which may be started `again`."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def command(self, *arguments: str) -> Any:  # Any: a JSON document
        """What a command on its data answers."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "postroom", *arguments, "--data", str(self.data), "--json"),
            *self._flags[:2],
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        if process.returncode:
            raise SystemExit(f"postroom {arguments[0]} failed")
        return json.loads(told)


def _is(line: str, name: str) -> bool:
    return line.startswith((f"postroom_{name}_total ", f"postroom_{name}_total{{"))


def _counters(place: Path) -> dict[str, float]:
    """Of one process by its folder in /proc."""
    times = (place / "stat").read_text().rsplit(")", 1)[1].split()
    written = next(
        line.split()[1] for line in (place / "io").read_text().splitlines() if line.startswith("write_b")
    )
    status = (place / "status").read_text()
    resident = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "cpu_s": (int(times[11]) + int(times[12])) / _TICKS,
        "written_bytes": float(written),
        "resident_mb": int(resident) / 1024,
    }


# As a careful owner runs it; what is left out is as PostgreSQL ships it, durability above all.
_SERVER = {"shared_buffers": "256MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min"}


class PostroomOnPostgres(Postroom):
    """The same on a PostgreSQL server of its own, which syncs each commit."""

    def __init__(
        self,
        name: str = "postroom, postgresql",
        *,
        processes: int = 1,
        way: Way = PLAIN,
        paused: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        """flags: more settings of `serve`."""
        super().__init__(name, way=way, paused=paused)
        self._processes, self._more = processes, flags
        self.server: PostgresServer | None = None
        self.database = ""

    async def start(self, folder: Path, sink: NextHop) -> None:
        """Start a server, and `serve` on a fresh database of it."""
        self.server = await asyncio.to_thread(PostgresServer, _SERVER)
        self.database = self.server.of(await asyncio.to_thread(self.server.create))
        self._flags = ("--database", self.database, *self._more)
        if self._processes > 1:
            self._flags = (*self._flags, "--processes", str(self._processes))
        await super().start(folder, sink)

    def counters(self) -> dict[str, float]:
        """Besides: CPU seconds of the server, and bytes of write-ahead log."""
        found = super().counters()
        assert self.server is not None
        written = self.server.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
        return {**found, "server_cpu_s": cpu_s(self.server), "wal_bytes": float(written)}

    async def stop(self) -> None:
        """End both."""
        await super().stop()
        if self.server is not None:
            await asyncio.to_thread(self.server.close)


def cpu_s(server: PostgresServer) -> float:
    """CPU seconds of a server, those of sessions that ended included."""
    ticks = 0
    for pid in family(server.pid):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked; its parent has it
        ticks += sum(int(fields[at]) for at in ((11, 12, 13, 14) if pid == server.pid else (11, 12)))
    return ticks / _TICKS
