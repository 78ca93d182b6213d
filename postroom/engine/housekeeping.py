"""Housekeeping: what is past its time goes, in slices, so that no transaction is long.

Kept for a while: contents of messages and deleted templates (`keep_content`), attempts, events, bounces,
routing decisions and notices that are over (`keep_events`), idempotency rows (`idempotency_keep`), counters
of old hours and days, senders that a connection refused. Kept for ever: messages, deliveries, suppressions,
keys, the audit log.

Nothing that belongs to a delivery which is not final is touched, however old: what waits, is held or was
captured can still be sent, so its content stays, and what happened to it can still be explained. Of a server
that was deleted everything goes (`storage.purge`), and of a stream that was archived for 45 days
(`storage.stream_purge`).

What is past its time is decided in `engine.retention`, and for whole days, where PostgreSQL keeps them apart,
in `engine.retention_days`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from postroom.actions.streams import UNARCHIVABLE_US
from postroom.clock import MICROS, Clock, to_iso
from postroom.core.actor import HOUSEKEEPING, Actor
from postroom.core.identity import EVERYBODY
from postroom.engine import retention, retention_days
from postroom.engine.caps import DAY_US, HOUR_US
from postroom.engine.retention import SLICE, Past, Plain, Window
from postroom.engine.turn import Turn
from postroom.errors import PostroomError, Unavailable
from postroom.logs import logger
from postroom.storage import audit, clock_steps, days, purge, stream_purge
from postroom.storage.interface import Store, Work, now

KEEP_COUNTERS_DAYS = 8  # the caps look back seven

# A claim names the decision it was made by, which may have been replaced while the claim was queued.
_DECISION_MARGIN_US = HOUR_US

_SERVERS_AT_ONCE = 100
_STREAMS_AT_ONCE = 100

log = logger("housekeeping")


@dataclass(frozen=True)
class HousekeepingSettings:
    """Seconds. Names and defaults of the first three are those of the settings of the same names."""

    keep_content_s: float = 30 * 86_400.0
    keep_events_s: float = 90 * 86_400.0
    idempotency_keep_s: float = 86_400.0
    every_s: float = 3600.0
    pause_s: float = 0.02  # after each slice, so that the mail's own writes come first


# What somebody might look for and not find any more; the audit trail tells of it.
_TOLD = (
    "templates",
    "bulks",
    "contents",
    "events",
    "bounces",
    "attempts",
    "decisions",
    "deleted_servers",
    "archived_streams",
)
KINDS = ("idempotency", "refused_senders", "lacks", "cap_hours", "cap_days", "notices", *_TOLD)


@dataclass(frozen=True)
class Cleared:
    """What a run removed of each kind, or of a dry run would have."""

    kinds: Mapping[str, Past] = field(default_factory=lambda: dict.fromkeys(KINDS, Past()))

    def counts(self) -> dict[str, int]:
        """How many rows of each kind, where there were any."""
        return {name: past.rows for name, past in self.kinds.items() if past.rows}

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            name: {"rows": past.rows, "size_bytes": past.size_bytes, "oldest_at": to_iso(past.oldest_us)}
            for name, past in self.kinds.items()
        }

    def told(self) -> dict[str, int]:
        """What the audit trail tells of it."""
        return {name: count for name, count in self.counts().items() if name in _TOLD}


def _line(cleared: Cleared, actor: Actor) -> Work[None]:
    at_us = yield from now()
    yield from audit.add(EVERYBODY, at_us, actor, "retention.clear", "everything", cleared.told())


class Housekeeping:
    """Clears away now and then, between `start` and `stop`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: HousekeepingSettings | None = None,
        *,
        by_day: bool = False,
        turn: Turn | None = None,
    ) -> None:
        """by_day: contents, attempts and events lie in partitions, which are made here too. turn: which
        process it is that does it, where several could."""
        self._store, self._clock, self._by_day, self._turn = store, clock, by_day, turn
        self._settings = settings or HousekeepingSettings()
        self._task: asyncio.Task[None] | None = None
        self._running = asyncio.Lock()
        self.runs = 0
        self.failures = 0

    def start(self) -> None:
        """Begin, with a first run at once, or once it is our turn. Needs a running loop."""
        if self._task is None:
            if self._turn is not None:
                self._turn.start()
            self._task = asyncio.create_task(self._keep_house())

    async def stop(self) -> None:
        """End between two slices; a slice that is being written is written."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._turn is not None:
            await self._turn.stop()

    async def run_once(self, *, dry: bool = False, actor: Actor = HOUSEKEEPING) -> Cleared:
        """Remove all that is past its time now. Raises Unavailable; what was done until then stays done.

        dry: only say what that is. A run that is under way is waited for. actor: who asked for it.
        """
        async with self._running:
            cleared = Cleared({name: past async for name, past in self._kinds(dry)})
        if cleared.told() and not dry:
            await self._store.write(lambda: _line(cleared, actor))
        self.runs += not dry
        return cleared

    async def _kinds(self, dry: bool) -> AsyncIterator[tuple[str, Past]]:
        settings, now_us = self._settings, self._clock.now_us()
        steps = await self._store.read(clock_steps.forward_steps)
        oldest_request_us = clock_steps.reach_back(steps, now_us - int(settings.idempotency_keep_s * MICROS))
        content_us = now_us - int(settings.keep_content_s * MICROS)
        event_us = now_us - int(settings.keep_events_s * MICROS)
        day = now_us // DAY_US - KEEP_COUNTERS_DAYS
        hour = now_us // HOUR_US - KEEP_COUNTERS_DAYS * 24
        plain = (
            ("idempotency", retention.IDEMPOTENCY, oldest_request_us),
            ("refused_senders", retention.REFUSED_SENDERS, now_us),
            ("lacks", retention.LACKS, now_us),
            ("cap_hours", retention.CAP_HOURS, hour),
            ("cap_days", retention.CAP_DAYS, day),
            ("notices", retention.NOTICES, event_us),
            ("templates", retention.TEMPLATES, content_us),
            ("bulks", retention.BULKS, event_us),
        )
        for name, kind, oldest in plain:
            yield name, await self._drain(kind, oldest, dry)
        if self._by_day and not dry:
            await self._store.write(days.make)
        margin = retention_days.MARGIN if self._by_day else 0
        contents = partial(retention.old_contents, oldest_us=content_us, margin=margin)
        yield "contents", await self._clear("contents", content_us, contents, dry)
        yield (
            "events",
            await self._clear("events", event_us, partial(retention.old_events, oldest_us=event_us), dry),
        )
        yield "bounces", await self._walk(partial(retention.old_bounces, oldest_us=event_us), dry)
        # Attempts come before decisions: `named` is what the attempts that stay still point at.
        named: set[int] = set()
        attempts = partial(retention.old_attempts, oldest_us=event_us)
        yield "attempts", await self._clear("attempts", event_us, attempts, dry, named)
        replaced_us = event_us - _DECISION_MARGIN_US
        yield (
            "decisions",
            await self._walk(lambda after: retention.old_decisions(after, replaced_us, named), dry),
        )
        yield "deleted_servers", await self._purge(dry)
        archived_us = clock_steps.reach_back(steps, now_us - UNARCHIVABLE_US)
        yield "archived_streams", await self._purge_streams(archived_us, dry)

    async def _purge(self, dry: bool) -> Past:
        """What deleted servers left; one of which something is on its way waits for the next run."""
        total = 0
        for account_id, server_id in await self._store.read(lambda: purge.due(_SERVERS_AT_ONCE)):
            if dry:
                total += await self._store.read(partial(purge.left, account_id, server_id))
                continue
            while True:
                purged = await self._store.write(partial(purge.purge_slice, account_id, server_id))
                total += purged.rows
                if purged.done or purged.blocked:
                    break
                await asyncio.sleep(self._settings.pause_s)
        return Past(total)

    async def _purge_streams(self, archived_us: int, dry: bool) -> Past:
        """What streams hold that were archived by then; one of which something is on its way waits."""
        total = 0
        due = await self._store.read(lambda: stream_purge.due(archived_us, _STREAMS_AT_ONCE))
        for key in due:
            if dry:
                total += await self._store.read(partial(stream_purge.left, key))
                continue
            purge_slice = partial(stream_purge.purge_slice, key, archived_us, HOUSEKEEPING)
            while True:
                purged = await self._store.write(purge_slice)
                total += purged.rows
                if purged.done or purged.blocked:
                    break
                await asyncio.sleep(self._settings.pause_s)
        return Past(total)

    async def _keep_house(self) -> None:
        while True:
            if self._turn is not None:
                await self._turn.ours()
            try:
                cleared = await self.run_once()
            except PostroomError as error:
                self.failures += 1
                log.warning("housekeeping was put off", error=str(error))
            except Exception:  # were it to end here, the disk would fill unseen
                self.failures += 1
                log.exception("housekeeping failed")
            else:
                if counts := cleared.counts():
                    log.info("cleared away", **counts)
            await asyncio.sleep(self._settings.every_s)

    async def _drain(self, kind: Plain, oldest: int, dry: bool) -> Past:
        """Delete slice after slice, until one is not full."""
        if dry:
            return await self._store.read(partial(kind.look, oldest))
        total = Past()
        while True:
            slice_ = await self._store.write(partial(kind.delete, oldest))
            total += slice_
            if slice_.rows < SLICE:
                return total
            await asyncio.sleep(self._settings.pause_s)

    async def _clear(
        self,
        table: str,
        oldest_us: int,
        look: Callable[[int], Work[Window | None]],
        dry: bool,
        named: set[int] | None = None,
    ) -> Past:
        """Whole days first where there are days, then what is left of this table, as `_walk` has it."""
        if not self._by_day or dry:
            return await self._walk(look, dry, named)
        went, put_off = await self._drop_days(table, oldest_us)
        if put_off:
            await self._walk(look, True, named)
            return went
        return went + await self._walk(look, dry, named)

    async def _drop_days(self, table: str, oldest_us: int) -> tuple[Past, bool]:
        """What went with its day; whether a day that may go is left to the next run."""
        total, put_off = Past(), False
        for one in await self._store.read(partial(retention_days.past_days, table, oldest_us)):
            assert one.first is not None
            judged = retention_days.Judged(one.first - 1)
            while (
                slice_ := await self._store.read(
                    partial(retention_days.judge, table, one, judged.last, oldest_us)
                )
            ) is not None:
                judged += slice_
                if judged.is_hopeless:
                    break
            if judged.is_hopeless or (judged.stay and not judged.past.rows):
                continue
            try:
                gone = await self._store.write(partial(retention_days.drop, table, one, judged))
            except Unavailable as error:
                log.info("a day is dropped later", table=table, day=one.name, error=str(error))
                put_off = True
                continue
            if gone:
                total += judged.past
                log.info("a day was dropped", day=one.name, rows=judged.past.rows, kept=len(judged.stay))
        return total, put_off

    async def _walk(
        self, look: Callable[[int], Work[Window | None]], dry: bool, named: set[int] | None = None
    ) -> Past:
        """Go over the old rows of one table, SLICE ids at a time, and delete what may go.

        named: takes up the decisions of the attempts that stay.
        """
        total, after = Past(), 0
        while (window := await self._store.read(partial(look, after))) is not None:
            if window.gone:
                total += window.look() if dry else await self._store.write(window.delete)
            if named is not None:
                named.update(window.named)
            after = window.last
            await asyncio.sleep(self._settings.pause_s if window.gone else 0)
        return total
