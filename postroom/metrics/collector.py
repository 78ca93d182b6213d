"""Reads what the running parts are doing at the moment Prometheus asks, and writes it as text.

Counts come from the `Tally` and from the parts' own counters, everything else is read when asked, so an
unread /metrics costs nothing. A scrape never fails because the database does: what memory knows is told all
the same, and `postroom_database_readable` says 0.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector

import postroom
from postroom.core.message import Purpose
from postroom.engine.figures import FigureBook, Figures
from postroom.engine.notices import NoticeKind
from postroom.engine.status import EngineStatus, Off
from postroom.errors import PostroomError
from postroom.ids import ConnectionId
from postroom.logs import logger
from postroom.mail.dkim_keys import Algorithm
from postroom.metrics.across import Others, Told, Whole, alone, told_of
from postroom.metrics.table import MOST_CONNECTIONS, OF_NAME, OTHER
from postroom.storage.pauses import PauseScope
from postroom.tally import HIT_BY, HIT_KINDS, Histogram, Tally
from postroom.transports.dialer import REFUSALS
from postroom.transports.interface import Result

log = logger("metrics")
Sample = tuple[Sequence[str], float]


class Commits(Protocol):
    """What the store counts."""

    commits: int
    failed_commits: int
    units: int
    commit_s: Histogram

    @property
    def statements(self) -> int: ...

    @property
    def waiting_units(self) -> int: ...

    @property
    def waiting_bytes(self) -> int: ...


@dataclass
class Sources:
    """Where the values come from, joined by `wiring`.

    delivers: whether the engine runs in this process. gauges: what a part that starts late adds, by metric:
    samples of label values and a number.
    """

    tally: Tally
    commits: Commits
    refused: Mapping[str, int]
    figures: FigureBook
    status: Callable[[], EngineStatus]
    lag_s: Callable[[], float]
    troubles: Callable[[], Mapping[str, int]]
    disk_free: Callable[[], int]
    delivers: bool = True
    gauges: dict[str, Callable[[], Iterable[Sample]]] = field(default_factory=dict)


class Metrics:
    """Of one process. `render` is what /metrics answers, for all processes of the data folder.

    others: what the other ones told, asked for anew.
    """

    def __init__(self, sources: Sources, others: Callable[[], Awaitable[Others]] = alone) -> None:
        self.sources, self._others = sources, others
        self._families = _Families(sources)
        self._usage = ProcessCollector(registry=None)

    def told(self) -> Told:
        """What this process has to tell of itself."""
        return told_of([*self._families.of_process(), *self._usage.collect()])

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type; accept: the request's header, which may ask for OpenMetrics."""
        try:
            figures = await self.sources.figures.look()
        except PostroomError as error:
            log.warning("metrics without the database", error=str(error))
            figures = None
        others = await self._others()
        one = [
            *self._families.of_database(figures),
            _family("postroom_processes_silent", [((), others.silent)]),
        ]
        whole = cast(CollectorRegistry, Whole([self.told(), *others.told], one))  # all that is used of it
        if "application/openmetrics-text" in accept.lower():
            text = openmetrics.generate_latest(whole)  # type: ignore[no-untyped-call]  # of the library
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(whole), CONTENT_TYPE_PLAIN_0_0_4


