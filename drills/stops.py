"""The drill of stops: a deliver process hangs for three leases at a chosen point of a delivery, and wakes.

One `serve` of two processes takes mail and sends; another one sends only, and is stopped (`drills.stopping`).
What it had claimed is taken from it and sent by the others; when it goes on it must send nothing of it. After
its last look at the lease nothing can hold it back, so there, and past the dot, each stop may cost one copy.
`apart`: it has a data folder of its own, as on another machine, so nobody can read its journal meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drills.books import NOTHING, SETTLED_WITHIN_S, Books, Mail, books, settled
from drills.cluster import Cluster
from drills.feed import OverControlSocket, OverHttp, Told
from drills.kills import LOGIN, SENDER
from drills.post import Post
from drills.stopping import SWITCH, Place
from postroom.core.message import Purpose
from tests.support.sink import sink_process

LEASE_S = 3.0
LEASES = 3
SETTINGS = {
    "api_rate_per_minute": "0",
    "unknown_wait": "0.5s",
    "log_level": "info",
    "sessions_per_connection": "6",
    "lease": f"{LEASE_S:g}s",
    "lease_renew": "0.5s",
    "lease_margin": "0.5s",
}
TEXT = "A body of several blocks, so that there is a middle.\n" * 3000
REPLY_MS = 15.0
_BATCH = 30
_REACHED_S = 60.0


@dataclass(frozen=True)
class Course:
    """What is driven: `rounds` stops at each place."""

    purpose: Purpose
    apart: bool
    rounds: int = 1
    seed: int = 1

    @property
    def name(self) -> str:
        where = "another machine" if self.apart else "the same machine"
        return f"stops, {self.purpose.value}, {where}, {self.rounds} at each place, seed {self.seed}"


@dataclass
class Verdict:
    """Of one course. copies: by place. awake: stops after which it took part again."""

    course: Course
    books: Books = NOTHING
    unsettled: int = 0
    exit_codes: tuple[int, ...] = ()
    copies: Counter[Place] = field(default_factory=Counter)
    taken_for_dead: int = 0
    took_s: float = 0.0

    @property
    def stops(self) -> int:
        """How many there were to be."""
        return self.course.rounds * len(Place)

    def problems(self) -> list[str]:
        """What must not be."""
        found = []
        for count, text in (
            (self.books.lost, "accepted and lost"),
            (self.unsettled, f"not settled within {SETTLED_WITHIN_S:g} s"),
            (sum(map(bool, self.exit_codes)), "processes ended badly"),
            (self.stops - self.taken_for_dead, "stops after which it was not taken for dead"),
        ):
            if count:
                found.append(f"{count} {text}")
        for place in Place:
            most = self.course.rounds * place.leaves_open
            if self.copies[place] > most:
                found.append(f"{self.copies[place]} copies of stops {place}, where {most} may be")
        allowed = self.course.rounds * sum(place.leaves_open for place in Place)
        if self.books.unverified > allowed:
            found.append(f"{self.books.unverified} unverified")
        return found

    def line(self) -> str:
        """All numbers."""
        each = ", ".join(f"{place} {self.copies[place]}" for place in Place)
        return (
            f"{self.course.name}: accepted {self.books.accepted}, lost {self.books.lost},"
            f" unverified {self.books.unverified},"
            f" taken for dead {self.taken_for_dead} of {self.stops} times;"
            f" copies of stops {each}; {self.took_s:.0f} s in all"
        )


class Stopped(Post):
    """A `serve` that only sends and stops itself where it is told."""

    def __init__(self, folder: Path, beside: Cluster, *, apart: bool) -> None:
        self.switch = folder / "stop"
        super().__init__(folder, SETTINGS)
        self._environment[SWITCH] = str(self.switch)
        if apart:
            self.data.mkdir(mode=0o700)
            shutil.copy(beside.data / "keys.ring", self.data)
        else:
            self.data = beside.data
        self.log = folder / "stopped.log"
        self.program = ("-m", "drills.stopping")
        self.addresses = ()
        self.flags = (*beside.flags[:2], "--role", "deliver")
        self.instance = beside.instance

    @property
    def is_stopped(self) -> bool:
        """Whether it hangs now."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def deaths(self) -> int:
        """How often it was taken for dead, or found its lease over, by its own log."""
        return self.log.read_text().count("this process begins anew")

    def ends(self) -> int:
        """How often it had told the database all that became of what it had in its former life."""
        return self.log.read_text().count("a former worker has ended")


