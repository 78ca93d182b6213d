"""Metrics and status of several processes as one: sums, the worst, and what a dead process counted."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from postroom.metrics.across import Told, added_up, counts_of, told_of
from postroom.serving.siblings import _MOST_GONE, PROCESSES_NAME, Siblings
from postroom.serving.status import joined, of_lane


def told(sent: float, lag_s: float, held: float, started: float = 5.0) -> Told:
    """Of one process: a counter, a histogram, and gauges of each kind."""
    counter = CounterMetricFamily("postroom_attempts_total", "m", labels=("outcome", "connection"))
    counter.add_metric(("sent", "1"), sent)
    histogram = HistogramMetricFamily("postroom_commit_seconds", "m")
    histogram.add_metric((), [("0.1", 1), ("+Inf", 2)], 0.5)
    found: list[Metric] = [counter, histogram]
    for name, value in (
        ("postroom_event_loop_lag_seconds", lag_s),
        ("postroom_lease_held", held),
        ("postroom_processes", 1),
        ("process_start_time_seconds", started),
        ("process_resident_memory_bytes", 100),
    ):
        gauge = GaugeMetricFamily(name, "m")
        gauge.add_metric((), value)
        found.append(gauge)
    return json.loads(json.dumps(told_of(found)))  # type: ignore[no-any-return]  # of json


def values(tellings: list[Told]) -> dict[str, float]:
    """Samples by name, with the bound of a bucket behind it."""
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in added_up(tellings)
        for sample in family.samples
    }


def test_counts_are_added_and_gauges_combined_by_what_they_mean() -> None:
    assert values([told(3, 0.1, 1), told(4, 0.5, 0, started=2.0)]) == {
        "postroom_attempts_total": 7,
        "postroom_commit_seconds_bucket0.1": 2,
        "postroom_commit_seconds_bucket+Inf": 4,
        "postroom_commit_seconds_count": 4,
        "postroom_commit_seconds_sum": 1.0,
        "postroom_event_loop_lag_seconds": 0.5,
        "postroom_lease_held": 0,
        "postroom_processes": 2,
        "process_start_time_seconds": 2.0,
        "process_resident_memory_bytes": 200,
    }


def test_only_what_grows_is_kept_of_the_dead() -> None:
    assert [one[0] for one in counts_of(told(1, 0, 1))] == ["postroom_attempts", "postroom_commit_seconds"]


class Process:
    """One that listens beside others in this test's process."""

    def __init__(self, data: Path, count: int) -> None:
        self.count = count
        self.siblings = Siblings(data, {"count": self.tell, "hang": self.hang})

    async def tell(self) -> object:
        self.siblings.keep(self.count)
        return self.count

    async def hang(self) -> object:
        raise RuntimeError("a fault")

    async def total(self) -> int:
        """The sum over all, as whoever is asked makes it."""
        found = await self.siblings.ask("count")
        self.siblings.keep(self.count)
        living = frozenset(found.told)
        self.siblings.forget(sum, living | found.silent)
        total: int = self.count + sum(found.told.values()) + sum(self.siblings.kept(living))
        return total

    async def end(self) -> None:
        await self.siblings.stop()


@contextlib.asynccontextmanager
async def running(data: Path, *counts: int) -> AsyncIterator[list[Process]]:
    found = [Process(data, count) for count in counts]
    try:
        for one in found:
            await one.siblings.start()
        yield found
    finally:
        for one in found:
            await one.end()


async def test_the_sum_never_falls_when_one_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path, 1, 20, 300) as (first, second, third):
        assert await first.total() == await third.total() == 321
        second.count = 40  # never told, and lost with it
        await second.end()
        assert await first.total() == await third.total() == 321
        async with running(tmp_path, 5000) as (fourth,):
            assert await fourth.total() == await first.total() == 5321


async def test_what_a_killed_process_left_is_counted_and_its_socket_removed(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as (first,):
        folder = tmp_path / PROCESSES_NAME
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(folder / "77-killed.sock"))
        (folder / "77-killed.counts").write_text("20")
        (folder / "78-torn.counts").write_text("{")
        found = await first.siblings.ask("count")
        assert (dict(found.told), set(found.silent)) == ({}, set())
        assert not (folder / "77-killed.sock").exists()
        assert await first.total() == 21


