"""The drill of the database's troubles: requests go on over HTTP while it hangs, restarts, is gone, may only
be read, or has no connection left.

Clients ask all the time, each with a request of its own until that has its yes. Every answer is timed. What
must hold: an answer within 15 seconds, 503 or yes; ten seconds after the trouble no more 503; nothing lost,
no copy; and nobody is taken for dead, since nobody is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import asyncpg

from drills.books import NOTHING, Books, books, deaths, settled
from drills.cluster import Cluster
from drills.feed import TEXT, HttpConnection, Told
from drills.kills import LOGIN, SENDER
from tests.support.sink import read_log, sink_process

SETTINGS = {"api_rate_per_minute": "0", "unknown_wait": "1s", "log_level": "info"}
ANSWERED_WITHIN_S = 15.0
WELL_WITHIN_S = 10.0
_CLIENTS = 12
_BEFORE_S, _AFTER_S = 5.0, 15.0
_AGAIN_S = 0.25
_HANGS_UP_S = 40.0  # a client's own patience: longer than any answer may take
_CONNECTIONS = 60  # of the server, in all
_HERE = "drill"  # the name of our own connections


class Trouble(StrEnum):
    """What becomes of the server."""

    HANG = "hangs"
    RESTART = "restarts"
    GONE = "is gone"
    READ_ONLY = "may only be read"
    FULL = "has no connection left"


@dataclass(frozen=True)
class Course:
    """What is driven. lasts_s: the trouble; a restart lasts as long as it takes."""

    trouble: Trouble
    lasts_s: float
    processes: int = 4

    @property
    def name(self) -> str:
        lasts = f" for {self.lasts_s:g} s" if self.lasts_s else ""
        return f"PostgreSQL {self.trouble}{lasts}, {self.processes} processes"


@dataclass
class Asked:
    """One answer: when the request began and ended, by our clock, and its status; 0: none came."""

    began_s: float
    ended_s: float
    status: int


@dataclass
class Verdict:
    """Of one course. well_s: from the trouble's end to the end of the last answer that was no yes."""

    course: Course
    answers: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    well_s: float = 0.0
    sent_again_s: float = 0.0
    accepted_in_trouble: int = 0
    books: Books = NOTHING
    unsettled: int = 0
    deaths: Mapping[str, int] = field(default_factory=dict)
    exit_code: int = 0
    took_s: float = 0.0

    def problems(self) -> list[str]:
        """What must not be."""
        found = []
        other = Counter({status: n for status, n in self.answers.items() if status not in (201, 503)})
        for count, text in (
            (self.books.lost, "accepted and lost"),
            (self.books.copies, "copies"),
            (self.books.unverified, "unverified"),
            (self.unsettled, "not settled in the end"),
            (sum(self.deaths.values()), f"taken for dead: {dict(+Counter(self.deaths))}"),
            (sum(other.values()), f"answers that were neither yes nor 503: {dict(other)}"),
            (self.exit_code, "is the exit code"),
        ):
            if count:
                found.append(f"{count} {text}")
        if self.slowest_s > ANSWERED_WITHIN_S:
            found.append(f"an answer took {self.slowest_s:.1f} s")
        if self.well_s > WELL_WITHIN_S or self.sent_again_s > WELL_WITHIN_S:
            found.append(f"well after {self.well_s:.1f} s, mail goes after {self.sent_again_s:.1f} s")
        return found

    def line(self) -> str:
        """All numbers."""
        return (
            f"{self.course.name}: accepted {self.books.accepted}, lost {self.books.lost},"
            f" copies {self.books.copies}, 503s {self.answers[503]}, no answer {self.answers[0]},"
            f" slowest answer {self.slowest_s:.1f} s, last 503 {self.well_s:.1f} s and first mail"
            f" {self.sent_again_s:.1f} s after its end, taken for dead {sum(self.deaths.values())},"
            f" {self.took_s:.0f} s in all"
        )