class _Families:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._labelled: dict[int, str] = {}

    def of_process(self) -> Iterator[Metric]:
        """What this process counts and sees."""
        yield from self._counted()
        if self._sources.delivers:
            status = self._sources.status()
            yield from self._engine(status)
            yield from self._connections(status)
        yield from self._process()
        for name, samples in self._sources.gauges.items():
            yield _family(name, samples())

    def of_database(self, figures: Figures | None) -> Iterator[Metric]:
        """What is no process's own; without `figures` only that they are missing."""
        yield _family("postroom_database_readable", [((), figures is not None)])
        yield _family("postroom_disk_free_bytes", [((), self._sources.disk_free())])
        if figures is not None:
            yield from self._database(figures)

    def _connection(self, connection_id: int) -> str:
        """Its label: the id, of the first so many that are seen; they keep it."""
        known = self._labelled.get(connection_id)
        if known is None:
            if len(self._labelled) >= MOST_CONNECTIONS:
                return OTHER
            known = self._labelled[connection_id] = str(connection_id)
        return known

    def _counted(self) -> Iterator[Metric]:
        tally, commits = self._sources.tally, self._sources.commits
        yield _family("postroom_accepted_total", tally.accepted.items())
        yield _family("postroom_accepted_deliveries_total", tally.accepted_deliveries.items())
        yield _histogram(
            "postroom_sent_after_seconds", [((purpose,), one) for purpose, one in tally.sent_after_s.items()]
        )
        yield _family("postroom_signed_total", [((kind,), tally.signed[kind]) for kind in Algorithm])
        http = [((dialect, str(code)), count) for (dialect, code), count in tally.http.items()]
        yield _family("postroom_http_requests_total", http)
        yield _family("postroom_notices_total", [((kind,), tally.notices[kind]) for kind in NoticeKind])
        hits = [((kind, by), tally.hits[kind, by]) for kind in HIT_KINDS for by in HIT_BY]
        yield _family("postroom_hits_total", hits)
        yield _family("postroom_hits_dropped_total", [((), tally.hits_dropped)])
        refused = self._sources.refused
        yield _family("postroom_dial_refused_total", [((one,), refused.get(one, 0)) for one in REFUSALS])
        yield _family("postroom_statements_total", [((), commits.statements)])
        yield _family("postroom_commits_total", [((), commits.commits)])
        yield _family("postroom_failed_commits_total", [((), commits.failed_commits)])
        yield _family("postroom_commit_units_total", [((), commits.units)])
        yield _histogram("postroom_commit_seconds", [((), commits.commit_s)])

    def _engine(self, status: EngineStatus) -> Iterator[Metric]:
        yield _family("postroom_unsettled_attempts", [((), status.unsettled)])
        yield _family("postroom_lease_held", [((), status.running and not status.fenced)])
        yield _family("postroom_worker_epoch", [((), status.epoch)])
        yield _family("postroom_journal_bytes", [((), status.journal_bytes)])
        yield _family("postroom_grants_pause_seconds", [((), status.grants_pause_s)])
        yield _family("postroom_lanes_waiting", [((), status.lanes_waiting)])

    def _connections(self, status: EngineStatus) -> Iterator[Metric]:
        usable, off, sessions, limits = [], [], [], []
        attempts = [
            ((outcome, self._connection(connection)), float(count))
            for (outcome, connection), count in list(self._sources.tally.attempts.items())
        ]
        for one in status.connections:
            label = self._connection(one.connection_id)
            # From nothing on, so that a rate sees the very first of each.
            attempts += [((outcome.value, label), 0.0) for outcome in Result]
            usable.append(((label,), float(not one.off)))
            off += [((label, kind.value), float(kind in one.off)) for kind in Off]
            counts = {"busy": one.busy, "idle": one.idle, "opening": one.opening}
            sessions += [((label, state), float(count)) for state, count in counts.items()]
            caps = {"hour": one.hourly_cap, "day": one.daily_cap}
            limits += [((label, window), float(cap)) for window, cap in caps.items() if cap is not None]
        yield _family("postroom_attempts_total", attempts)
        yield _family("postroom_connection_usable", usable)
        yield _family("postroom_connection_off", off)
        yield _family("postroom_sessions", sessions)
        yield _family("postroom_cap_limit", limits)

    def _database(self, figures: Figures) -> Iterator[Metric]:
        waiting: Counter[Purpose] = Counter()
        due: Counter[Purpose] = Counter()
        oldest_s = dict.fromkeys(Purpose, 0.0)
        for lane in figures.lanes:
            waiting[lane.purpose] += lane.waiting
            due[lane.purpose] += lane.due
            waited_s = (figures.at_us - lane.first_due_us) / 1_000_000
            oldest_s[lane.purpose] = max(oldest_s[lane.purpose], waited_s)
        yield _family("postroom_queue_depth", [((one.value,), waiting[one]) for one in Purpose])
        yield _family("postroom_queue_due", [((one.value,), due[one]) for one in Purpose])
        yield _family(
            "postroom_queue_oldest_seconds", [((one.value,), age_s) for one, age_s in oldest_s.items()]
        )
        yield _family("postroom_cap_room", list(self._rooms(figures)))
        scopes = Counter(one.scope for one in figures.pauses)
        yield _family("postroom_paused", [((one.value,), scopes[one]) for one in PauseScope])

    def _rooms(self, figures: Figures) -> Iterator[Sample]:
        for one in figures.rooms:
            label = self._connection(ConnectionId(one.connection_id))
            for window, room in (("hour", one.hour), ("day", one.day)):
                if room is not None:
                    yield (label, window), room

    def _process(self) -> Iterator[Metric]:
        sources = self._sources
        yield _family("postroom_processes", [((), 1)])
        yield _family("postroom_event_loop_lag_seconds", [((), sources.lag_s())])
        yield _family("postroom_write_queue_units", [((), sources.commits.waiting_units)])
        yield _family("postroom_write_queue_bytes", [((), sources.commits.waiting_bytes)])
        troubles = sources.troubles()
        yield _family("postroom_troubles", [((kind,), troubles.get(kind, 0)) for kind in NoticeKind])
        build = (postroom.__version__, platform.python_version())
        yield _family("postroom_build_info", [(build, 1)])


def _family(name: str, samples: Iterable[Sample]) -> Metric:
    """A family of the table, filled; series whose labels became equal (`other`) are added up."""
    row = OF_NAME[name]
    kind = CounterMetricFamily if row.type == "counter" else GaugeMetricFamily
    family = kind(name, row.meaning, labels=row.labels)
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in list(samples):
        key = tuple(labels)
        sums[key] = sums.get(key, 0.0) + value
    for key, value in sums.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, samples: Iterable[tuple[Sequence[str], Histogram]]) -> Metric:
    row = OF_NAME[name]
    family = HistogramMetricFamily(name, row.meaning, labels=row.labels)
    for labels, one in samples:
        ends = [*map(str, one.bounds), "+Inf"]
        buckets = list(zip(ends, map(float, one.cumulative()), strict=True))
        family.add_metric(labels, buckets, one.sum)
    return family
