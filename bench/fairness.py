"""Who waits for whom: how long a single message takes from its request to the next hop while others send.

    python -m bench.fairness [--queued 1000000] [--accounts 1000] [--json FILE] [COURSE ...]

PostgreSQL, `serve` in one process. A probe hands in one transactional message after another over HTTP and
sees each arrive; what stands beside it differs by course, and `alone` is what the rest is compared with:

    alone     nothing
    account   a broadcast of `--queued` deliveries of another account, through a connection of its own
    server    the same broadcast, of another server of the probe's account, through the same connection
    batches   another account that hands in batches of 100 over twenty connections, all the time
    tarpit    mail of another account to a next hop that takes a minute for each reply
    capped    `--accounts` accounts with mail for which their connections have no room left
    small     `--accounts` accounts with 20 messages each beside the broadcast: when each had its last one
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.peers.interface import BODY, SENDER
from bench.results import write
from bench.scale import Multiplied
from bench.sink import Sink, running_sink
from postroom.cli.reach import call
from tests.support import sink as noting

_PROBES = 200
_PAUSE_S = 0.1
_PATIENCE_S = 300.0
_MAIL_OF_SMALL = 20
_TARPIT_S = 60.0
_LEAST_CAP = 15


class Room(Multiplied):
    """A post room, what is done to it, and a next hop that notes when each recipient's mail came."""

    def __init__(self, fast: Sink, slow: noting.Sink) -> None:
        super().__init__(0, 0)
        self.fast, self.slow = fast, slow
        self.came_s: dict[str, float] = {}
        self._probes = 0
        slow.on_message = self._came

    def _came(self, message: noting.Received) -> None:
        now_s = time.perf_counter()
        self.came_s |= dict.fromkeys(message.recipients, now_s)

    async def operation(self, name: str, /, **args: object) -> Any:  # Any: whatever it answers
        """Done as a command would have it done."""
        return await call(self.settings, name, args)

    async def account(self, name: str) -> int:
        """A new one."""
        found: int = (await self.operation("account.create", name=name))["account_id"]
        return found

    async def server(self, account: int, name: str) -> str:
        """A new server; its key."""
        made = await self.operation("server.create", name=name, account=account, default_sender=SENDER)
        key = await self.operation("key.create", label="bench", account=account, server=made["server_id"])
        found: str = key["key"]
        return found

    async def way_out(self, account: int, port: int, **more: object) -> int:
        """A connection to a next hop on loopback, for any mail of that account."""
        fields = {"label": "way out", "host": "127.0.0.1", "port": port, "security": "never"}
        fields |= {"for_transactional": True, "for_broadcast": True, "for_sequence": True, **more}
        found: int = (await self.operation("connection.create", fields=fields, account=account))[
            "connection_id"
        ]
        return found

    async def broadcast(self, queued: int, connection: int) -> None:
        """So many deliveries of the first server, all by that connection, begin to leave."""
        await self.operation("queue.pause", everything=True)
        await self.operation(
            "message.send", account=1, server=1, to=["r0@example.net"], purpose="broadcast", text=BODY
        )
        delivery, message = self.one(
            "SELECT delivery_id, message_id FROM ready JOIN deliveries USING (delivery_id)"
        ).split("|")
        await asyncio.to_thread(self._fill, delivery, message, queued)
        await self.operation("queue.resume", everything=True)

    def _fill(self, delivery: str, message: str, n: int) -> None:
        number = f"{10_000_000} + g"
        self._copies(
            "messages",
            f"message_id = {message}",
            n,
            message_id=number,
            public_id="md5('bulk' || g)::uuid::text",
            rfc_message_id="'<' || g || '@bench.example>'",
        )
        to = {"recipient": "'r' || g || '@example.net'", "address": "'r' || g || '@example.net'"}
        self._copies(
            "deliveries", f"delivery_id = {delivery}", n, delivery_id=number, message_id=number, **to
        )
        self._copies("ready", f"delivery_id = {delivery}", n, delivery_id=number)
        self.one("VACUUM ANALYZE")
        self.one("CHECKPOINT")

    async def probe(self, key: str) -> dict[str, float]:
        """Milliseconds from a request to the arrival of its mail, of one message after another."""
        took = []
        async with self.client(key) as session:
            for _ in range(_PROBES):
                self._probes += 1
                to = f"probe{self._probes}@example.net"
                began_s = time.perf_counter()
                await _ask(session, "/api/v1/transactionals", {"to": to, "subject": "Bench", "body": BODY})
                await self.until(lambda to=to: to in self.came_s)  # type: ignore[misc]
                took.append((self.came_s[to] - began_s) * 1000)
                await asyncio.sleep(_PAUSE_S)
        return {"p50_ms": statistics.median(took), "p99_ms": _p99(took), "most_ms": max(took)}

    def client(self, key: str) -> httpx.AsyncClient:
        """For requests with that key, by any of its dialects."""
        headers = {"Authorization": f"Bearer {key}", "X-Postmark-Server-Token": key}
        return httpx.AsyncClient(base_url=self.post.url, headers=headers, timeout=60.0)

    def transactions(self) -> int:
        """That the database has seen."""
        return int(self.one("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the next hop saw. Raises TimeoutError."""
        async with asyncio.timeout(_PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.001)


async def _ask(session: httpx.AsyncClient, path: str, body: object) -> None:
    answer = await session.post(path, json=body)
    if answer.status_code not in (200, 201):
        raise SystemExit(f"refused: {answer.text}")


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


# --- courses: each has a fresh post room -----------------------------------------------------------------


async def alone(room: Room, given: argparse.Namespace) -> dict[str, float]:
    """Nothing beside the probe."""
    other = await room.account("probe")
    await room.way_out(other, room.slow.port)
    return await room.probe(await room.server(other, "probe"))


async def account(room: Room, given: argparse.Namespace) -> dict[str, float]:
    """A broadcast of another account."""
    other = await room.account("probe")
    await room.way_out(other, room.slow.port)
    key = await room.server(other, "probe")
    await room.broadcast(given.queued, await room.way_out(1, room.fast.port))
    return await _beside(room, room.probe(key), lambda: room.fast.count)


async def server(room: Room, given: argparse.Namespace) -> dict[str, float]:
    """A broadcast of another server through the probe's own connection."""
    await room.operation("connection.delete", connection=1, account=1)
    way_out = await room.way_out(1, room.slow.port)
    key = await room.server(1, "probe")
    await room.broadcast(given.queued, way_out)
    return await _beside(room, room.probe(key), lambda: room.slow.accepted)


async def batches(room: Room, given: argparse.Namespace) -> dict[str, float]:
    """Another account hands in batches as fast as it can."""
    other = await room.account("probe")
    await room.way_out(other, room.slow.port)
    key = await room.server(other, "probe")
    feeder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", room.post.url, room.post.key, "--messages", str(given.queued)),
        *("--connections", "20", "--first", "0", "--batch", "100"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await room.until(lambda: room.fast.count >= 1000)
        found = await _beside(room, room.probe(key), lambda: room.fast.count)
        if feeder.returncode is not None:
            raise SystemExit("the batches ended before the probe did: give more with --queued")
        return found
    finally:
        if feeder.returncode is None:
            feeder.kill()
            await feeder.wait()


async def tarpit(room: Room, given: argparse.Namespace) -> dict[str, float]:
    """Another account's mail goes nowhere, slowly."""
    other = await room.account("probe")
    await room.way_out(other, room.slow.port)
    key = await room.server(other, "probe")
    async with noting_sink(delay_s=_TARPIT_S) as sticky:
        await room.broadcast(min(given.queued, 10_000), await room.way_out(1, sticky.port))
        return await room.probe(key)


async def capped(room: Room, given: argparse.Namespace) -> dict[str, float]:
    """Very many lanes whose connections took what their cap allows."""
    await _small(room, given.accounts, messages=_LEAST_CAP + 2, hourly_cap=_LEAST_CAP)
    other = await room.account("probe")
    await room.way_out(other, room.slow.port)
    key = await room.server(other, "probe")
    await room.until(lambda: len(room.came_s) >= given.accounts * _LEAST_CAP)
    before = room.transactions()
    await asyncio.sleep(10.0)
    idle = (room.transactions() - before) / 10.0
    return {**await room.probe(key), "idle_transactions_per_second": idle}


async def small(room: Room, given: argparse.Namespace) -> dict[str, float]:
    """Each of many small accounts beside a huge one."""
    await room.broadcast(given.queued, await room.way_out(1, room.fast.port))
    await room.operation("queue.pause", everything=True)
    keys = await _small(room, given.accounts, messages=_MAIL_OF_SMALL)
    before = room.fast.count
    began_s = time.perf_counter()
    await room.operation("queue.resume", everything=True)
    await room.until(lambda: len(room.came_s) == given.accounts * _MAIL_OF_SMALL)
    last: dict[str, float] = {}
    for to, at_s in room.came_s.items():
        of = to.partition(".")[0]
        last[of] = max(last.get(of, 0.0), at_s - began_s)
    took = sorted(last.values())
    assert len(took) == len(keys)
    return {
        "seconds": took[-1],
        "first_account_done_s": took[0],
        "median_account_done_s": statistics.median(took),
        "p99_account_done_s": _p99(took),
        "of_small": float(len(room.came_s)),
        "of_the_huge_one": float(room.fast.count - before),
    }


async def _small(room: Room, accounts: int, messages: int, **more: object) -> list[str]:
    """So many accounts with mail of their own, to a<n>.<m>@example.net."""
    keys = []
    for number in range(accounts):
        own = await room.account(f"small {number}")
        await room.way_out(own, room.slow.port, **more)
        keys.append(await room.server(own, "small"))
        async with room.client(keys[-1]) as session:
            item = {"From": SENDER, "Subject": "Bench", "TextBody": BODY}
            items = [{**item, "To": f"a{number}.{one}@example.net"} for one in range(messages)]
            await _ask(session, "/email/batch", items)
    return keys


async def _beside(
    room: Room, probing: Awaitable[dict[str, float]], count: Callable[[], int]
) -> dict[str, float]:
    """What the probe found, and how much of the broadcast left meanwhile."""
    before, began_s = count(), time.perf_counter()
    found = await probing
    return {**found, "beside_per_second": (count() - before) / (time.perf_counter() - began_s)}


Course = Callable[[Room, argparse.Namespace], Awaitable[dict[str, float]]]
COURSES: dict[str, Course] = {
    one.__name__: one for one in (alone, account, server, batches, tarpit, capped, small)
}


@asynccontextmanager
async def noting_sink(delay_s: float = 0.0) -> AsyncIterator[noting.Sink]:
    """A next hop in this process. delay_s: before each reply to a message."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        made = noting.Sink(noting.SinkOptions(Path(folder) / "log", delay_s=delay_s))
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


async def measure(course: Course, given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """One course on a fresh post room."""
    folder.mkdir()
    async with AsyncExitStack() as stack:
        fast = await stack.enter_async_context(running_sink())
        slow = await stack.enter_async_context(noting_sink())
        room = Room(fast, slow)
        stack.push_async_callback(room.post.stop)
        await room.post.start(folder, fast)
        return {name: round(value, 1) for name, value in (await course(room, given)).items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("courses", nargs="*", metavar="COURSE", help=f"of {', '.join(COURSES)}; unsaid: all")
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write everything here as well")
    given = parser.parse_args()
    if unknown := set(given.courses) - COURSES.keys():
        parser.error(f"there is no course called {', '.join(sorted(unknown))}")
    results = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in given.courses or COURSES:
            results[name] = asyncio.run(measure(COURSES[name], given, Path(folder) / name))
            sys.stdout.write(f"{name}: {', '.join(f'{k} {v:g}' for k, v in results[name].items())}\n")
            sys.stdout.flush()
    if given.json:
        write(given.json, {"queued": given.queued, "accounts": given.accounts, "courses": results})


if __name__ == "__main__":
    main()