async def test_a_fault_of_one_is_no_fault_of_who_asks(tmp_path: Path) -> None:
    async with running(tmp_path, 1, 2) as (first, second):
        found = await first.siblings.ask("hang")
        assert (dict(found.told), set(found.silent)) == ({}, {second.siblings.name})
        assert await first.total() == 3
        assert (await first.siblings.ask("unknown")).silent == {second.siblings.name}


async def test_what_many_dead_ones_counted_is_put_together(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as (first,):
        for number in range(2 * _MOST_GONE + 5):
            async with running(tmp_path, 2) as (other,):
                await other.tell()
            assert await first.total() == 1 + 2 * (number + 1)
        files = list((tmp_path / PROCESSES_NAME).glob("*.counts"))
        assert len(files) <= _MOST_GONE + 3


async def test_a_first_process_begins_from_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, 7) as (before,):
        await before.total()
    async with running(tmp_path, 1) as (first,):
        assert await first.total() == 1


async def test_sockets_are_for_this_user_alone_whatever_the_length_of_the_path(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 40)
    data.mkdir()
    async with running(data, 1, 2) as (first, _):
        assert (data / PROCESSES_NAME).stat().st_mode & 0o777 == 0o700
        assert await first.total() == 3


def status(pid: int, **more: Any) -> dict[str, Any]:  # Any: JSON values
    """What one process tells of itself."""
    connection: dict[str, Any] = {
        "connection_id": 1,
        "off": [],
        "attempts": {"sent": pid},
        "trouble": "",
        **dict.fromkeys(("busy", "idle", "opening", "claimed"), 1),
        "full_until": None,
        "backoff_until": None,
    }
    return {
        "version": "1",
        "pid": pid,
        "started_at": f"2026-11-21T0{pid}:00:00Z",
        "roles": ["deliver"],
        "state": "sending",
        "listening": {"http": "127.0.0.1:8080"},
        "rates": {"10s": {"sent": 1.5}},
        "since_start": {"sent": 10 * pid},
        "minute": {"commits": pid, "commit_s": 0.5},
        "lanes": {"4": {"connections": [], "waits_for": ["cap"]}},
        "connections": [connection],
        "unsettled_attempts": 2,
        "journal_bytes": 100,
        "grants_pause_s": 0.0,
        "event_loop_lag_s": pid / 10,
        "write_queue": {"units": 1, "bytes": 10},
        "troubles": {"cap_binds": 1},
        **more,
    }


def test_a_status_of_several_is_their_sum() -> None:
    found = joined([status(2), status(3)])
    assert [one["pid"] for one in found["processes"]] == [2, 3]
    assert (found["pid"], found["started_at"]) == (2, "2026-11-21T02:00:00Z")
    assert found["rates"] == {"10s": {"sent": 3.0}}
    assert found["since_start"] == {"sent": 50}
    assert (found["unsettled_attempts"], found["journal_bytes"]) == (4, 200)
    assert found["event_loop_lag_s"] == 0.3
    assert found["commit_s"] == 0.2
    assert found["troubles"] == {"cap_binds": 1}
    (connection,) = found["connections"]
    assert (connection["busy"], connection["claimed"], connection["attempts"]) == (2, 2, {"sent": 5})


def test_a_connection_shows_what_any_process_has_against_it() -> None:
    bad = {
        **status(3)["connections"][0],
        "off": ["backing_off"],
        "trouble": "refused",
        "backoff_until": "2026-11-21T09:00:00Z",
    }
    (connection,) = joined([status(2), status(3, connections=[bad])])["connections"]
    assert (connection["off"], connection["trouble"]) == (["backing_off"], "refused")
    assert connection["backoff_until"] == "2026-11-21T09:00:00Z"


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [([7], {"connections": [7], "waits_for": []}), ([], {"connections": [], "waits_for": ["cap"]})],
)
def test_a_lane_waits_only_where_nobody_may_send_it(chosen: list[int], wanted: dict[str, Any]) -> None:
    other = status(3, lanes={"4": {"connections": chosen, "waits_for": []}} if chosen else {})
    assert of_lane([status(2), other], 4) == wanted
