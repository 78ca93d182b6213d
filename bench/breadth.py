"""What a delivery costs where very many send: one connection or a thousand, one server or ten thousand.

    python -m bench.breadth [--deliver 5000] [--json FILE] [COURSE ...]

PostgreSQL. A course is connections x servers x processes, as `1000x1x1`; unsaid: those that are documented.
Each has a deep queue, spread over its servers, and once its sessions are open the next `--deliver` deliveries
are measured: CPU of `serve` and of the server for each, and memory. The ratios to `1x1x1` count. Above ten
connections each may have two sessions, else ten.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from bench.peers.postroom import PostroomOnPostgres
from bench.results import write
from bench.scale import Multiplied
from bench.sink import Sink, running_sink
from postroom.cli.reach import call

_COURSES = ("1x1x1", "100x1x1", "1000x1x1", "1x100x1", "1x10000x1", "100x10000x1", "1x1x2", "100x1x2")
_TIMEOUT_S = 600.0
_FEW = 10
_FIRST_SERVER, _FIRST_LANE = 100_000, 100_000


class Broad(Multiplied):
    """A post room with so many connections and servers, and mail of each server."""

    def __init__(self, connections: int, servers: int, processes: int, queued: int) -> None:
        super().__init__(queued, 1000)
        self._connections, self._servers = connections, servers
        sessions = 10 if connections <= _FEW else 2
        self.post = PostroomOnPostgres(
            processes=processes, flags=("--sessions-per-connection", str(sessions))
        )

    async def start(self, folder: Path, sink: Sink) -> None:
        """All of it, with nothing on its way."""
        await super().start(folder, sink)
        await self.operation("queue.pause", everything=True)
        await self.operation("queue.resume", connection=1)
        for number in range(1, self._connections):
            fields = {"label": f"c{number}", "host": "127.0.0.1", "port": sink.port, "security": "never"}
            await self.operation("connection.create", fields={**fields, "for_transactional": True}, account=1)
        if self._servers > 1:
            await asyncio.to_thread(self._spread)
        await self.post.stop_serving()
        await self.post.again()

    async def operation(self, name: str, /, **args: object) -> None:
        """Done as a command would have it done."""
        await call(self.settings, name, args)

    def _spread(self) -> None:
        """Copy the server and its lane; what waits is of each in turn."""
        n = self._servers
        self.one("UPDATE identities SET server_id = NULL")
        self.one("UPDATE connections SET server_id = NULL")
        lane = self.one("SELECT lane_id FROM ready LIMIT 1")
        server = self.one(f"SELECT server_id FROM lanes WHERE lane_id = {lane}")
        self._copies(
            "servers",
            f"server_id = {server}",
            n,
            server_id=f"{_FIRST_SERVER} + g",
            name="'server ' || g",
            inbound_hash="md5('server' || g)",
        )
        self._copies(
            "lanes",
            f"lane_id = {lane}",
            n,
            lane_id=f"{_FIRST_LANE} + g",
            server_id=f"{_FIRST_SERVER} + g",
        )
        for table in ("messages", "deliveries"):
            waits = " WHERE state = 'ready'" if table == "deliveries" else ""
            lane_too = f", lane_id = {_FIRST_LANE} + 1 + delivery_id % {n}" if table == "deliveries" else ""
            key = "message_id" if table == "messages" else "delivery_id"
            self.one(f"UPDATE {table} SET server_id = {_FIRST_SERVER} + 1 + {key} % {n}{lane_too}{waits}")
        self.one(f"UPDATE ready SET lane_id = {_FIRST_LANE} + 1 + delivery_id % {n}")
        self.one("VACUUM ANALYZE")


async def measure(course: str, deliver: int, folder: Path) -> dict[str, float]:
    """One course in a fresh post room."""
    connections, servers, processes = (int(part) for part in course.split("x"))
    warm = 500 + 4 * connections
    folder.mkdir()
    room = Broad(connections, servers, processes, 2 * (warm + deliver))
    async with running_sink() as sink:
        try:
            await room.start(folder, sink)
            before = sink.count
            await room.operation("queue.resume", everything=True)
            await sink.until(before + warm, _TIMEOUT_S)
            first, counters = sink.count, room.post.counters()
            began_s = time.perf_counter()
            await sink.until(first + deliver, _TIMEOUT_S)
            took_s = time.perf_counter() - began_s
            taken, after = sink.count - first, room.post.counters()
        finally:
            await room.post.stop()
    return {
        "per_second": taken / took_s,
        "serve_cpu_ms": (after["cpu_s"] - counters["cpu_s"]) * 1000 / taken,
        "server_cpu_ms": (after["server_cpu_s"] - counters["server_cpu_s"]) * 1000 / taken,
        "statements": (after["statements"] - counters["statements"]) / taken,
        "resident_mb": after["resident_mb"],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("courses", nargs="*", metavar="COURSE", help="connections x servers x processes")
    parser.add_argument("--deliver", type=int, default=5000)
    parser.add_argument("--json", type=Path, help="write everything here as well")
    given = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for course in given.courses or _COURSES:
            found = asyncio.run(measure(course, given.deliver, Path(folder) / course))
            results[course] = {name: round(value, 2) for name, value in found.items()}
            told = ", ".join(f"{name} {value:g}" for name, value in results[course].items())
            sys.stdout.write(f"{course}: {told}\n")
            sys.stdout.flush()
    if given.json:
        write(given.json, {"deliver": given.deliver, "courses": results})


if __name__ == "__main__":
    main()
