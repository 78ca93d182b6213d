"""The kill drill: mail through `serve` to a sink, SIGKILLs at random moments, and the books at the end.

The moments are drawn from the seed, as places in the stream of mail. Every other kill comes in the instant
in which a client reads a yes, one in six while `serve` is starting again, before it answers. The sink takes
a moment for each reply, so that kills find transactions open. `drop_every` has the sink close every n-th
session after the dot instead of answering. `hourly_cap` gives the connection a cap smaller than the mail,
which no number of kills may widen. `beside` has an operator at work meanwhile (`drills.beside`), and at the
end one of the backups made is restored beside it (`drills.restored`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from drills import restored
from drills.beside import AT_WORK, ROTATING, Hand, Notes, Pace
from drills.cluster import Cluster, Target
from drills.feed import Feed, OverControlSocket, OverHttp, Told
from drills.judge import Counts, judge, judge_hand
from drills.post import Post
from drills.submission import OverSubmission
from postroom.core.message import Purpose
from postroom.ids import AttemptId
from tests.support.sink import read_log, sink_process

LEASE_S = 90.0
SETTLED_WITHIN_S = LEASE_S + 60.0
SENDER = "drill@example.com"
LOGIN = {"smtp_username": "drill", "smtp_password": "drill"}
SETTINGS = {"api_rate_per_minute": "0", "unknown_wait": "1s", "log_level": "info"}
SLOW_MS = 40.0  # of the sink beside an operator: what they do meets mail on its way
_LOOK_S = 0.002
_AHEAD = 400  # accepted and not yet at the sink: kills find mail coming in and going out


@dataclass(frozen=True)
class Course:
    """What is driven."""

    purpose: Purpose
    messages: int
    kills: int = 0
    drop_every: int = 0
    hourly_cap: int | None = None
    seed: int = 1
    reply_ms: float = 3.0
    workers: int = 16
    by_smtp: bool = False  # transactional mail is submitted by SMTP, not over HTTP
    beside: Pace | None = None  # an operator is at work meanwhile
    processes: int = 0  # of `serve`, on PostgreSQL; 0: SQLite
    targets: Sequence[Target] = (Target.CHILD, Target.ALL, Target.DATABASE)  # on PostgreSQL

    @property
    def name(self) -> str:
        way = " by SMTP" if self.by_smtp else ""
        parts = [f"{self.purpose.value}{way}", f"{self.messages} messages", f"{self.kills} kills"]
        if self.processes:
            parts.insert(0, f"PostgreSQL, {self.processes} processes")
        if self.drop_every:
            parts.append(f"every {self.drop_every}th dropped after its dot")
        if self.hourly_cap is not None:
            parts.append(f"cap {self.hourly_cap}/h")
        if self.beside is not None:
            parts.append("an operator beside" if self.beside.backup_s else "the key file rotated")
        return ", ".join([*parts, f"seed {self.seed}"])


@dataclass(frozen=True)
class Verdict:
    """How a course ended. `settled_s`: from the last yes or start until nothing was claimed or unknown."""

    course: Course
    counts: Counts
    kills: int
    most_open: int
    stranded: int
    claimed_by_the_dead: int
    exit_code: int
    settled_s: float
    took_s: float
    rotations: int = 0
    failed_logins: int = 0
    paused: int = 0
    hand: Sequence[str] = ()  # what is wrong with what was done beside
    done: Mapping[str, int] = field(default_factory=dict)  # how often what was done beside
    beside: str = ""

    def problems(self) -> list[str]:
        """What must not be; nothing when the drill is passed."""
        found = self.counts.problems()
        counts, cap = self.counts, self.course.hourly_cap
        for count, text in (
            (self.course.kills - self.kills, "kills too few: the mail was out before"),
            (self.stranded, f"not settled within {SETTLED_WITHIN_S:g} s"),
            (self.claimed_by_the_dead, "claimed by a dead worker after a start"),
            (self.exit_code, "is the exit code of the last stop"),
            (self.failed_logins, "times a connection could not be used"),
            (int(self.course.beside is not None and not self.rotations), "drill without a rotation"),
            (self.paused, "pauses at the end"),
        ):
            if count:
                found.append(f"{count} {text}")
        if cap is not None and not cap - counts.open <= counts.taken <= cap:
            found.append(f"{counts.taken} taken under a cap of {cap} with {counts.open} open transactions")
        if cap is None and counts.waiting:
            found.append(f"{counts.waiting} still waiting")
        return [*found, *self.hand]

    def line(self) -> str:
        one = self.counts
        beside = f"; cancelled {one.cancelled}; {self.beside}" if self.beside else ""
        return (
            f"{self.course.name}: accepted {one.accepted}, taken {one.taken}, lost {one.lost},"
            f" copies {one.copies}, unverified {one.unverified}, open {one.open} (at most {self.most_open}"
            f" at once), answers lost {one.lost_answers}, waiting {one.waiting},"
            f" settled after {self.settled_s:.1f} s, {self.took_s:.0f} s in all{beside}"
        )


@dataclass
class _Life:
    """What one course remembers of its kills."""

    kills: int = 0
    most_open: int = 0
    open: set[AttemptId] = field(default_factory=set)
    claimed_by_the_dead: int = 0


class _Tail:
    """How many lines a growing file has, and for how long it has not grown; and what needs no line."""

    def __init__(self, path: Path, cancelled: Set[str]) -> None:
        self._path, self._at, self.lines, self._cancelled = path, 0, 0, cancelled
        self._grew_s = time.monotonic()

    @property
    def through(self) -> int:
        """How much is off the queue: at the sink, or cancelled."""
        return self.lines + len(self._cancelled)

    @property
    def still_s(self) -> float:
        return time.monotonic() - self._grew_s

    def wake(self) -> None:
        """It may grow again from now on."""
        self._grew_s = time.monotonic()

    async def follow(self) -> None:
        while True:
            if self._path.exists():
                with self._path.open("rb") as file:
                    file.seek(self._at)
                    new = file.read()
                self._at += len(new)
                self.lines += new.count(b"\n")
                if new:
                    self._grew_s = time.monotonic()
            await asyncio.sleep(_LOOK_S)


async def run(folder: Path, course: Course) -> Verdict:
    """Drive one course in an empty folder. Raises RuntimeError when `serve` does not start or says no."""
    began_s = time.monotonic()
    log = folder / "sink.log"
    post = Cluster(folder, SETTINGS, course.processes) if course.processes else Post(folder, SETTINGS)
    try:
        return await _run(folder, log, post, course, began_s)
    finally:
        if isinstance(post, Cluster):
            post.close()


async def _run(folder: Path, log: Path, post: Post, course: Course, began_s: float) -> Verdict:
    told, life = Told(), _Life()
    hand = Hand(post, folder / "backups", told, course.beside or Pace(), course.seed)
    notes, tail = hand.notes, _Tail(log, hand.notes.cancelled)
    options = ["--delay-ms", str(course.reply_ms)]
    if course.drop_every:
        options += ["--drop-after-dot", str(course.drop_every)]
    with sink_process(log, *options) as sink:
        following = asyncio.create_task(tail.follow())
        await post.start()
        try:
            feed = await _prepare(post, told, course, sink.port)
            feeding = asyncio.create_task(
                feed.run(course.messages, course.workers, lambda n: _may_go(post, course, tail, n))
            )
            if isinstance(post, Cluster):
                killing = asyncio.create_task(_strike(post, course, tail, life, feeding))
            else:
                killing = asyncio.create_task(_kill(post, course, told, tail, life, feeding))
            beside = asyncio.create_task(hand.run())
            await asyncio.gather(feeding, killing)
            hand.end()
            await beside
            settled_s, stranded = await _until_settled(post, course)
            await hand.last()
            states = post.recipients()
        finally:
            following.cancel()
            exit_code = await post.stop()
        records = read_log(log)
        wrong = judge_hand(records, notes, states)
        if notes.kept is not None:
            wrong += await restored.problems_of(notes.kept, folder / "restored", SETTINGS, log)
    dropped = len(records) // course.drop_every if course.drop_every else 0
    return Verdict(
        course=course,
        counts=judge(records, told, states, len(life.open) + dropped, notes.asked),
        kills=life.kills,
        most_open=life.most_open,
        stranded=stranded,
        claimed_by_the_dead=life.claimed_by_the_dead,
        exit_code=exit_code,
        settled_s=settled_s,
        took_s=time.monotonic() - began_s,
        rotations=notes.done["key_file.rotate"],
        failed_logins=post.failed_connections(),
        paused=post.paused(),
        hand=wrong,
        done=dict(notes.done),
        beside=_beside(post, course, notes),
    )


def _beside(post: Post, course: Course, notes: Notes) -> str:
    """What happened besides the mail, in words."""
    if isinstance(post, Cluster):
        return ", ".join(f"{kind.value} killed {n} times" for kind, n in Counter(post.hits).items())
    return notes.line() if course.beside is not None else ""


async def _prepare(post: Post, told: Told, course: Course, port: int) -> Feed:
    made = await post.ask("bootstrap", sender=SENDER)
    fields: dict[str, object] = {
        "label": "sink",
        "host": "127.0.0.1",
        "port": port,
        "security": "never",
        "hourly_cap": course.hourly_cap,
        "auth": "plain",
        "for_broadcast": True,
        "for_transactional": True,
    }
    await post.ask("connection.create", fields=fields, secrets=LOGIN, server=made["server_id"])
    if course.by_smtp:
        return OverSubmission(post, told, made["server_key"], SENDER)
    if course.purpose is Purpose.TRANSACTIONAL:
        return OverHttp(post, told, made["server_key"])
    return OverControlSocket(post, told)


def _may_go(post: Post, course: Course, tail: _Tail, accepted: int) -> bool:
    """Not too far ahead of the sink; a sink that has long seen nothing does not stop the feed."""
    return (
        course.hourly_cap is not None
        or accepted - tail.through < _AHEAD
        or (post.up.is_set() and tail.still_s > 15.0)
    )


async def _kill(
    post: Post, course: Course, told: Told, tail: _Tail, life: _Life, feeding: asyncio.Task[None]
) -> None:
    chance = random.Random(course.seed)
    for number, place in enumerate(_places(course, chance)):
        if life.kills > number:  # one more came while it was starting
            continue
        while tail.through < place and not (feeding.done() and tail.still_s > 5.0):
            await asyncio.sleep(_LOOK_S)
        if chance.random() < 0.5 and not feeding.done():
            await _until_a_yes(post, told, chance.randrange(1, 20), feeding)
        else:
            await asyncio.sleep(chance.uniform(0.0, 0.03))
        await _one_kill(post, life)
        if life.kills < course.kills and chance.random() < 1 / 6:
            await post.spawn()
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            await _one_kill(post, life)
        await post.start()
        tail.wake()
        life.claimed_by_the_dead += post.claimed_by_the_dead()


def _places(course: Course, chance: random.Random) -> list[int]:
    reachable = course.messages if course.hourly_cap is None else course.hourly_cap
    return sorted(chance.randrange(1, max(2, int(reachable * 0.95))) for _ in range(course.kills))


async def _strike(
    post: Cluster, course: Course, tail: _Tail, life: _Life, feeding: asyncio.Task[None]
) -> None:
    """Kills of a part, while the rest goes on."""
    chance = random.Random(course.seed)
    for place in _places(course, chance):
        while tail.through < place and not (feeding.done() and tail.still_s > 5.0):
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(chance.uniform(0.0, 0.03))
        found = await post.strike(chance.choice(course.targets), chance)
        life.kills += 1
        life.most_open = max(life.most_open, len(found - life.open))
        life.open |= found
        tail.wake()


async def _until_a_yes(post: Post, told: Told, count: int, feeding: asyncio.Task[None]) -> None:
    """Shoot in the instant in which the `count`-th yes from now on is read, if so many come."""
    fired = asyncio.Event()

    def shoot() -> None:
        post.shoot()
        fired.set()

    told.fuse = (len(told.accepted) + count, shoot)
    waiting = asyncio.create_task(fired.wait())
    await asyncio.wait((waiting, feeding), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    told.fuse = None


async def _one_kill(post: Post, life: _Life) -> None:
    await post.kill()
    life.kills += 1
    found = post.open_at_kill()
    life.most_open = max(life.most_open, len(found - life.open))
    life.open |= found


async def _until_settled(post: Post, course: Course) -> tuple[float, int]:
    """How long it took until nothing was claimed or unknown (and nothing ready, or the cap reached), and
    what was left when time was over."""
    began_s = time.monotonic()
    while True:
        states = post.states()
        busy = states["claimed"] + states["unknown"]
        if states["ready"] and (course.hourly_cap is None or post.room_taken() < course.hourly_cap):
            busy += states["ready"]
        took_s = time.monotonic() - began_s
        if not busy or took_s > SETTLED_WITHIN_S:
            return took_s, busy
        await asyncio.sleep(0.1)


def courses(messages: int, kills: int, seed: int) -> Sequence[Course]:
    """The whole drill: for each purpose with kills, without, with dropped replies, under a cap, with the key
    file rotated, and with an operator beside; then with mail that is submitted by SMTP."""
    found: list[Course] = []
    for purpose in (Purpose.TRANSACTIONAL, Purpose.BROADCAST):
        few = max(100, messages // 5)
        found += [
            Course(purpose, messages, kills=kills, seed=seed),
            Course(purpose, few, seed=seed),
            Course(purpose, few, kills=kills // 5, drop_every=50, seed=seed),
            Course(purpose, few, kills=kills // 5, hourly_cap=few // 2, seed=seed),
            Course(purpose, few, kills=kills // 5, beside=ROTATING, seed=seed),
            Course(purpose, messages, kills=kills, beside=AT_WORK, seed=seed, reply_ms=SLOW_MS),
        ]
    found += [
        Course(Purpose.TRANSACTIONAL, messages, kills=kills, seed=seed, by_smtp=True),
        Course(Purpose.TRANSACTIONAL, max(100, messages // 5), seed=seed, by_smtp=True),
        Course(
            Purpose.TRANSACTIONAL,
            messages,
            kills=kills,
            beside=AT_WORK,
            seed=seed,
            reply_ms=SLOW_MS,
            by_smtp=True,
        ),
    ]
    for purpose in (Purpose.TRANSACTIONAL, Purpose.BROADCAST):
        found += [
            Course(purpose, messages, kills=kills, seed=seed, processes=4),
            Course(purpose, 2 * messages, kills=kills // 5, hourly_cap=messages, seed=seed, processes=4),
            Course(purpose, 2 * messages, seed=seed, processes=16),
        ]
    found.append(Course(Purpose.TRANSACTIONAL, messages, kills=kills, seed=seed, by_smtp=True, processes=4))
    return found
