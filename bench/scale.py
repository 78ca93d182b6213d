"""What a delivery and a look cost where very much is stored, millions of rows against a thousand.

    python -m bench.scale [--on postgresql|sqlite] [--queued N] [--passed N] [--deliver N] [--json FILE]

A real message is accepted and a real one delivered; their rows are then multiplied inside the database, so
that so many have passed and so many wait. `serve` delivers some of those that wait, and answers lists and
searches. Then once more while another session holds a transaction open for a minute, whose snapshot keeps
every dead row. The same on a database where a thousand have passed and few wait; the ratios to that count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from bench.peers.interface import Load
from bench.peers.postroom import Postroom, PostroomOnPostgres
from bench.sink import Sink, running_sink
from postroom.cli.reach import call
from postroom.config import Settings, load
from postroom.folder import DATABASE_NAME

_TIMEOUT_S = 900.0
_LOOKS = 50
_HELD = "held_"
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
        await self.multiply()
        _say(f"{self.passed} passed and {self.queued} queued in {time.monotonic() - began_s:.0f} s")

    async def hold(self) -> Callable[[], Awaitable[None]]:
        """Begin a transaction and look, so that its snapshot stands; how to end it."""
        holder = await asyncpg.connect(self.post.database)
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await holder.fetch("SELECT COUNT(*) FROM workers")

        async def close() -> None:
            await holder.close()

        return close

    @property
    def settings(self) -> Settings:
        """For operations on it."""
        return load({"data": str(self.post.data), "database": self.post.database}, {})

    async def multiply(self) -> None:
        """Fill it."""
        await asyncio.to_thread(self._multiply)

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
            f" FROM (SELECT * FROM {table} WHERE {where} LIMIT 1) t, {self._numbers(n)}"
        )

    def _numbers(self, n: int) -> str:
        return f"generate_series(1, {n}) AS g"

    def _public_id(self, state: str) -> str:
        return f"md5('{state}' || g)::uuid::text"

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
                public_id=self._public_id(state),
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
        self._tidy(first)

    def _tidy(self, first: int) -> None:
        """New rows are numbered from there; what waits to be written is, and counted."""
        for table, column in (("messages", "message_id"), ("deliveries", "delivery_id")):
            self.one(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {first + 1})")
        self.one("VACUUM ANALYZE")
        self.one("CHECKPOINT")


class MultipliedOnSqlite(Multiplied):
    """The same in a file. `serve` is stopped meanwhile: it alone writes there."""

    def __init__(self, queued: int, passed: int) -> None:
        self.queued, self.passed = queued, passed
        self.post: Any = Postroom(paused=False)  # Any: the other's post room is on PostgreSQL

    async def hold(self) -> Callable[[], Awaitable[None]]:
        holder = sqlite3.connect(self._file, isolation_level=None)
        holder.execute("BEGIN")
        holder.execute("SELECT COUNT(*) FROM workers").fetchall()

        async def close() -> None:
            holder.close()

        return close

    @property
    def settings(self) -> Settings:
        return load({"data": str(self.post.data)}, {})

    async def multiply(self) -> None:
        await self.post.stop_serving()
        await asyncio.to_thread(self._multiply)
        await self.post.again()

    @property
    def _file(self) -> Path:
        return Path(self.post.data) / DATABASE_NAME

    def one(self, text: str) -> str:
        with closing(sqlite3.connect(self._file, timeout=60.0)) as database, database:
            rows = database.execute(text).fetchall()
        return "\n".join("|".join(map(str, row)) for row in rows)

    def _columns(self, table: str, leave: Sequence[str]) -> list[str]:
        named = self.one(f"SELECT name FROM pragma_table_info('{table}') ORDER BY cid").split("\n")
        return [name for name in named if name not in leave]

    def _numbers(self, n: int) -> str:
        counted = f"SELECT 1 UNION ALL SELECT g + 1 FROM numbers WHERE g < {n}"
        return f"(WITH RECURSIVE numbers(g) AS ({counted}) SELECT g FROM numbers)"

    def _public_id(self, state: str) -> str:
        return f"'{state}-' || g"

    def _tidy(self, first: int) -> None:
        self.one("ANALYZE")
        self.one("PRAGMA wal_checkpoint(TRUNCATE)")


ROOMS: dict[str, type[Multiplied]] = {"postgresql": Multiplied, "sqlite": MultipliedOnSqlite}


async def measure(room: Multiplied, deliver: int, folder: Path, hold_s: float = 0.0) -> dict[str, float]:
    """One database of that size. hold_s: for how long it delivers under a held snapshot too, if at all."""
    folder.mkdir()
    async with running_sink() as sink:
        try:
            await room.start(folder, sink)
            found = {f"{name}_p99_ms": ms for name, ms in (await _looks(room)).items()}
            found |= await _some(room, sink, deliver)
            if hold_s:
                told = await _some(room, sink, deliver, hold_s)
                found |= {f"{_HELD}{name}": value for name, value in told.items()}
            found["resident_mb"] = room.post.counters()["resident_mb"]
        finally:
            await room.post.stop()
    return found


async def _some(room: Multiplied, sink: Sink, deliver: int, hold_s: float = 0.0) -> dict[str, float]:
    """Deliver so many, and for as long as another session holds a snapshot."""
    let_go = await room.hold() if hold_s else None
    try:
        before, counters = sink.count, room.post.counters()
        began_s = time.perf_counter()
        await room.post.command("connection", "resume", "1")
        await sink.until(before + deliver, _TIMEOUT_S)
        await asyncio.sleep(max(0.0, hold_s - (time.perf_counter() - began_s)))
        took_s = time.perf_counter() - began_s
        after = room.post.counters()
        taken = sink.count - before
        await room.post.command("connection", "pause", "1")
        await asyncio.sleep(1.0)
    finally:
        if let_go is not None:
            await let_go()
    return {
        "per_second": taken / took_s,
        "serve_cpu_ms": (after["cpu_s"] - counters["cpu_s"]) * 1000 / taken,
        "server_cpu_ms": (after.get("server_cpu_s", 0) - counters.get("server_cpu_s", 0)) * 1000 / taken,
        "seconds": took_s,
    }


async def _looks(room: Multiplied) -> dict[str, float]:
    """The 99th percentile of each kind of look, in milliseconds."""
    found: dict[str, float] = {}
    for name, (operation, asked) in _ASKED.items():
        took = []
        for _ in range(_LOOKS):
            began_s = time.perf_counter()
            await call(room.settings, operation, asked)
            took.append((time.perf_counter() - began_s) * 1000)
        found[name] = statistics.quantiles(took, n=100)[98]
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", choices=ROOMS, default="postgresql")
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--passed", type=int, default=5_000_000)
    parser.add_argument("--deliver", type=int, default=20_000)
    parser.add_argument("--hold", type=float, default=60.0, help="seconds for which a snapshot is held")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    async def both() -> tuple[dict[str, float], dict[str, float]]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            place = Path(folder)
            room = ROOMS[given.on]
            small = await measure(room(3 * given.deliver, 1000), given.deliver, place / "small")
            large = await measure(
                room(given.queued, given.passed), given.deliver, place / "large", given.hold
            )
            return small, large

    small, large = asyncio.run(both())
    ratios = {
        name: round(value / few, 2)
        for name, value in large.items()
        if (few := small[name.removeprefix(_HELD)])
    }
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
