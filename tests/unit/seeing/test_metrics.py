"""What /metrics says: parsed by Prometheus's own parsers, equal to the table, bounded, without a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from postroom.control.operations import run
from postroom.core.message import Purpose
from postroom.metrics.collector import Metrics
from postroom.metrics.table import METRICS, MOST_CONNECTIONS, OTHER
from postroom.storage.interface import Sql, Work
from postroom.storage.pauses import Pause, PauseScope, add
from tests.support import seed_rows
from tests.unit.seeing.conftest import Seen

DOCS = Path(__file__).parents[3] / "docs"
UNITS = {"seconds", "bytes", "total", "info"}


async def read(metrics: Metrics) -> dict[str, Family]:
    """The families of a scrape by the name they have in the table."""
    text, content_type = await metrics.render("")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in parse_text(text.decode()):
        found[family.name + "_total" if family.type == "counter" else family.name] = family
    return found


def values(family: Family) -> dict[tuple[str, ...], float]:
    """Samples by their label values, in the order of the table."""
    labels = next(one.labels for one in METRICS if one.name.startswith(family.name))
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


async def fill(seen: Seen, waiting: int = 3) -> None:
    """A bit of everything that has series of its own."""
    store, tally = seen.room.store, seen.room.ctx.tally

    def rows() -> Work[None]:
        yield from seed_rows.tenants()
        connection = yield from seed_rows.connection(100, 1000)
        _, lane = yield from seed_rows.message(Purpose.BROADCAST, ["a@example.net"] * 1, "one")
        now_us = seen.clock.now_us()
        for number in range(waiting - 1):
            yield Sql(
                "INSERT INTO ready (account_id, lane_id, due, delivery_id) VALUES (1, :lane, :due, :id)",
                {"lane": lane, "due": now_us + 1 + number, "id": 1000 + number},
            )
        yield Sql("INSERT INTO cap VALUES (1, :c, 40)", {"c": connection})
        yield Sql("INSERT INTO cap_release VALUES (1, :c, :due, 10)", {"c": connection, "due": now_us - 1})
        yield Sql("INSERT INTO cap_release VALUES (1, :c, :due, 30)", {"c": connection, "due": now_us + 1})
        day = now_us // 86_400_000_000
        yield Sql("INSERT INTO cap_day VALUES (1, :c, :day, 900, 99)", {"c": connection, "day": day})
        yield from add(Pause(seed_rows.ACCOUNT, PauseScope.SERVER, 1, now_us, "test", ""))

    await store.write(rows)
    await seen.room.dispatcher.start()
    tally.accept("broadcast", "transactional", 3)
    tally.attempts["sent", 1] += 7
    tally.sent_after_s["transactional"].observe(0.2)
    tally.answered("broadcast", 201)
    seen.room.dialer.refused["loopback"] += 2
    seen.seeing.smtp_sessions(lambda: {"submission": 4})


async def test_every_metric_of_the_table_and_no_other_is_exposed(seen: Seen) -> None:
    await fill(seen)
    found = await read(seen.seeing.metrics)
    ours = {name: family for name, family in found.items() if name.startswith("postroom_")}
    assert set(ours) == {one.name for one in METRICS}
    for one in METRICS:
        family = ours[one.name]
        assert (family.type, family.documentation) == (one.type, one.meaning), one.name
        assert family.samples, f"{one.name} has no series in this test"
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(one.labels), sample
    assert all(name.startswith(("postroom_", "process_")) for name in found)
    await seen.room.dispatcher.stop()


async def test_openmetrics_is_spoken_to_who_asks_for_it(seen: Seen) -> None:
    await fill(seen)
    text, content_type = await seen.seeing.metrics.render("application/openmetrics-text;version=1.0.0;q=0.8")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    families = parse_openmetrics(text.decode())  # type: ignore[no-untyped-call]  # of the library
    names = {family.name for family in families}
    assert {one.name.removesuffix("_total") for one in METRICS} <= names
    await seen.room.dispatcher.stop()


async def test_the_numbers_are_those_of_the_moment(seen: Seen) -> None:
    await fill(seen)
    seen.clock.advance(90.0)
    found = await read(seen.seeing.metrics)
    assert values(found["postroom_queue_depth"]) == {
        ("transactional",): 0,
        ("broadcast",): 3,
        ("sequence",): 0,
    }
    assert values(found["postroom_queue_due"])["broadcast",] == 3
    assert values(found["postroom_queue_oldest_seconds"])["broadcast",] == pytest.approx(90.0, abs=1)
    # 40 held of 100, all of it due to come back by now; 999 of 1000 taken today.
    assert values(found["postroom_cap_room"]) == {("1", "hour"): 100, ("1", "day"): 1}
    assert values(found["postroom_cap_limit"]) == {("1", "hour"): 100, ("1", "day"): 1000}
    assert values(found["postroom_paused"])["server",] == 1
    assert values(found["postroom_connection_usable"]) == {("1",): 0}
    off = {labels for labels, stands in values(found["postroom_connection_off"]).items() if stands}
    assert off == {("1", "paused")}
    assert values(found["postroom_attempts_total"])["sent", "1"] == 7
    assert values(found["postroom_attempts_total"])["bounced", "1"] == 0
    assert values(found["postroom_dial_refused_total"])["loopback",] == 2
    assert values(found["postroom_lease_held"]) == {(): 1}
    assert values(found["postroom_smtp_sessions"]) == {("submission",): 4}
    await seen.room.dispatcher.stop()
    assert values((await read(seen.seeing.metrics))["postroom_lease_held"]) == {(): 0}


async def test_figures_of_the_database_are_kept_for_some_seconds(seen: Seen) -> None:
    await fill(seen)
    before = await read(seen.seeing.metrics)
    await seen.room.store.write(lambda: _queue_one(seen))
    assert values((await read(seen.seeing.metrics))["postroom_queue_depth"]) == values(
        before["postroom_queue_depth"]
    )
    seen.clock.advance(5.0)
    assert values((await read(seen.seeing.metrics))["postroom_queue_depth"])["broadcast",] == 4
    await seen.room.dispatcher.stop()


def _queue_one(seen: Seen) -> Work[None]:
    yield Sql("INSERT INTO ready VALUES (1, 1, :due, 5000)", {"due": seen.clock.now_us()})


async def test_labels_are_bounded_and_what_comes_after_is_added_up(seen: Seen) -> None:
    tally = seen.room.ctx.tally
    for number in range(1, MOST_CONNECTIONS + 101):
        tally.attempts["sent", number] += 1
    family = (await read(seen.seeing.metrics))["postroom_attempts_total"]
    assert len({sample.labels["connection"] for sample in family.samples}) == MOST_CONNECTIONS + 1
    assert values(family)["sent", OTHER] == 100
    assert values(family)["sent", "1"] == 1
    tally.attempts["sent", 1] += 1
    again = values((await read(seen.seeing.metrics))["postroom_attempts_total"])
    assert (again["sent", "1"], again["sent", OTHER]) == (2, 100)


async def test_no_address_label_or_key_is_in_it(seen: Seen) -> None:
    await fill(seen)
    made = await run(seen.room.desk, "bootstrap", {"sender": "canary-sender@example.org"})
    assert isinstance(made, Mapping)
    text, _ = await seen.seeing.metrics.render("")
    words = ["example", "canary", "@", "'out'", '"out"', made["server_key"], made["account_key"]]
    assert [word for word in words if str(word).encode() in text] == []
    await seen.room.dispatcher.stop()


async def test_without_the_database_the_rest_is_told(seen: Seen) -> None:
    await fill(seen)
    await seen.room.dispatcher.stop()
    await seen.room.store.close()
    found = await read(seen.seeing.metrics)
    assert values(found["postroom_database_readable"]) == {(): 0}
    assert "postroom_queue_depth" not in found
    assert values(found["postroom_accepted_total"]) == {("broadcast", "transactional"): 1}


def test_the_table_follows_the_conventions() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    for one in METRICS:
        assert re.fullmatch("postroom(_[a-z]+)+", one.name), one.name
        assert (one.type == "counter") == one.name.endswith("_total"), one.name
        assert one.meaning.endswith("."), one.name
        assert not set(one.labels) & {"le", "quantile", "job", "instance"}, one.name
        assert (one.type == "histogram") <= (one.name.rsplit("_", 1)[1] in UNITS), one.name
        assert not re.search("_(ms|kb|mb|milliseconds|percent)(_|$)", one.name), one.name


def test_the_page_has_the_same_table() -> None:
    page = (DOCS / "metrics.md").read_text("utf-8")
    told = re.findall(r"^\| `(postroom_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    wanted = [
        (one.name, one.type, ", ".join(f"`{label}`" for label in one.labels), one.meaning) for one in METRICS
    ]
    assert told == wanted
