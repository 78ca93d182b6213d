"""What a running `serve` shows of itself, joined: pulse, notices, the page /metrics, and its status.

The status is one JSON document: `postroom status --json` prints it, `postroom top` draws it. Where several
processes work on the data folder, whichever is asked tells of all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict

import postroom
from postroom.clock import to_iso
from postroom.engine.figures import FigureBook, Figures, age_s, queue_of
from postroom.engine.notices import Notices
from postroom.engine.pulse import Pulse
from postroom.engine.status import ConnectionStatus, EngineStatus, status_of, waits_for
from postroom.engine.watch import Watch, WatchSettings, free_bytes
from postroom.errors import PostroomError
from postroom.http.metrics import PATH, MetricsPage
from postroom.ids import LaneId
from postroom.metrics.across import Others, added_up, counts_of, told_of
from postroom.metrics.collector import Metrics, Sources
from postroom.serving.siblings import Answers, Siblings
from postroom.serving.status import SENDING, Told, joined, of_lane
from postroom.storage.figures import LaneDepth, Room
from postroom.wiring import PostRoom

MOST_LANES = 50
SPANS_S = {"10s": 10.0, "1m": 60.0}


class Seeing:
    """Of one `serve`. Between `start` and `stop` it looks; before and after it can be asked all the same."""

    def __init__(self, room: PostRoom, *, watches: bool = True) -> None:
        """watches: whether it gives notice of what the engine of this process sees."""
        self._watches = watches
        self._siblings = (
            Siblings(room.settings.data, {"metrics": self._tell_metrics, "status": self._tell_status})
            if room.settings.database
            else None
        )
        self._room, self._clock = room, room.ctx.clock
        self._started_us = self._clock.now_us()
        self._figures = FigureBook(room.store, self._clock)
        self.pulse = Pulse(self._sums)
        self.notices = Notices(room.store, self._clock, room.ctx.tally)
        settings = room.settings
        limits = WatchSettings(
            settings.notice_queue_age_s, settings.notice_queue_age_bulk_s, settings.notice_disk_free
        )
        disk_free = self._disk_free
        self.watch = Watch(room.dispatcher, room.store, self.notices, limits, disk_free)
        self.metrics = Metrics(
            Sources(
                tally=room.ctx.tally,
                commits=room.store,
                refused=room.dialer.refused,
                figures=self._figures,
                status=lambda: status_of(room.dispatcher),
                lag_s=lambda: self.pulse.worst_lag_s,
                troubles=self.notices.counts,
                disk_free=disk_free,
                delivers="deliver" in settings.roles,
            ),
            self._metrics_of_others,
        )
        self.pages = {PATH: MetricsPage(self._metrics_page, settings.metrics_token)}
        room.desk.status = self.status

    async def start(self) -> None:
        """Begin. Raises Unavailable."""
        if self._siblings is not None:
            await self._siblings.start()
        self.pulse.start()
        if self._watches:
            await self.watch.start()

    async def stop(self) -> None:
        """End."""
        await self.watch.stop()
        await self.pulse.stop()
        if self._siblings is not None:
            await self._siblings.stop()
            self._siblings.keep(counts_of(self.metrics.told()))

    def smtp_sessions(self, count: Callable[[], Mapping[str, int]]) -> None:
        """How to count the clients of our SMTP listeners, by name."""

        def samples() -> Iterable[tuple[Sequence[str], float]]:
            return [((name,), float(number)) for name, number in count().items()]

        self.metrics.sources.gauges["postroom_smtp_sessions"] = samples

    def _disk_free(self) -> int:
        return free_bytes(self._room.settings.data)

    def _sums(self) -> dict[str, float]:
        commits = self._room.store.commit_s
        return {**self._room.ctx.tally.sums(), "commits": float(commits.total), "commit_s": commits.sum}

    # --- metrics ---------------------------------------------------------------------------------------

    async def _metrics_page(self, accept: str) -> tuple[bytes, str]:
        await self._tell_metrics()  # for itself: so that its counts outlive it, as those of the others do
        return await self.metrics.render(accept)

    async def _tell_metrics(self) -> object:
        found = self.metrics.told()
        if self._siblings is not None:
            self._siblings.keep(counts_of(found))
        return found

    async def _metrics_of_others(self) -> Others:
        if self._siblings is None:
            return Others()
        found = await self._siblings.ask("metrics")
        living = frozenset(found.told)
        self._siblings.forget(lambda counts: told_of(added_up(counts)), living | found.silent)
        return Others([*found.told.values(), *self._siblings.kept(living)], len(found.silent))

    # --- status ----------------------------------------------------------------------------------------

    async def status(self) -> Mapping[str, object]:
        """Everything at once, as JSON values; without the database only what memory knows."""
        try:
            figures = await self._figures.look()
        except PostroomError:
            figures = None
        lanes = [] if figures is None else _fullest(figures)
        asked = [one.lane_id for one in lanes]
        others = Answers() if self._siblings is None else await self._siblings.ask("status", lanes=asked)
        told = [await self._tell_status(asked), *others.told.values()]
        whole = joined(told)
        rooms = {} if figures is None else {one.connection_id: one for one in figures.rooms}
        for one in whole["connections"]:
            one.update(_room(rooms.get(one["connection_id"])))
        return {
            **whole,
            "silent_processes": len(others.silent),
            "queue": None if figures is None else queue_of(figures, self._clock.now_us()),
            "lanes": None if figures is None else [self._lane(one, told) for one in lanes],
            "paused": None
            if figures is None
            else [_pause(one.scope, one.target_id) for one in figures.pauses],
            "disk_free_bytes": self._disk_free(),
        }

    async def _tell_status(self, lanes: Sequence[int]) -> Told:
        """What this process knows of itself. lanes: those of which it is asked."""
        room, engine = self._room, status_of(self._room.dispatcher)
        rates = {name: self.pulse.rates(span_s) for name, span_s in SPANS_S.items()}
        return {
            "version": postroom.__version__,
            "pid": os.getpid(),
            "started_at": to_iso(self._started_us),
            "roles": list(room.settings.roles),
            "state": self._state(engine),
            "listening": dict(room.desk.listening),
            "rates": {
                name: {key: round(one[key], 2) for key in room.ctx.tally.sums()}
                for name, one in rates.items()
            },
            "since_start": room.ctx.tally.sums(),
            "minute": {name: rates["1m"][name] for name in ("commits", "commit_s")},
            "lanes": dict(self._known(lanes)),
            "connections": self._connections(engine),
            "unsettled_attempts": engine.unsettled,
            "journal_bytes": engine.journal_bytes,
            "grants_pause_s": round(engine.grants_pause_s, 1),
            "event_loop_lag_s": round(self.pulse.worst_lag_s, 4),
            "write_queue": {"units": room.store.waiting_units, "bytes": room.store.waiting_bytes},
            "troubles": dict(self.notices.counts()),
        }

    def _state(self, engine: EngineStatus) -> str:
        if "deliver" not in self._room.settings.roles:
            return "serving"
        return SENDING if engine.running and not engine.fenced else "stopping"

    def _known(self, lanes: Sequence[int]) -> Iterable[tuple[str, dict[str, object]]]:
        now_us = self._clock.now_us()
        for lane_id in lanes:
            lane = self._room.dispatcher.lanes.get(LaneId(lane_id))
            if lane is not None:
                reasons = waits_for(lane, now_us)
                yield str(lane_id), {"connections": list(lane.chosen), "waits_for": list(reasons)}

    def _lane(self, one: LaneDepth, told: Sequence[Told]) -> dict[str, object]:
        return {
            "lane_id": one.lane_id,
            "account_id": one.account_id,
            "server_id": one.server_id,
            "purpose": one.purpose.value,
            "stream": one.stream,
            "sender": one.sender,
            "waiting": one.waiting,
            "due": one.due,
            "oldest_s": age_s(one.first_due_us, self._clock.now_us()) if one.due else None,
            **of_lane(told, one.lane_id),
        }

    def _connections(self, engine: EngineStatus) -> list[dict[str, object]]:
        attempts: dict[int, dict[str, int]] = {}
        for (result, connection_id), count in self._room.ctx.tally.attempts.items():
            attempts.setdefault(connection_id, {})[result] = count
        return [_connection(one, attempts.get(one.connection_id, {})) for one in engine.connections]


def _pause(scope: str, target_id: int) -> dict[str, object]:
    return {"scope": scope, "target_id": target_id or None}


def _fullest(figures: Figures) -> list[LaneDepth]:
    return sorted(figures.lanes, key=lambda one: (-one.due, -one.waiting, one.lane_id))[:MOST_LANES]


def _connection(one: ConnectionStatus, attempts: Mapping[str, int]) -> dict[str, object]:
    shown = asdict(one)
    del shown["full_until_us"], shown["backoff_until_us"]
    return {
        **shown,
        "off": [kind.value for kind in one.off],
        "full_until": to_iso(one.full_until_us),
        "backoff_until": to_iso(one.backoff_until_us),
        "attempts": dict(attempts),
    }


def _room(room: Room | None) -> dict[str, int | None]:
    return {
        "hour_room": None if room is None else room.hour,
        "day_room": None if room is None else room.day,
        "refused_senders": None if room is None else room.refused,
    }
