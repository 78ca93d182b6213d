"""What lists and searches cost with a million messages against a thousand, on both databases.

    python -m bench.search [--messages 1000000] [--calls 200] [--database sqlite] [--json FILE]

Two post rooms stand open at once, one with a thousand messages and one with as many as are asked for, made
inside their databases. Each call goes through the whole application, by turns to the one and the other, so
that what slows the machine slows both. The ratios count: of the 99th percentiles, and of the medians.

A stream that was searched for a part of the subject gets blocks of subjects in the background. Here both are
searched once and theirs are made before anything is measured; how long that took is told.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from postroom.actions.accept import Submission, accept_message
from postroom.config import load
from postroom.control.operations import run
from postroom.core.message import Purpose
from postroom.ids import AccountId, ServerId
from postroom.mail.content import Mailbox
from postroom.storage.interface import Sql, Work
from postroom.storage.labels import Label
from postroom.storage.postgres_pieces import arguments, numbered
from postroom.wiring import PostRoom, open_post_room, subject_blocks
from tests.support.http import application
from tests.support.postgres import PostgresServer

SMALL = 1000
_OUTBOUND = "/messages/outbound?count=50&offset=0"
CALLS = {
    "newest": _OUTBOUND,
    "page 40": "/messages/outbound?count=20&offset=800",
    "stream": f"{_OUTBOUND}&messagestream=broadcast",
    "recipient": f"{_OUTBOUND}&recipient=r7@example.net",
    "recipient, none": f"{_OUTBOUND}&recipient=nobody@example.net",
    "fromemail": f"{_OUTBOUND}&fromemail=s3@example.com",
    "tag": f"{_OUTBOUND}&tag=tag3",
    "metadata": f"{_OUTBOUND}&metadata_order=100",
    "tag and recipient": f"{_OUTBOUND}&tag=tag7&recipient=r7@example.net",
    "status sent": f"{_OUTBOUND}&status=sent",
    "todate": f"{_OUTBOUND}&todate=2026-01-05",
    "subject": f"{_OUTBOUND}&subject=number 7",
    "subject, none": f"{_OUTBOUND}&subject=nothing of that kind",
    "subject, one old": f"{_OUTBOUND}&subject=once and never again",
    # Every three characters of it are in every block, and the whole is in none.
    "subject, all read": f"{_OUTBOUND}&subject=number 7 of group 9",
    "subject and fromemail": f"{_OUTBOUND}&subject=number 7&fromemail=s7@example.com",
}
# As the command line asks: of an account, all streams.
LISTS: dict[str, dict[str, object]] = {
    "list": {"limit": 50},
    "list, state": {"limit": 50, "state": "sent"},
    "list, recipient": {"limit": 50, "recipient": "r7@example.net"},
}
_MONTH_US = 30 * 86_400 * 1_000_000
_FIRST_US = 1_767_225_600 * 1_000_000  # 1 January 2026
_OF = "SELECT 1, 1, :label, message_id FROM messages WHERE message_id > 1 AND message_id %"


@dataclass
class Room:
    """A post room with so many messages, and a client of its API."""

    post: PostRoom
    http: httpx.AsyncClient

    async def ask(self, name: str) -> float:
        """Milliseconds a call takes."""
        began_s = time.perf_counter()
        if name in LISTS:
            await run(self.post.desk, "message.list", LISTS[name])
        else:
            answer = await self.http.get(CALLS[name])
            answer.raise_for_status()
        return (time.perf_counter() - began_s) * 1000


def _fill(messages: int) -> Work[None]:
    """All but the first message: in each table that a search looks at. 20 are to each person."""
    people = messages // 20
    yield Sql(f"UPDATE messages SET created_at = {_FIRST_US}")
    yield Sql(
        "INSERT INTO messages (account_id, message_id, public_id, server_id, stream, purpose, sender,"
        " subject, rfc_message_id, content_id, size_bytes, origin, options, created_at)"
        f" WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {messages})"
        " SELECT 1, i, 'p' || i, 1, CASE WHEN i % 10 = 0 THEN 'broadcast' ELSE 'outbound' END,"
        " 'transactional', 's' || (i % 20) || '@example.com', CASE WHEN i = 101 THEN 'once and never again'"
        " ELSE 'number ' || (i % 50) || ' of group ' || (i * 7 % 50) END,"
        " '<' || i || '@example.com>',"
        """ 1, 1000, 'bench', '{"tag":"tag' || (i % 10) || '"}',"""
        f" {_FIRST_US} + CAST(i AS BIGINT) * {_MONTH_US // messages} FROM n"
    )
    yield Sql(
        "INSERT INTO deliveries (account_id, delivery_id, server_id, message_id, lane_id, recipient, address,"
        " kind, state, due, settled_at) SELECT 1, message_id, 1, message_id, 1, 'r',"
        f" 'r' || (message_id % {people}) || '@example.net', 'to', 'sent', created_at, created_at"
        " FROM messages WHERE message_id > 1"
    )
    for tag in range(10):
        label = Label(f"tag{tag}").on("outbound" if tag else "broadcast")
        yield Sql(f"INSERT INTO labels {_OF} 10 = {tag}", {"label": label})
    order = Label("100", "order").on("outbound")
    yield Sql(f"INSERT INTO labels {_OF} {people} = 7", {"label": order})


@asynccontextmanager
async def room(folder: Path, messages: int, database: str) -> AsyncIterator[Room]:
    """Open one, filled. database: a URL, or empty for SQLite."""
    post = await open_post_room(load({"data": str(folder), "database": database or None}, {}))
    try:
        made = await run(post.desk, "bootstrap", {"sender": "s@example.com"})
        submission = Submission(
            AccountId(1), ServerId(1), Purpose.TRANSACTIONAL, "bench", [Mailbox("r1@example.net")], text="x"
        )
        await accept_message(post.ctx, submission)
        began_s = time.monotonic()
        await _filled(post, messages, database)
        sys.stderr.write(f"{messages} messages made in {time.monotonic() - began_s:.0f} s\n")
        transport = httpx.ASGITransport(application(post.ctx))
        assert isinstance(made, dict)
        token = {"X-Postmark-Server-Token": made["server_key"]}
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=token) as http:
            yield Room(post, http)
    finally:
        await post.close()


async def _filled(post: PostRoom, messages: int, database: str) -> None:
    if not database:
        await post.store.write(lambda: _fill(messages))
        await post.store.write(_analyse)
        return
    session = await asyncpg.connect(database)  # a store lets no unit take this long
    try:
        for statement in _fill(messages):
            assert isinstance(statement, Sql)
            assert isinstance(statement.params, dict)
            text, names = numbered(statement.text)
            await session.execute(text, *arguments(names, statement.params))
        await session.execute("VACUUM ANALYZE")
    finally:
        await session.close()


def _analyse() -> Work[None]:
    yield Sql("ANALYZE")


async def measure(messages: int, calls: int, folder: Path, of: Sequence[str]) -> dict[str, dict[str, float]]:
    """What each call took; of: the databases, two URLs or two empty texts."""
    found: dict[str, dict[str, float]] = {}
    async with (
        room(folder / "small", SMALL, of[0]) as small,
        room(folder / "large", messages, of[1]) as large,
    ):
        for one in (small, large):
            await one.ask("subject, none")
            began_s = time.monotonic()
            made = await subject_blocks(one.post).run_once()
            sys.stderr.write(f"{made} blocks of subjects made in {time.monotonic() - began_s:.1f} s\n")
        gc.collect()
        gc.freeze()  # as `serve` does
        for name in (*CALLS, *LISTS):
            took: tuple[list[float], list[float]] = ([], [])
            for number in range(calls + 5):
                for one, times in zip((small, large), took, strict=True):
                    ms = await one.ask(name)
                    if number >= 5:
                        times.append(ms)
            (small_50, small_99), (large_50, large_99) = (
                (statistics.median(times), statistics.quantiles(times, n=100)[98]) for times in took
            )
            found[name] = {
                "small_p99_ms": round(small_99, 2),
                "large_p99_ms": round(large_99, 2),
                "ratio_p99": round(large_99 / small_99, 2),
                "ratio_p50": round(large_50 / small_50, 2),
            }
            sys.stderr.write(f"  {name}: {found[name]}\n")
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    told: dict[str, dict[str, dict[str, float]]] = {}
    for database in ("sqlite", "postgresql"):
        if given.database not in (database, "both"):
            continue
        sys.stderr.write(f"{database}\n")
        server = PostgresServer({"shared_buffers": "256MB"}) if database == "postgresql" else None
        try:
            of = ["", ""] if server is None else [server.of(server.create()), server.of(server.create())]
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                told[database] = asyncio.run(measure(given.messages, given.calls, Path(folder), of))
        finally:
            if server is not None:
                server.close()
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
