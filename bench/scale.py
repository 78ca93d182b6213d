"""What a delivery and a look cost where very much is stored: PostgreSQL with millions of rows and a thousand.

    python -m bench.scale [--queued 1000000] [--passed 5000000] [--deliver 3000] [--json FILE]

A real message is accepted and a real one delivered; their rows are then multiplied inside the database, so
that so many have passed and so many wait. `serve` delivers some of those that wait, and answers lists and
searches. Then once more while another session holds a transaction open, whose snapshot keeps every dead row.
The same on a database with a thousand of each; the ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from bench.peers.interface import Load
from bench.peers.postroom import PostroomOnPostgres
from bench.sink import Sink, running_sink
from postroom.cli.reach import call
from postroom.config import load

_TIMEOUT_S = 900.0
_LOOKS = 50
# What is asked for: the newest, those in a state, those to an address, older ones, one message, the queue.
_ASKED: dict[str, tuple[str, dict[str, object]]] = {
    "list": ("message.list", {"limit": 50}),
    "list_ready": ("message.list", {"limit": 50, "state": "ready"}),
    "list_to": ("message.list", {"limit": 50, "recipient": "r7@example.net"}),
    "list_subject": ("message.list", {"limit": 50, "subject": "bench"}),
    "show": ("message.show", {"message": "1"}),
    "explain": ("explain", {"message": "1"}),
    "queue": ("queue.show", {}),
}


class Multiplied:
    """A post room whose database was filled from one queued and one delivered message."""

    def __init__(self, queued: int, passed: int) -> None:
        self.queued, self.passed = queued, passed
        self.post = PostroomOnPostgres(paused=False)

    async def start(self, folder: Path, sink: Sink) -> None:
        """Deliver one, keep one back, multiply both."""
        await self.post.start(folder, sink)
        await self.post.feed(Load(1, 1))
        await sink.until(1, 60.0)
        await self.post.command("connection", "pause", "1")
        await self.post.feed(Load(1, 1))
        while self.one("SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'") != "0":
            await asyncio.sleep(0.1)
        began_s = time.monotonic()
        await asyncio.to_thread(self._multiply)
        _say(f"{self.passed} passed and {self.queued} queued in {time.monotonic() - began_s:.0f} s")

    @property
    def _database(self) -> str:
        return urlsplit(self.post.database).path[1:]

    def one(self, text: str) -> str:
        """What psql says to one statement."""
        server = self.post.server
        assert server is not None
        return server.execute(text, self._database)

    def _columns(self, table: str, leave: Sequence[str]) -> list[str]:
        named = self.one(
            f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
            " AND table_schema = current_schema() ORDER BY ordinal_position"
        )
        return [name for name in named.split("\n") if name not in leave]

    def _copies(self, table: str, where: str, n: int, leave: Sequence[str] = (), **changed: str) -> None:
        """n copies of the one row of `table`; changed: columns whose value says which copy it is."""
        columns = self._columns(table, leave)
        values = ", ".join(changed.get(name, f"t.{name}") for name in columns)
        self.one(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values}"
            f" FROM (SELECT * FROM {table} WHERE {where} LIMIT 1) t, generate_series(1, {n}) AS g"
        )

    def _multiply(self) -> None:
        first = 1000
        for state, n in (("sent", self.passed), ("ready", self.queued)):
            row = self.one(f"SELECT message_id, delivery_id FROM deliveries WHERE state = '{state}' LIMIT 1")
            message, delivery = row.split("|")
            number = f"{first} + g"
            self._copies(
                "messages",
                f"message_id = {message}",
                n,
                message_id=number,
                public_id=f"md5('{state}' || g)::uuid::text",
                rfc_message_id="'<' || g || '@bench.example>'",
            )
            self._copies(
                "deliveries",
                f"delivery_id = {delivery}",
                n,
                delivery_id=number,
                message_id=number,
                recipient="'r' || g || '@example.net'",
                address="'r' || g || '@example.net'",
            )
            if state == "sent":
                self._copies("attempts", "TRUE", n, ["attempt_id"], delivery_id=number)
            else:
                self._copies("ready", f"delivery_id = {delivery}", n, delivery_id=number, due="t.due + g")
            for kind in ("accepted", "sent") if state == "sent" else ("accepted",):
                where = f"message_id = {message} AND kind = '{kind}'"
                self._copies("events", where, n, ["event_id"], delivery_id=number, message_id=number)
            first += n
        for table, column in (("messages", "message_id"), ("deliveries", "delivery_id")):
            self.one(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {first + 1})")
        self.one("VACUUM ANALYZE")
        self.one("CHECKPOINT")


async def measure(queued: int, passed: int, deliver: int, folder: Path) -> dict[str, float]:
    """One database of that size."""
    folder.mkdir()
    room = Multiplied(queued, passed)
    async with running_sink() as sink:
        try:
            await room.start(folder, sink)
            found = {f"{name}_p99_ms": ms for name, ms in (await _looks(room)).items()}
            for held in ("", "held_"):
                told = await _some(room, sink, deliver, held)
                found |= {f"{held}{name}": value for name, value in told.items()}
            found["resident_mb"] = room.post.counters()["resident_mb"]
        finally:
            await room.post.stop()
    return found


async def _some(room: Multiplied, sink: Sink, deliver: int, held: str) -> dict[str, float]:
    """Deliver some; with `held` while another session holds a snapshot."""
    holder = await asyncpg.connect(room.post.database) if held else None
    try:
        if holder is not None:
            await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await holder.fetch("SELECT COUNT(*) FROM workers")
        before, counters = sink.count, room.post.counters()
        began_s = time.perf_counter()
        await room.post.command("connection", "resume", "1")
        await sink.until(before + deliver, _TIMEOUT_S)
        took_s = time.perf_counter() - began_s
        after = room.post.counters()
        taken = sink.count - before
        await room.post.command("connection", "pause", "1")
        await asyncio.sleep(1.0)
    finally:
        if holder is not None:
            await holder.close()
    return {
        "per_second": taken / took_s,
        "serve_cpu_ms": (after["cpu_s"] - counters["cpu_s"]) * 1000 / taken,
        "server_cpu_ms": (after["server_cpu_s"] - counters["server_cpu_s"]) * 1000 / taken,
    }


async def _looks(room: Multiplied) -> dict[str, float]:
    """The 99th percentile of each kind of look, in milliseconds."""
    settings = load({"data": str(room.post.data), "database": room.post.database}, {})
    found: dict[str, float] = {}
    for name, (operation, asked) in _ASKED.items():
        took = []
        for _ in range(_LOOKS):
            began_s = time.perf_counter()
            await call(settings, operation, asked)
            took.append((time.perf_counter() - began_s) * 1000)
        found[name] = statistics.quantiles(took, n=100)[98]
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--passed", type=int, default=5_000_000)
    parser.add_argument("--deliver", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    async def both() -> tuple[dict[str, float], dict[str, float]]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            place = Path(folder)
            small = await measure(3 * given.deliver, 1000, given.deliver, place / "small")
            large = await measure(given.queued, given.passed, given.deliver, place / "large")
            return small, large

    small, large = asyncio.run(both())
    ratios = {name: round(large[name] / small[name], 2) for name in small if small[name]}
    told = {
        "small": {name: round(value, 3) for name, value in small.items()},
        "large": {name: round(value, 3) for name, value in large.items()},
        "ratios": ratios,
        "queued": given.queued,
        "passed": given.passed,
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
