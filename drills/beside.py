"""An operator at work beside a drill: the commands of a bad day, while mail flows and `serve` is killed.

The hand rotates the key file, backs up and looks each backup over, pauses and resumes, cancels messages,
resets windows and clears away; each in a loop of its own, half by the command line and half by the control
socket, as its own chance says. A kill may meet any of them: what was not answered is unknown, and is asked
again where it must come true in the end (a resume). What was answered is noted, for the judge.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drills.feed import Told
from drills.post import Post
from postroom.cli.exits import OK, UNAVAILABLE, USAGE
from postroom.control.client import NotListening
from postroom.errors import PostroomError, Unavailable
from postroom.folder import KEY_RING_NAME
from postroom.keyring import KeyRing, KeyState

AGAIN_S = 0.05
_MOST_AGAIN = 5  # backups that met a rotation, one after the other
_SCOPES: tuple[tuple[dict[str, object], tuple[str, ...]], ...] = (
    ({"everything": True}, ("queue", "{}", "--all")),
    ({"server": 1}, ("queue", "{}", "--server", "1")),
    ({"connection": 1}, ("queue", "{}", "--connection", "1")),
    ({"connection": 1}, ("connection", "{}", "1")),
)


@dataclass(frozen=True)
class Pace:
    """How often each thing is done, in seconds between two, each from half as long to half as long again;
    None: never.

    paused_s: how long a pause lasts, about. by_command: the share of what the control socket could do too
    that goes by the command line.
    """

    rotate_s: float | None = None
    backup_s: float | None = None
    pause_s: float | None = None
    paused_s: float = 0.2
    cancel_s: float | None = None
    reset_s: float | None = None
    tidy_s: float | None = None
    by_command: float = 0.0


ROTATING = Pace(rotate_s=0.5)
AT_WORK = Pace(
    rotate_s=1.0, backup_s=1.0, pause_s=0.4, cancel_s=0.02, reset_s=1.0, tidy_s=1.0, by_command=0.1
)


@dataclass(frozen=True)
class PausedFor:
    """From a pause's answer until its end was asked for, and how much was on its way at its start."""

    from_us: int
    until_us: int
    on_their_way: int


@dataclass(frozen=True)
class Backup:
    """A backup that was made, and what it must hold: whatever had been promised before."""

    target: Path
    key_file: Path | None  # None: it has its own
    accepted: frozenset[str]


@dataclass
class Notes:
    """What was done and answered. done: how often each thing; unclear: what a kill left without an answer.

    asked: recipients whose message was to be cancelled. cancelled, too_late: of those, as the answer said.
    """

    done: Counter[str] = field(default_factory=Counter)
    unclear: int = 0
    again: int = 0  # backups that met a rotation and had to be made again
    wrong: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    too_late: set[str] = field(default_factory=set)
    pauses: list[PausedFor] = field(default_factory=list)
    kept: Backup | None = None

    def line(self) -> str:
        """How often what was done."""
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))
        return f"{told}; {self.unclear} without an answer, {self.again} backups made again"