async def run(folder: Path, course: Course) -> Verdict:
    """Drive one course in an empty folder. Raises RuntimeError when `serve` does not start or says no."""
    began_s = time.monotonic()
    post = Cluster(folder, SETTINGS, 2)
    verdict = Verdict(course)
    try:
        log = folder / "sink.log"
        with sink_process(log, "--delay-ms", str(REPLY_MS)) as sink:
            await post.start()
            try:
                (folder / "stopped").mkdir()
                stopped = Stopped(folder / "stopped", post, apart=course.apart)
                await stopped.start()
                try:
                    await _Drive(post, stopped, log, verdict).run(sink.port)
                finally:
                    os.kill(stopped.pid, signal.SIGCONT)
                    verdict.exit_codes = (await stopped.stop(),)
            finally:
                verdict.exit_codes += (await post.stop(),)
    finally:
        post.close()
    verdict.taken_for_dead = stopped.deaths()
    verdict.took_s = time.monotonic() - began_s
    return verdict


class _Drive:
    """One stop after the other, each settled before the next."""

    def __init__(self, post: Cluster, stopped: Stopped, log: Path, verdict: Verdict) -> None:
        self._post, self._stopped, self._log, self._verdict = post, stopped, log, verdict
        self._told = Told()
        self._chance = random.Random(verdict.course.seed)

    async def run(self, port: int) -> None:
        course = self._verdict.course
        made = await self._post.ask("bootstrap", sender=SENDER)
        fields = {
            "label": "sink",
            "host": "127.0.0.1",
            "port": port,
            "security": "never",
            "auth": "plain",
            "for_broadcast": True,
            "for_transactional": True,
        }
        await self._post.ask("connection.create", fields=fields, secrets=LOGIN, server=made["server_id"])
        if course.purpose is Purpose.TRANSACTIONAL:
            self._mail = Mail(OverHttp(self._post, self._told, made["server_key"], TEXT))
        else:
            self._mail = Mail(OverControlSocket(self._post, self._told, TEXT))
        places = [place for place in Place for _ in range(course.rounds)]
        self._chance.shuffle(places)
        copied = 0
        for place in places:
            await self._one(place)
            self._verdict.unsettled += await settled(self._post)
            self._verdict.books = books(self._post, self._told, self._log)
            self._verdict.copies[place] += self._verdict.books.copies - copied
            copied = self._verdict.books.copies

    async def _one(self, place: Place) -> None:
        """Stop it there, let mail go on for three leases, and wake it."""
        await self._mail.send(self._chance.randrange(_BATCH))  # so that it stops at another one each time
        self._stopped.switch.with_suffix(".new").write_text(place)
        self._stopped.switch.with_suffix(".new").rename(self._stopped.switch)
        async with asyncio.timeout(_REACHED_S):
            while not self._stopped.is_stopped:
                await self._mail.send(_BATCH)
        until_s = time.monotonic() + LEASES * LEASE_S * self._chance.uniform(1.0, 1.2)
        while time.monotonic() < until_s:
            await self._mail.send(3)
            await asyncio.sleep(0.3)
        deaths = self._stopped.deaths()
        os.kill(self._stopped.pid, signal.SIGCONT)
        async with asyncio.timeout(_REACHED_S):
            while self._stopped.deaths() == deaths or self._stopped.ends() <= deaths:
                await asyncio.sleep(0.05)


def courses(rounds: int, seed: int) -> Sequence[Course]:
    """For each purpose, on one machine and on two."""
    return [
        Course(purpose, apart, rounds, seed)
        for purpose in (Purpose.TRANSACTIONAL, Purpose.BROADCAST)
        for apart in (False, True)
    ]
