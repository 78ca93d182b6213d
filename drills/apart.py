"""The drill of two machines: two network namespaces with one database, one of which is cut off and healed.

Both take mail over HTTP and send it. The bridge between them and the database, the sink and the clients is
this machine's; a cut takes the one's link down, so nothing arrives and nobody is told. Each has a data folder
of its own, so what the one that is cut off had claimed is unknown to the other, and is known again when it is
back. It may have been at a final dot: each such transaction may cost a copy, and no other.

It needs root and `ip` (iproute2), and a kernel with network namespaces and bridges.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.books import NOTHING, Books, Mail, books, settled
from drills.cluster import Cluster
from drills.feed import OverControlSocket, OverHttp, Told
from drills.kills import SENDER
from drills.post import Post
from postroom.core.message import Purpose
from postroom.engine.journal import replay
from postroom.ids import AttemptId, WorkerId
from tests.support.sink import sink_process

LEASE_S = 8.0
LEASES = 3
SETTINGS = {
    "api_rate_per_minute": "0",
    "unknown_wait": "1s",
    "log_level": "info",
    "lease": f"{LEASE_S:g}s",
    "lease_renew": "1s",
    "lease_margin": "1.5s",
}
REPLY_MS = 40.0  # a cut meets some between dot and reply
_BATCH = 40


class Missing(Exception):
    """What this machine lacks for it."""


@dataclass(frozen=True)
class Course:
    """What is driven: so many cuts of one machine, one after the other."""

    purpose: Purpose
    cuts: int = 3
    seed: int = 1

    @property
    def name(self) -> str:
        return f"two machines, {self.purpose.value}, {self.cuts} cuts of one, seed {self.seed}"


@dataclass
class Verdict:
    """Of one course. open: transactions past their dot of which the database did not hear."""

    course: Course
    books: Books = NOTHING
    open: int = 0
    unsettled: int = 0
    away: int = 0
    sent_meanwhile: int = 0
    exit_codes: tuple[int, ...] = ()
    took_s: float = 0.0

    def problems(self) -> list[str]:
        """What must not be."""
        found = []
        for count, text in (
            (self.books.lost, "accepted and lost"),
            (self.unsettled, "not settled in the end"),
            (max(0, self.course.cuts - self.away), "cuts after which its lease was not over"),
            (sum(map(bool, self.exit_codes)), "processes ended badly"),
            (int(not self.sent_meanwhile), "drill in which the other machine sent nothing meanwhile"),
        ):
            if count:
                found.append(f"{count} {text}")
        if self.books.copies + self.books.unverified > self.open:
            text = f"{self.books.copies} copies + {self.books.unverified} unverified"
            found.append(f"{text} > {self.open} open transactions")
        return found

    def line(self) -> str:
        """All numbers."""
        one = self.books
        return (
            f"{self.course.name}: accepted {one.accepted}, lost {one.lost}, copies {one.copies},"
            f" unverified {one.unverified}, open {self.open}, leases that ended {self.away},"
            f" sent by the other meanwhile {self.sent_meanwhile}, {self.took_s:.0f} s in all"
        )


class Network:
    """A bridge with an address of this machine, and namespaces joined to it."""

    def __init__(self) -> None:
        number = secrets.randbelow(1 << 16)
        self.name = f"pr{os.getpid() % 100_000}"
        self._net = f"198.{18 + (number >> 15)}.{number & 255}"  # 198.18.0.0/15: for tests (RFC 2544)
        self.address = f"{self._net}.1"

    def within(self, host: str) -> tuple[str, ...]:
        """What a command on this host begins with."""
        return ("ip", "netns", "exec", f"{self.name}-{host}")

    def address_of(self, number: int) -> str:
        """Of the n-th host."""
        return f"{self._net}.{number + 1}"

    def add(self, host: str, number: int) -> None:
        """One more host."""
        space, here, there = f"{self.name}-{host}", f"{self.name}{host}", f"{self.name}{host}p"
        _ip("netns", "add", space)
        _ip("link", "add", here, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", space)
        _ip("link", "set", here, "master", self.name, "up")
        _ip("-n", space, "addr", "add", f"{self.address_of(number)}/24", "dev", there)
        _ip("-n", space, "link", "set", there, "up")
        _ip("-n", space, "link", "set", "lo", "up")

    def cut(self, host: str) -> None:
        """Nothing comes from there or gets there."""
        _ip("link", "set", f"{self.name}{host}", "down")

    def heal(self, host: str) -> None:
        """As before."""
        _ip("link", "set", f"{self.name}{host}", "up")


@contextmanager
def network(*hosts: str) -> Iterator[Network]:
    """One that is gone afterwards. Raises Missing."""
    if os.geteuid() != 0:
        raise Missing("it needs root, for network namespaces")
    if shutil.which("ip") is None:
        raise Missing("it needs ip, of the package iproute2")
    made = Network()
    with ExitStack() as stack:
        try:
            _ip("link", "add", made.name, "type", "bridge")
            stack.callback(_ip, "link", "del", made.name)
            _ip("addr", "add", f"{made.address}/24", "dev", made.name)
            _ip("link", "set", made.name, "up")
            for number, host in enumerate(hosts, 1):
                stack.callback(_forget, made, host)
                made.add(host, number)
        except subprocess.CalledProcessError as error:
            raise Missing(f"this kernel gives no such network: {error.stderr.strip()}") from error
        yield made


def _forget(made: Network, host: str) -> None:
    subprocess.run(["ip", "netns", "del", f"{made.name}-{host}"], check=False, capture_output=True)
    subprocess.run(["ip", "link", "del", f"{made.name}{host}"], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


async def run(folder: Path, course: Course) -> Verdict:
    """Drive one course in an empty folder. Raises Missing, and RuntimeError when `serve` does not start."""
    began_s, verdict, log = time.monotonic(), Verdict(course), folder / "sink.log"
    with ExitStack() as stack:
        net = stack.enter_context(network("a", "b"))
        here = Cluster(folder / "a", SETTINGS, 1, listen=net.address)
        stack.callback(here.close)
        other = Post(folder / "b", SETTINGS)
        for number, (post, host) in enumerate(((here, "a"), (other, "b")), 1):
            (folder / host).mkdir()
            post.within = net.within(host)
            post.addresses = ("--http", f"{net.address_of(number)}:0")
        other.flags = here.flags
        options = ("--host", net.address, "--delay-ms", str(REPLY_MS))
        sink = stack.enter_context(sink_process(log, *options))
        await here.start()
        try:
            other.instance = here.instance
            other.data.mkdir(mode=0o700)
            shutil.copy(here.data / "keys.ring", other.data)
            await other.start()
            try:
                await _Drive(net, here, other, log, verdict).run(sink.port)
            finally:
                net.heal("b")
                verdict.exit_codes = (await other.stop(),)
        finally:
            verdict.exit_codes += (await here.stop(),)
    verdict.took_s = time.monotonic() - began_s
    return verdict


class _Drive:
    """One cut after the other, each settled before the next."""

    def __init__(self, net: Network, here: Cluster, other: Post, log: Path, verdict: Verdict) -> None:
        self._net, self._here, self._other, self._log, self._verdict = net, here, other, log, verdict
        self._told = Told()
        self._chance = random.Random(verdict.course.seed)
        self._open: set[AttemptId] = set()

    async def run(self, port: int) -> None:
        course = self._verdict.course
        made = await self._here.ask("bootstrap", sender=SENDER)
        fields = {
            "label": "sink",
            "host": self._net.address,
            "port": port,
            "security": "never",
            "for_broadcast": True,
            "for_transactional": True,
        }
        await self._here.ask("connection.create", fields=fields, server=made["server_id"])
        # One of a kind: a message whose yes was lost is another one by the control socket.
        if course.purpose is Purpose.TRANSACTIONAL:
            key = made["server_key"]
            mails = [
                Mail(OverHttp(self._here, self._told, key)),
                Mail(OverHttp(self._other, self._told, key)),
            ]
            mails[1].begin_at(1_000_000)
        else:
            mails = [Mail(OverControlSocket(self._here, self._told))]
        for _ in range(course.cuts):
            await asyncio.gather(*(mail.send(_BATCH) for mail in mails))
            await self._one(mails)
            self._verdict.unsettled += await settled(self._here)
        self._verdict.books = books(self._here, self._told, self._log)
        self._verdict.open = len(self._open)
        self._verdict.away = self._other.log.read_text().count("this process begins anew")

    async def _one(self, mails: Sequence[Mail]) -> None:
        """Cut it off in the midst of mail, let the other go on, and heal it."""
        flowing = [asyncio.create_task(mail.send(_BATCH)) for mail in mails]
        await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        while not (_Dots.of(self._other).unanswered or all(one.done() for one in flowing)):
            await asyncio.sleep(0.005)
        self._net.cut("b")
        try:
            before = self._log.read_bytes().count(b"\n")
            until_s = time.monotonic() + LEASES * LEASE_S * self._chance.uniform(1.0, 1.2)
            while time.monotonic() < until_s:
                await mails[0].send(3)
                await asyncio.sleep(0.3)
            self._verdict.sent_meanwhile += self._log.read_bytes().count(b"\n") - before
            self._open |= self._untold()
        finally:
            self._net.heal("b")
        await asyncio.gather(*flowing)
        await mails[-1].send(1)  # it takes mail again
        until_s = time.monotonic() + _TELLS_S
        while self._unknown() - self._open and time.monotonic() < until_s:
            await asyncio.sleep(0.1)  # what it had claimed and not begun it gives back, once it is heard

    def _untold(self) -> set[AttemptId]:
        """What it had sent, or may have, and could not tell the database any more."""
        return _Dots.of(self._other).all & self._unknown()

    def _unknown(self) -> set[AttemptId]:
        """Attempts of which the database does not know how they ended."""
        return {row[0] for row in self._here.rows(_UNTOLD)}


_TELLS_S = 30.0  # for the one that comes back
_UNTOLD = "SELECT attempt_id FROM attempts WHERE result IS NULL OR (result = 'unknown' AND fault = 'ours')"


@dataclass(frozen=True)
class _Dots:
    """Attempts with a final dot, and those of them whose reply was not read, by the journals of a process."""

    all: set[AttemptId]
    unanswered: set[AttemptId]

    @classmethod
    def of(cls, post: Post) -> _Dots:
        """As they are now; its present records may be torn, which counts as absent."""
        found, unanswered = set[AttemptId](), set[AttemptId]()
        with tempfile.TemporaryDirectory(prefix="drill-") as place:
            for path in post.journals.glob("*.journal"):  # copied, since its owner has it locked
                shutil.copy(path, place)
            lives = {tuple(map(int, path.stem.split("-")[:2])) for path in Path(place).iterdir()}
            for worker, epoch in lives:
                told = replay(Path(place), post.instance, WorkerId(worker), epoch)
                found |= told.dots
                unanswered |= told.dots - told.outcomes.keys()
        return cls(found, unanswered)


def courses(cuts: int, seed: int) -> Sequence[Course]:
    """For each purpose."""
    return [Course(purpose, cuts, seed) for purpose in (Purpose.TRANSACTIONAL, Purpose.BROADCAST)]