class Hand:
    """The operator of one post. `end` lets each loop finish what it is at; nothing is paused after it."""

    def __init__(self, post: Post, folder: Path, told: Told, pace: Pace, seed: int) -> None:
        """folder: for backups."""
        self.post, self.pace, self.notes = post, pace, Notes()
        self._folder, self._told = folder, told
        self._chance = random.Random(seed)
        self._ending = asyncio.Event()
        self._backups = 0

    async def run(self) -> None:
        """Until `end`."""
        self._folder.mkdir()
        pace = self.pace
        async with asyncio.TaskGroup() as group:
            for every_s, act in (
                (pace.rotate_s, self._rotate),
                (pace.backup_s, self._back_up),
                (pace.pause_s, self._pause),
                (pace.cancel_s, self._cancel),
                (pace.reset_s, self._reset_window),
                (pace.tidy_s, self._clear_away),
            ):
                if every_s is not None:
                    group.create_task(self._again_and_again(every_s, act))

    def end(self) -> None:
        """Nothing new is begun."""
        self._ending.set()

    async def last(self) -> None:
        """With `serve` up and no more kills: rotate to the end, and back up once more, key file and all."""
        if self.pace.rotate_s is not None:
            await self._rotate()
        if self.pace.backup_s is not None:
            last = await self._one_backup("last.tar", with_key_file=True)
            self.notes.kept = self.notes.kept or last
        ring = KeyRing.load(self.post.data / KEY_RING_NAME)
        left = [state for state in ring.states.values() if state not in (KeyState.ACTIVE, KeyState.RETIRED)]
        if left:
            self.notes.wrong.append(f"the key file ends with keys that are {', '.join(left)}")

    async def _again_and_again(self, every_s: float, act: Callable[[], Awaitable[None]]) -> None:
        while not self._ending.is_set():
            wait_s = every_s * self._chance.uniform(0.5, 1.5)
            try:
                async with asyncio.timeout(wait_s):
                    await self._ending.wait()
            except TimeoutError:
                await act()

    async def _do(self, operation: str, words: tuple[str, ...], **args: object) -> Any:  # Any: JSON values
        """The answer, or None where a kill left it unknown; what else goes wrong is noted, and None."""
        if self._chance.random() < self.pace.by_command:
            code, answer = await self.post.command(*words)
            if code == OK:
                self.notes.done[operation] += 1
                return answer
            if code != UNAVAILABLE:
                self.notes.wrong.append(f"{' '.join(words)} ended with {code}: {answer['error']['text']}")
            self.notes.unclear += code == UNAVAILABLE
            return None
        await self.post.up.wait()
        try:
            answer = await self.post.ask(operation, **args)
        except (NotListening, Unavailable):
            self.notes.unclear += 1
            return None
        except PostroomError as error:
            self.notes.wrong.append(f"{operation}: {type(error).__name__}: {error}")
            return None
        self.notes.done[operation] += 1
        return answer

    async def _rotate(self) -> None:
        """To its end, whatever kills it meets; then every session logs in anew."""
        while await self._do("key_file.rotate", ("key-file", "rotate")) is None and not self.notes.wrong:
            await asyncio.sleep(AGAIN_S)
        label = f"sink {self.notes.done['key_file.rotate']}"
        await self._do(
            "connection.update",
            ("connection", "update", "1", "--label", label),
            connection=1,
            fields={"label": label},
        )

    async def _pause(self) -> None:
        args, words = self._chance.choice(_SCOPES)
        done = await self._do("queue.pause", tuple(one.format("pause") for one in words), **args)
        paused_us = _now_us()
        await asyncio.sleep(self.pace.paused_s * self._chance.uniform(0.0, 2.0))
        if done is not None:
            self.notes.pauses.append(PausedFor(paused_us, _now_us(), done["on_their_way"]))
        resume = tuple(one.format("resume") for one in words)
        while await self._do("queue.resume", resume, **args) is None and not self.notes.wrong:
            await asyncio.sleep(AGAIN_S)

    async def _cancel(self) -> None:
        """A few at once of those that wait, are on their way, or are the newest."""
        state = self._chance.choice(("ready", "claimed", None))
        try:
            found = (await self.post.ask("message.list", state=state, limit=50))["data"]
        except (NotListening, Unavailable):
            return
        some = self._chance.sample(found, min(len(found), self._chance.randrange(1, 4)))
        await asyncio.gather(*(self._cancel_one(message) for message in some))

    async def _cancel_one(self, message: Any) -> None:  # Any: JSON values
        recipients = {one["delivery_id"]: one["recipient"] for one in message["deliveries"]}
        self.notes.asked |= set(recipients.values())
        number = str(message["message_id"])
        done = await self._do("message.cancel", ("message", "cancel", number), message=number)
        if done is not None:
            self.notes.cancelled |= {recipients[one] for one in done["cancelled"]}
            self.notes.too_late |= {recipients[one] for one in done["past_dot"]}

    async def _reset_window(self) -> None:
        words = ("connection", "reset-window", "1", "--yes")
        await self._do("connection.reset_window", words, connection=1)

    async def _clear_away(self) -> None:
        await self._do("housekeeping", ("housekeeping",))

    async def _back_up(self) -> None:
        self._backups += 1
        name = str(self._backups) + self._chance.choice(("", ".tar"))
        backup = await self._one_backup(name, with_key_file=self._chance.random() < 0.5)
        if backup is None:
            return
        # One of all of them is kept, each as likely as any other.
        gone: Backup | None = backup
        if self._chance.randrange(self._backups) == 0:
            gone, self.notes.kept = self.notes.kept, backup
        if gone is not None:
            _delete(gone.target)

    async def _one_backup(self, name: str, *, with_key_file: bool) -> Backup | None:
        """Make it and look it over; None where that did not come off, which is noted."""
        accepted = frozenset(self._told.accepted)
        target = self._folder / name
        key_files = [] if with_key_file else [self._copied_key_file(f"{name}.before")]
        flags = ("--with-key-file",) if with_key_file else ()
        for _ in range(_MOST_AGAIN):
            code, made = await self.post.command("backup", "create", str(target), *flags)
            if code != USAGE:
                break
            self.notes.again += 1  # a rotation came between database and key file
        if code != OK:
            self.notes.wrong.append(f"a backup ended with {code}: {made['error']['text']}")
            return None
        if made["messages"] < len(accepted):
            self.notes.wrong.append(f"{name} holds {made['messages']} of {len(accepted)} messages")
        if not with_key_file:
            key_files.insert(0, self._copied_key_file(f"{name}.after"))
        self.notes.done["backup"] += 1
        return await self._verified(Backup(target, None, accepted), key_files, list(made["keys"]))

    async def _verified(self, backup: Backup, key_files: list[Path], keys: list[str]) -> Backup | None:
        """With the key file that opens it: a rotation may have ended since, or begun.

        keys: that it was sealed with. One alone, in no copy, came and went between two of them.
        """
        seen: Any = None  # JSON values
        tried: list[Path | None] = [*key_files] or [None]
        for key_file in tried:
            given = () if key_file is None else ("--key-file", str(key_file))
            code, seen = await self.post.command("backup", "verify", str(backup.target), *given)
            if code == OK and seen["opened"]:
                return replace(backup, key_file=key_file)
        if len(keys) == 1 and key_files and not any(keys[0] in _opening(one) for one in key_files):
            self.notes.again += 1
            _delete(backup.target)
            return None
        self.notes.wrong.append(f"{backup.target.name} does not verify: {seen}")
        return None

    def _copied_key_file(self, name: str) -> Path:
        return Path(shutil.copy2(self.post.data / KEY_RING_NAME, self._folder / name))


def _now_us() -> int:
    return time.time_ns() // 1000


def _opening(key_file: Path) -> set[str]:
    """The keys of a key file that open."""
    return {
        key_id for key_id, state in KeyRing.load(key_file).states.items() if state is not KeyState.RETIRED
    }


def _delete(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
