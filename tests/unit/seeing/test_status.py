"""The status of a running `serve`, how `top` draws it, and the rates in it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from postroom.cli import checks
from postroom.cli.notices import news
from postroom.cli.top import drawn
from postroom.control.operations import run
from postroom.core.message import Purpose
from postroom.engine.notices import NoticeKind, Trouble
from postroom.engine.pulse import Pulse
from postroom.errors import Invalid, Unavailable
from postroom.storage.interface import Sql, Work
from postroom.storage.lanes import ensure
from tests.support import seed_rows
from tests.support.clock import START_US
from tests.unit.seeing.conftest import Seen


def rows(connections: int, lanes: int) -> Work[None]:
    """So many connections with caps, and lanes with a delivery each."""
    yield from seed_rows.tenants()
    for number in range(connections):
        connection = yield from seed_rows.connection(100, 1000)
        yield Sql(
            "UPDATE connections SET label = :label, enabled = :on WHERE connection_id = :c",
            {"label": f"way\x1b[31m out {number} {'x' * 60}", "on": number != 7, "c": connection},
        )
    for number in range(lanes):
        sender = f"shop{number}@{'example' * 9}.com"
        lane = yield from ensure(seed_rows.ACCOUNT, seed_rows.SERVER, Purpose.BROADCAST, "broadcast", sender)
        yield Sql(
            "INSERT INTO ready VALUES (1, :lane, :due, :id)", {"lane": lane, "due": START_US, "id": number}
        )


async def status(seen: Seen) -> Mapping[str, Any]:
    found = await run(seen.room.desk, "status", {})
    assert isinstance(found, Mapping)
    parsed: Mapping[str, Any] = json.loads(json.dumps(found))
    return parsed


async def test_everything_is_in_it(seen: Seen) -> None:
    await seen.room.store.write(lambda: rows(8, 3))
    await seen.room.dispatcher.start()
    seen.room.ctx.tally.attempts["sent", 3] += 5
    seen.clock.advance(75.0)
    seen.seeing.pulse.start()
    found = await status(seen)
    assert found["state"] == "sending"
    assert found["queue"]["broadcast"] == {"waiting": 3, "due": 3, "oldest_s": 75.0}
    assert found["queue"]["transactional"] == {"waiting": 0, "due": 0, "oldest_s": None}
    assert [one["due"] for one in found["lanes"]] == [1, 1, 1]
    by_id = {one["connection_id"]: one for one in found["connections"]}
    assert by_id[8]["off"] == ["switched_off"]
    assert by_id[3]["attempts"] == {"sent": 5}
    assert (by_id[3]["hour_room"], by_id[3]["day_room"], by_id[3]["hourly_cap"]) == (100, 1000, 100)
    assert set(found["rates"]) == {"10s", "1m"}
    await seen.seeing.stop()
    await seen.room.dispatcher.stop()
    assert (await status(seen))["state"] == "stopping"


async def test_without_the_database_it_says_what_it_knows(seen: Seen) -> None:
    await seen.room.store.close()
    found = await status(seen)
    assert (found["queue"], found["lanes"], found["paused"]) == (None, None, None)
    assert "the database cannot be read" in text_of(found, 24, 80)


async def test_only_serve_has_a_status(seen: Seen) -> None:
    seen.room.desk.status = None
    with pytest.raises(Unavailable, match="no `serve` is running"):
        await run(seen.room.desk, "status", {})


def text_of(found: Mapping[str, Any], height: int, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, height=height, highlight=False).print(drawn(found, height))
    return out.getvalue()


async def test_it_fits_a_terminal_of_80_by_24_however_much_there_is(seen: Seen) -> None:
    await seen.room.store.write(lambda: rows(30, 40))
    await seen.room.dispatcher.start()
    found = await status(seen)
    text = text_of(found, 24, 80)
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    assert "switched_off" in text, "what is off comes first"
    assert "and 27 more" in text
    assert "no_connection" in text or "being dec" in text
    assert "100/100" in text
    tall = text_of(found, 60, 120)
    assert len(tall.splitlines()) <= 60
    assert tall.count("100/100") > text.count("100/100")
    await seen.room.dispatcher.stop()


async def test_an_empty_one_can_be_drawn_even_on_a_tiny_terminal(seen: Seen) -> None:
    assert "no trouble" in text_of(await status(seen), 5, 40)


def test_rates_over_the_spans_there_are() -> None:
    at_s, sent = 100.0, 0
    pulse = Pulse(lambda: {"sent": sent}, lambda: at_s)
    assert pulse.rates(10.0) == {"sent": 0.0}
    pulse.beat(0.0)
    assert pulse.rates(10.0) == {"sent": 0.0}
    for _ in range(100):
        at_s, sent = at_s + 1.0, sent + (5 if at_s >= 190 else 2)
        pulse.beat(0.5 if at_s == 195.0 else 0.001)
    assert pulse.rates(10.0) == {"sent": 5.0}
    assert pulse.rates(60.0) == {"sent": pytest.approx(2.5)}
    assert pulse.worst_lag_s == 0.5
    for _ in range(61):
        at_s += 1.0
        pulse.beat(-0.1)
    assert pulse.worst_lag_s == 0.0


async def test_notices_are_listed_and_in_the_health(seen: Seen) -> None:
    notices = seen.seeing.notices
    low = Trouble(NoticeKind.DISK_LOW, "disk", "no room", data={"free_bytes": 7})
    await notices.observe([low], [NoticeKind.DISK_LOW])
    seen.clock.advance(3.0)
    await notices.once(
        replace(low, kind=NoticeKind.CLOCK_STEPPED, about="clock", text="the clock was set back")
    )
    found: Any = await run(seen.room.desk, "notices", {})
    assert [one["kind"] for one in found["data"]] == ["clock_stepped", "disk_low"]
    assert found["data"][1]["data"] == {"free_bytes": 7}
    assert found["data"][1]["account_id"] is None
    only: Any = await run(seen.room.desk, "notices", {"only_open": True, "limit": 1})
    assert [one["about"] for one in only["data"]] == ["disk"]
    health: Any = await run(seen.room.desk, "health", {})
    assert ["no room" in one.text for one in checks.inside(health) if one.name == "disk"] == [True]
    for limit in (0, 501, -1):
        with pytest.raises(Invalid, match="limit"):
            await run(seen.room.desk, "notices", {"limit": limit})


def test_following_prints_each_beginning_and_each_end_once() -> None:
    def notice(number: int, began: str, ended: str | None = None) -> dict[str, Any]:
        return {
            "notice_id": number,
            "kind": "disk_low",
            "about": "disk",
            "text": "full\x1b[2J",
            "began_at": began,
            "ended_at": ended,
        }

    known: dict[int, str | None] = {}
    assert list(news(known, [notice(2, "T2"), notice(1, "T1", "T1")])) == [
        "T1  disk_low: full\N{REPLACEMENT CHARACTER}[2J",
        "T2  disk_low: full\N{REPLACEMENT CHARACTER}[2J",
    ]
    assert list(news(known, [notice(2, "T2"), notice(1, "T1", "T1")])) == []
    assert list(news(known, [notice(2, "T2", "T3")])) == ["T3  disk_low: over, disk"]
    assert list(news(known, [notice(2, "T2", "T3")])) == []
