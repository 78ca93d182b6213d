"""Opens and clicks as they are listed: the first of a person, by every filter, of one message, in bounds."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.actions import hits, looking
from postroom.actions.hits import Hit
from postroom.clock import MICROS
from postroom.ids import DeliveryId
from postroom.storage import hit_search
from postroom.storage import looking as stored_looking
from postroom.storage.interface import Sql, Work
from tests.dialects.postmark.conftest import Postmark
from tests.support.stores import on_both

OPENS, CLICKS = "/messages/outbound/opens", "/messages/outbound/clicks"
LINKS = '<p><a href="https://shop.example/a">a</a> <a href="https://shop.example/b">b</a>'
NOWHERE = {
    "Client": {"Name": "", "Company": "", "Family": ""},
    "OS": {"Name": "", "Company": "", "Family": ""},
    "Platform": "Unknown",
    "Geo": dict.fromkeys(
        ("CountryISOCode", "Country", "RegionISOCode", "Region", "City", "Zip", "Coords", "IP"), ""
    ),
}


async def send(postmark: Postmark, **fields: object) -> tuple[str, list[DeliveryId]]:
    """A tracked message: its number, and its deliveries."""
    body = {
        "From": "hello@shop.example", "To": "ann@example.net", "Subject": "Hello", "HtmlBody": LINKS,
        "TextBody": "See https://shop.example/b now", "TrackOpens": True, "TrackLinks": "HtmlAndText",
        **fields,
    }  # fmt: skip
    number = (await postmark.ok("POST", "/email", body))["MessageID"]

    def work() -> Work[list[DeliveryId]]:
        rows = yield Sql(
            "SELECT d.delivery_id FROM deliveries d JOIN messages m ON m.message_id = d.message_id"
            " WHERE m.public_id = :number ORDER BY d.delivery_id",
            {"number": number},
        )
        return [row[0] for row in rows]

    return number, await postmark.house.ctx.store.read(work)


async def hit(postmark: Postmark, delivery: DeliveryId, link: int | None = None, **more: Any) -> None:
    clock = postmark.house.harness.clock
    clock.advance(1)
    one = Hit(delivery, link, clock.now_us(), more.pop("user_agent", "Mail/1.0"), "192.0.2.1", **more)
    await hits.record(postmark.house.ctx, [one])


async def found(postmark: Postmark, path: str, query: str = "") -> list[str]:
    """Who, and for a click where to, newest first."""
    told = await postmark.ok("GET", f"{path}?count=50&offset=0{query}")
    rows = told["Clicks" if "clicks" in path else "Opens"]
    assert told["TotalCount"] == len(rows)
    return [f"{one['Recipient']} {one.get('OriginalLink', '')}".strip() for one in rows]


@on_both
async def test_only_the_first_time_of_a_person_is_told(postmark: Postmark) -> None:
    number, (ann, bob) = await send(postmark, To="Ann@example.net, bob@example.net", Tag="sale")
    await hit(postmark, ann, user_agent="Scanner/1", machine="agent")
    assert await found(postmark, OPENS) == []
    await hit(postmark, ann)
    first = postmark.house.harness.clock.now_us()
    await hit(postmark, ann, user_agent="Web/2.0")
    await hit(postmark, bob, 1, in_text=True, user_agent="Web/2.0")
    await hit(postmark, bob, 1)
    told = await postmark.ok("GET", f"{OPENS}?count=9&offset=0")
    (shown,) = told["Opens"]
    received = shown.pop("ReceivedAt")
    common = {**NOWHERE, "MessageID": number, "MessageStream": "outbound", "Tag": "sale"}
    expected = {"RecordType": "Open", "FirstOpen": True, "ReadSeconds": 0, "UserAgent": "Mail/1.0"}
    assert shown == {**common, **expected, "Recipient": "Ann@example.net"}
    assert f"{first % MICROS:06d}" in received
    (click,) = (await postmark.ok("GET", f"{CLICKS}?count=9&offset=0"))["Clicks"]
    del click["ReceivedAt"]
    expected = {"RecordType": "Click", "ClickLocation": "Text", "OriginalLink": "https://shop.example/b"}
    assert click == {**common, **expected, "UserAgent": "Web/2.0", "Recipient": "bob@example.net"}
    events = (await postmark.ok("GET", f"/messages/outbound/{number}/details"))["MessageEvents"]
    links = {one["Details"]["Link"] for one in events if one["Type"] == "LinkClicked"}
    assert links == {"https://shop.example/b"}
    assert (await postmark.ok("GET", f"{OPENS}?count=9&offset=0", token=postmark.house.foreign_key))[
        "Opens"
    ] == []


@on_both
async def test_every_filter_and_one_message_alone(
    postmark: Postmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, (ann,) = await send(postmark, Tag="odd")
    two, (bob, carl) = await send(
        postmark, To="bob@example.net", Cc="carl@example.net", TrackLinks="HtmlOnly"
    )
    for who in (ann, bob, carl):
        await hit(postmark, who)
        await hit(postmark, who, 0)
    await hit(postmark, ann, 1)
    day = (await postmark.ok("GET", f"{OPENS}?count=1&offset=0"))["Opens"][0]["ReceivedAt"][:10]
    everybody = ["carl@example.net", "bob@example.net", "ann@example.net"]
    for query in (
        "",
        "&platform=unknown",
        f"&fromdate={day}&todate={day}",
        "&client_name=&messagestream=OUTBOUND",
    ):
        assert await found(postmark, OPENS, query) == everybody
    assert await found(postmark, OPENS, "&tag=odd") == ["ann@example.net"]
    assert await found(postmark, OPENS, "&recipient=Bob@Example.net") == ["bob@example.net"]
    for query in ("&recipient=x", "&messagestream=broadcast", "&todate=2001-01-01", "&fromdate=2101-01-01"):
        assert await found(postmark, OPENS, query) == []
    for query in ("&client_name=Gmail", "&OS_Family=Linux", "&country=Poland", "&platform=Mobile"):
        assert await found(postmark, CLICKS, query) == []
    a, b = "https://shop.example/a", "https://shop.example/b"
    of_ann = [f"ann@example.net {b}", f"ann@example.net {a}"]
    assert await found(postmark, CLICKS) == [
        of_ann[0],
        f"carl@example.net {a}",
        f"bob@example.net {a}",
        of_ann[1],
    ]
    assert await found(postmark, f"{CLICKS}/{one}") == of_ann
    assert await found(postmark, f"{OPENS}/{two.upper()}") == everybody[:2]
    page = await postmark.ok("GET", f"{OPENS}?count=1&offset=1")
    assert (page["TotalCount"], [one["Recipient"] for one in page["Opens"]]) == (3, ["bob@example.net"])
    monkeypatch.setattr(stored_looking, "SLICE", 2)
    assert await found(postmark, OPENS) == everybody
    monkeypatch.setattr(looking, "MOST_SLICES", 2)
    assert await found(postmark, OPENS) == everybody[:1]


async def test_bad_queries_and_messages_of_others(postmark: Postmark) -> None:
    number, _ = await send(postmark)
    for path in (OPENS, CLICKS, f"{OPENS}/{number}", f"{CLICKS}/{number}"):
        for query in ("", "?count=1", "?count=0&offset=0", "?count=501&offset=0", "?count=1&offset=10000"):
            await postmark.refused(700, "GET", path + query)
    await postmark.refused(700, "GET", f"{OPENS}?count=1&offset=0&todate=soon")
    page = "?count=1&offset=0"
    for other in ("x", "1", "%00", "00000000-0000-4000-8000-000000000000"):
        assert "not found" in await postmark.refused(701, "GET", f"{CLICKS}/{other}{page}")
    await postmark.refused(701, "GET", f"{OPENS}/{number}{page}", token=postmark.house.foreign_key)


async def test_a_look_reads_one_range_of_the_index_of_people(postmark: Postmark) -> None:
    house = postmark.house
    wanted = hit_search.Wanted(True, "outbound", "ann@example.net", 1, 2)
    unit = hit_search.look(house.account, house.channel, wanted, (5, DeliveryId(1), 0))
    for statement in (next(unit), unit.send([])):
        assert isinstance(statement, Sql)
        text, params = f"EXPLAIN QUERY PLAN {statement.text}", statement.params

        def work(text: str = text, params: Any = params) -> Work[list[str]]:
            rows = yield Sql(text, params)
            return [str(row[3]) for row in rows]

        plan = await house.ctx.store.read(work)
        assert any("SEARCH hits USING" in step and "ix_hits_people" in step for step in plan), plan
        assert not [step for step in plan if step.startswith("SCAN hits") or "TEMP B-TREE" in step], plan
