"""What is to be told to the operator: the engine is looked at every second, queue and disk less often.

It decides nothing and changes nothing; `engine.notices` makes notices of what it finds. Where a value hovers
at its threshold the trouble ends at half of it (or a tenth above), so that it is told once.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from postroom.clock import MICROS, Clock, to_iso
from postroom.core.message import Purpose
from postroom.engine.dispatcher import Dispatcher
from postroom.engine.notices import NoticeKind, Notices, Trouble
from postroom.engine.runner import Runner
from postroom.engine.status import waits_for
from postroom.errors import PostroomError
from postroom.logs import logger
from postroom.storage import figures
from postroom.storage.figures import Oldest
from postroom.storage.interface import Store

log = logger("notices")
LINGERS_S = 300.0  # a cap that binds lets a few through every ten seconds, and binds again
_TOLERATED_STEP_S = 2.0
_HELD_EVERY_S = 600.0  # deliveries held: one notice for each server in this time
_QUICK = (NoticeKind.CONNECTION_FAILED, NoticeKind.CONNECTION_HELD, NoticeKind.CAP_BINDS)


@dataclass(frozen=True)
class WatchSettings:
    """Names and defaults of the first three are those of the settings `notice_…`."""

    queue_age_s: float = 300.0
    queue_age_bulk_s: float = 86_400.0
    disk_free_bytes: int = 1 << 30
    every_s: float = 1.0
    slow_every_s: float = 10.0  # queue and disk


class Watch:
    """Looks between `start` and `stop`."""

    def __init__(
        self,
        engine: Dispatcher,
        store: Store,
        notices: Notices,
        settings: WatchSettings,
        disk_free: Callable[[], int],
    ) -> None:
        """disk_free: bytes free for the data folder; may block. Raises OSError."""
        self._engine, self._store, self._notices = engine, store, notices
        self._settings, self._disk_free = settings, disk_free
        self._clock: Clock = engine.clock
        self._offset_s = self._clock_offset_s()
        self._step_s = 0.0
        self._slow_s: float | None = None
        self._held_told_s: dict[int, float] = {}
        self._led = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what was open, and begin. Raises Unavailable."""
        if self._task is None:
            await self._leads()
            self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """End."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except PostroomError as error:
                log.warning("a look for notices failed", error=str(error))
            except Exception:  # were it to end here, nobody would be told of anything any more
                log.exception("a look for notices failed unexpectedly")
            await asyncio.sleep(self._settings.every_s)

    async def look(self) -> None:
        """Look once. Raises Unavailable."""
        await self._tell_of_held()  # what this engine could not compose, no other one knows of
        if not await self._leads():
            return
        found = list(self._of_connections(await self._wanting_room()))
        await self._notices.observe(found, _QUICK)
        await self._look_at_clock()
        now_s = self._clock.steady_s()
        if self._slow_s is None or now_s - self._slow_s >= self._settings.slow_every_s:
            self._slow_s = now_s
            await self._look_at_disk()
            await self._look_at_queue()

    async def _leads(self) -> bool:
        """Whether to look for all: of several processes one does. Raises Unavailable."""
        if not self._engine.leads:
            self._notices.leave()
            self._led = False
        elif not self._led:
            await self._notices.load(LINGERS_S)  # of who led before
            self._led = True
        return self._led

    # --- connections -----------------------------------------------------------------------------------

    async def _wanting_room(self) -> list[Oldest]:
        """Whose mail is due, where any connection is out of room; the engine's memory of it may be old."""
        if not any(runner.blocked(transactional=False) for runner in self._engine.runners.values()):
            return []
        now_us = self._clock.now_us()
        return await self._store.read(lambda: figures.oldest(now_us))

    def _of_connections(self, wanting: Sequence[Oldest]) -> Iterator[Trouble]:
        now_us = self._clock.now_us()
        for runner in self._engine.runners.values():
            route = runner.route
            if route.deleted or not route.enabled:
                continue
            who, about = (
                f"connection {route.connection_id} ({route.label})",
                f"connection {route.connection_id}",
            )
            if route.failed_at is not None:
                text = f"{who} failed: {route.failed_reason or 'no reason is known'}"
                yield Trouble(NoticeKind.CONNECTION_FAILED, about, text, route.account_id)
            if route.held_until is not None and route.held_until > now_us:
                text = f"{who} rests until {to_iso(route.held_until)} after ten equal refusals"
                yield Trouble(NoticeKind.CONNECTION_HELD, about, text, route.account_id)
            if any(_is_kept_out(runner, one) for one in wanting):
                yield self._of_cap(runner, who, about)

    def _of_cap(self, runner: Runner, who: str, about: str) -> Trouble:
        route = runner.route
        window, limit = ("day", route.daily_cap) if runner.room.day_full else ("hour", route.hourly_cap)
        per = "a day" if window == "day" else "an hour"
        everything = runner.blocked(transactional=True)
        until_us = runner.room.all_until if everything else runner.room.bulk_until
        what = "mail" if everything else "broadcast and sequence mail"
        return Trouble(
            NoticeKind.CAP_BINDS,
            f"{about} {window}",
            f"{who} has no room for {what} under its cap of {limit} {per}; more comes {to_iso(until_us)}",
            route.account_id,
            {"window": window, "cap": limit, "until": to_iso(until_us)},
            LINGERS_S,
        )

    # --- clock, held deliveries ------------------------------------------------------------------------

    def _clock_offset_s(self) -> float:
        return self._clock.now_us() / MICROS - self._clock.steady_s()

    async def _look_at_clock(self) -> None:
        offset_s = self._clock_offset_s()
        step_s, self._offset_s = offset_s - self._offset_s, offset_s
        pause_s = self._engine.grants_pause_s
        if abs(step_s) > _TOLERATED_STEP_S:
            self._step_s = step_s
            if step_s < 0 or pause_s <= 0:
                await self._notices.once(self._stepped(step_s, 0.0))
        found = [self._stepped(self._step_s, pause_s)] if pause_s > 0 and self._step_s > 0 else []
        await self._notices.observe(found, (NoticeKind.CLOCK_STEPPED,))

    @staticmethod
    def _stepped(step_s: float, pause_s: float) -> Trouble:
        text = f"the clock was set {'forward' if step_s > 0 else 'back'} by {abs(step_s):.0f} s"
        if pause_s > 0:
            text += f"; nothing goes out under caps for {pause_s:.0f} s"
        return Trouble(NoticeKind.CLOCK_STEPPED, "clock", text, data={"step_s": round(step_s, 1)})

    async def _tell_of_held(self) -> None:
        now_s = self._clock.steady_s()
        while self._engine.news_of_held:
            held = self._engine.news_of_held.popleft()
            last_s = self._held_told_s.get(held.server_id)
            if last_s is not None and now_s - last_s < _HELD_EVERY_S:
                continue
            self._held_told_s[held.server_id] = now_s
            which = f"delivery {held.delivery_id} of message {held.message_id}"
            text = f"{which} is held for a person: {held.reason}"
            data = {"message": held.message_id, "delivery": held.delivery_id}
            await self._notices.once(
                Trouble(NoticeKind.DELIVERY_HELD, f"server {held.server_id}", text, held.account_id, data)
            )

    # --- queue and disk --------------------------------------------------------------------------------

    async def _look_at_queue(self) -> None:
        now_us, settings = self._clock.now_us(), self._settings
        least_s = min(settings.queue_age_s, settings.queue_age_bulk_s) / 2
        late = await self._store.read(lambda: figures.oldest(now_us - int(least_s * MICROS)))
        ages: dict[str, tuple[Oldest, float]] = {}
        for one in late:
            kind = "transactional" if one.purpose is Purpose.TRANSACTIONAL else "bulk"
            about, age_s = f"server {one.server_id} {kind}", (now_us - one.due_us) / MICROS
            if about not in ages or ages[about][1] < age_s:
                ages[about] = one, age_s
        found = []
        for about, (one, age_s) in ages.items():
            bulk = one.purpose is not Purpose.TRANSACTIONAL
            limit_s = settings.queue_age_bulk_s if bulk else settings.queue_age_s
            if age_s > (limit_s / 2 if self._notices.is_open(NoticeKind.QUEUE_AGES, about) else limit_s):
                found.append(self._aged(one, about, age_s))
        await self._notices.observe(found, (NoticeKind.QUEUE_AGES,))

    def _aged(self, one: Oldest, about: str, age_s: float) -> Trouble:
        now_us = self._clock.now_us()
        reasons = {
            reason
            for lane in self._engine.lanes.values()
            if (lane.lane.server_id, lane.lane.purpose) == (one.server_id, one.purpose)
            for reason in waits_for(lane, now_us)
        }
        text = f"{one.purpose} mail of server {one.server_id} has waited for {_spelt(age_s)}"
        if reasons:
            text += f": {', '.join(sorted(reasons))}"
        data = {"age_s": round(age_s), "reasons": sorted(reasons)}
        return Trouble(NoticeKind.QUEUE_AGES, about, text, one.account_id, data)

    async def _look_at_disk(self) -> None:
        least = self._settings.disk_free_bytes
        try:
            free = await asyncio.to_thread(self._disk_free)
        except OSError as error:
            log.warning("the disk cannot be asked for its room", error=str(error))
            return
        enough = least * 1.1 if self._notices.is_open(NoticeKind.DISK_LOW, "disk") else least
        found = []
        if free < enough:
            text = (
                f"{free / (1 << 20):,.0f} MB are free for the data folder; below {least / (1 << 20):,.0f} MB"
            )
            found.append(Trouble(NoticeKind.DISK_LOW, "disk", text, data={"free_bytes": free}))
        await self._notices.observe(found, (NoticeKind.DISK_LOW,))


def _is_kept_out(runner: Runner, mail: Oldest) -> bool:
    """Whether this mail would go through this connection if its cap had room."""
    route = runner.route
    return (
        route.account_id == mail.account_id
        and route.server_id in (None, mail.server_id)
        and mail.purpose in route.purposes
        and runner.blocked(transactional=mail.purpose is Purpose.TRANSACTIONAL)
    )


def _spelt(seconds: float) -> str:
    """A duration in one unit people read at once."""
    for unit, length in (("days", 172_800), ("hours", 7200), ("minutes", 120)):
        if seconds >= length:
            return f"{seconds / (length / 2):.0f} {unit}"
    return f"{seconds:.0f} seconds"


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder. Raises OSError."""
    return shutil.disk_usage(folder).free