class Clients:
    """They ask until told to stop, and end with their last yes."""

    def __init__(self, url: str, key: str, told: Told) -> None:
        self._url, self._key, self._told = url, key, told
        self._numbers = iter(range(1 << 40))
        self._ending = False
        self.asked: list[Asked] = []

    async def run(self) -> None:
        """Until `end`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(self._work())

    def end(self) -> None:
        """Nobody begins another message."""
        self._ending = True

    async def _work(self) -> None:
        connection = HttpConnection()
        try:
            while not self._ending:
                number = next(self._numbers)
                while await self._ask(connection, number) != 201:
                    await asyncio.sleep(_AGAIN_S)
                self._told.yes(_recipient(number))
        finally:
            connection.close()

    async def _ask(self, connection: HttpConnection, number: int) -> int:
        body = json.dumps({"to": _recipient(number), "subject": "Drill", "body": TEXT}).encode()
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"drill-{number}",
        }
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(_HANGS_UP_S):
                path = "/api/v1/transactionals"
                status, _ = await connection.request(self._url, "POST", path, headers, body)
        except (OSError, EOFError, TimeoutError):
            connection.close()
            status = 0
        self.asked.append(Asked(began_s, time.monotonic(), status))
        return status


def _recipient(number: int) -> str:
    return f"t{number}@example.net"


async def run(folder: Path, course: Course) -> Verdict:
    """Drive one course in an empty folder. Raises RuntimeError when `serve` does not start."""
    began_s, verdict, told = time.monotonic(), Verdict(course), Told()
    log = folder / "sink.log"
    post = Cluster(folder, SETTINGS, course.processes, {"max_connections": str(_CONNECTIONS)})
    try:
        with sink_process(log) as sink:
            await post.start()
            try:
                await _drive(post, course, verdict, told, log, sink.port)
            finally:
                verdict.exit_code = await post.stop()
    finally:
        post.close()
    verdict.deaths = deaths(post.log)
    verdict.took_s = time.monotonic() - began_s
    return verdict


async def _drive(post: Cluster, course: Course, verdict: Verdict, told: Told, log: Path, port: int) -> None:
    made = await post.ask("bootstrap", sender=SENDER)
    fields = {"label": "sink", "host": "127.0.0.1", "port": port, "security": "never", "auth": "plain"}
    await post.ask("connection.create", fields={**fields, "for_transactional": True}, secrets=LOGIN)
    clients = Clients(post.url, made["server_key"], told)
    asking = asyncio.create_task(clients.run())
    await asyncio.sleep(_BEFORE_S)
    before = len(told.accepted)
    async with _in_trouble(post, course):
        await asyncio.sleep(course.lasts_s)
        verdict.accepted_in_trouble = len(told.accepted) - before
    ended_s, ended_us = time.monotonic(), time.time_ns() // 1000
    await asyncio.sleep(_AFTER_S)
    clients.end()
    await asking
    verdict.answers = Counter(one.status for one in clients.asked)
    verdict.slowest_s = max(one.ended_s - one.began_s for one in clients.asked)
    verdict.well_s = max((one.ended_s - ended_s for one in clients.asked if one.status != 201), default=0.0)
    verdict.well_s = max(0.0, verdict.well_s)
    verdict.unsettled = await settled(post)
    verdict.books = books(post, told, log)
    after = [record.time_us for record in read_log(log) if record.time_us > ended_us]
    verdict.sent_again_s = (min(after) - ended_us) / 1e6 if after else float("inf")


@asynccontextmanager
async def _in_trouble(post: Cluster, course: Course) -> AsyncIterator[None]:
    """While the block runs, and it is over at its end."""
    server, off = post.server, _DO[course.trouble]
    if course.trouble is Trouble.FULL:
        async with _crowded(post):
            yield
        return
    begin, end = off
    await asyncio.to_thread(begin, server)
    try:
        yield
    finally:
        await asyncio.to_thread(end, server)


def _nothing(_: Any) -> None:
    """It is over by itself."""


def _read_only(value: str) -> Callable[[Any], None]:
    def set_it(server: Any) -> None:
        server.configure({"default_transaction_read_only": value})
        server.reload()

    return set_it


# Any: a PostgresServer.
_DO: Mapping[Trouble, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    Trouble.HANG: (lambda server: server.pause(), lambda server: server.resume()),
    Trouble.RESTART: (lambda server: server.restart(), _nothing),
    Trouble.GONE: (lambda server: server.kill(), lambda server: server.start()),
    Trouble.READ_ONLY: (_read_only("on"), _read_only("off")),
    Trouble.FULL: (_nothing, _nothing),
}


@asynccontextmanager
async def _crowded(post: Cluster) -> AsyncIterator[None]:
    """Somebody else takes every connection there is, and those of Postroom break again and again."""
    url = post.flags[1]
    async with AsyncExitStack() as stack:
        crowding = asyncio.create_task(_crowd(url, stack))
        try:
            yield
        finally:
            crowding.cancel()
            await asyncio.gather(crowding, return_exceptions=True)


async def _crowd(url: str, stack: AsyncExitStack) -> None:
    cut = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE backend_type = 'client backend' AND application_name <> '{_HERE}'"
    )
    first: Any = None  # asyncpg's connection (its types are not published)
    while True:
        try:
            made = await asyncpg.connect(url, server_settings={"application_name": _HERE})
            stack.push_async_callback(made.close)
            first = first or made
        except (asyncpg.PostgresError, OSError):  # all are taken
            await first.execute(cut)
            await asyncio.sleep(0.05)


def courses() -> Sequence[Course]:
    """Each trouble once."""
    return [
        Course(Trouble.HANG, 60.0),
        Course(Trouble.RESTART, 0.0),
        Course(Trouble.GONE, 20.0),
        Course(Trouble.READ_ONLY, 15.0),
        Course(Trouble.FULL, 15.0),
    ]
