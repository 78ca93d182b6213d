"""Messages that were sent: every filter, pages, details with events, the source; in bounded looks."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.actions import finding, message_search
from postroom.storage.interface import Sql, Work
from tests.dialects.postmark.conftest import Postmark
from tests.support.stores import on_both

pytestmark = on_both

FROM = "Shop <hello@shop.example>"
LIST = "/messages/outbound"
DAY_S = 86_400


async def send(postmark: Postmark, **fields: object) -> str:
    body = {"From": FROM, "To": "ann@example.net", "Subject": "Hello", "TextBody": "Hi", **fields}
    return str((await postmark.ok("POST", "/email", body))["MessageID"])


async def found(postmark: Postmark, query: str = "", **more: Any) -> list[str]:
    told = await postmark.ok("GET", f"{LIST}?count=50&offset=0{query}", **more)
    assert told["TotalCount"] == len(told["Messages"])
    return [one["MessageID"] for one in told["Messages"]]


async def do(postmark: Postmark, text: str, **params: object) -> None:
    def work() -> Work[None]:
        yield Sql(text, params)

    await postmark.house.ctx.store.write(work)


async def test_a_message_shows_what_was_sent_at_once(postmark: Postmark) -> None:
    number = await send(
        postmark,
        To='"Smith, Ann" <ann@example.net>, bob@example.net',
        Cc="carl@example.net",
        Bcc="Dora <dora@example.net>",
        Tag="welcome",
        Metadata={"Order": "17"},
        HtmlBody="<p>Hi",
        TrackOpens=True,
        TrackLinks="HtmlOnly",
        Attachments=[{"Name": "a.txt", "Content": "aGk=", "ContentType": "text/plain"}],
    )
    told = await postmark.ok("GET", f"{LIST}?count=1&offset=0")
    (message,) = told["Messages"]
    assert message.pop("ReceivedAt").endswith(("-05:00", "-04:00"))
    expected = {
        "Tag": "welcome",
        "MessageID": number,
        "MessageStream": "outbound",
        "To": [
            {"Email": "ann@example.net", "Name": "Smith, Ann"},
            {"Email": "bob@example.net", "Name": None},
        ],
        "Cc": [{"Email": "carl@example.net", "Name": None}],
        "Bcc": [{"Email": "dora@example.net", "Name": "Dora"}],
        "Recipients": ["ann@example.net", "bob@example.net", "carl@example.net", "dora@example.net"],
        "From": '"Shop" <hello@shop.example>',
        "Subject": "Hello",
        "Attachments": ["a.txt"],
        "Status": "Queued",
        "TrackOpens": True,
        "TrackLinks": "HtmlOnly",
        "Metadata": {"Order": "17"},
        "Sandboxed": False,
    }
    assert message == expected
    shown = await postmark.ok("GET", f"{LIST}/{number.upper()}/details")
    assert {name: shown[name] for name in expected} == expected
    assert (shown["TextBody"], shown["HtmlBody"], shown["MessageEvents"]) == ("Hi", "<p>Hi", [])
    assert "Subject: Hello\r\n" in shown["Body"]
    assert "dora" not in shown["Body"]
    assert await postmark.ok("GET", f"{LIST}/{number}/dump") == {"Body": shown["Body"]}


async def test_every_filter(postmark: Postmark) -> None:
    plain = await send(postmark)
    tagged = await send(
        postmark, Tag='we"l%come', Metadata={"Order": "ü\\17"}, To="Bob@Example.net", Subject="100% Off"
    )
    other = await send(postmark, From="other@shop.example", Tag="x", Metadata={"x": "Order"})
    news = await send(postmark, MessageStream="broadcast")
    assert await found(postmark) == [other, tagged, plain]
    assert await found(postmark, "&MessageStream=Broadcast") == [news]
    assert await found(postmark, "&messagestream=nothing") == []
    assert await found(postmark, "&recipient=bob@example.net") == [tagged]
    assert await found(postmark, "&recipient=nobody") == []
    assert await found(postmark, "&FromEmail=OTHER@shop.example") == [other]
    assert await found(postmark, "&tag=we%22l%25come") == [tagged]
    assert await found(postmark, "&tag=we") == []
    assert await found(postmark, "&metadata_order=%C3%BC%5C17") == [tagged]
    assert await found(postmark, "&metadata_x=Order&tag=x") == [other]
    assert await found(postmark, "&metadata_order=Order") == []
    assert await found(postmark, "&subject=100%25%20OFF") == [tagged]
    assert await found(postmark, "&status=queued") == [other, tagged, plain]
    await do(
        postmark,
        "UPDATE deliveries SET state = 'sent' WHERE message_id ="
        " (SELECT message_id FROM messages WHERE public_id = :id)",
        id=tagged,
    )
    assert await found(postmark, "&status=sent") == await found(postmark, "&status=Processed") == [tagged]
    assert await found(postmark, "&status=queued") == [other, plain]
    assert await found(postmark, token=postmark.house.foreign_key) == []


async def test_dates_are_eastern_days_with_both_ends(postmark: Postmark) -> None:
    clock = postmark.house.harness.clock
    first = await send(postmark)
    (message,) = (await postmark.ok("GET", f"{LIST}?count=1&offset=0"))["Messages"]
    day = message["ReceivedAt"][:10]
    clock.advance(2 * DAY_S)
    second = await send(postmark)
    assert await found(postmark, f"&todate={day}") == [first]
    assert await found(postmark, f"&fromdate={day}") == [second, first]
    assert await found(postmark, f"&fromdate={day}&todate={day}") == [first]
    assert await found(postmark, f"&fromdate={message['ReceivedAt'][:19]}&todate={day}T23:59:59") == [first]
    assert await found(postmark, "&todate=2001-1-1") == []
    assert await found(postmark, "&fromdate=2101-01-01") == []


async def test_pages_and_their_limits(postmark: Postmark) -> None:
    sent = [await send(postmark, Subject=str(n)) for n in range(5)]
    told = await postmark.ok("GET", f"{LIST}?count=2&offset=1")
    assert told["TotalCount"] == 5
    assert [one["MessageID"] for one in told["Messages"]] == [sent[3], sent[2]]
    queries = ("", "?count=1", "?offset=0", "?count=0&offset=0", "?count=501&offset=0", "?count=x&offset=0")
    wrong = ("offset=-1", "offset=10000", "offset=0&status=lost", "offset=0&fromdate=yesterday")
    for query in (*queries, *(f"?count=1&{one}" for one in wrong)):
        await postmark.refused(700, "GET", f"{LIST}{query}")


async def test_a_search_is_bounded_only_where_no_index_knows_what_is_asked(
    postmark: Postmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FIRST_SLICE", 1), ("SLICE", 2), ("MOST_LOOKED", 5)):
        monkeypatch.setattr(finding, name, value)
    sent = [await send(postmark, Tag="odd" if n % 2 else "even") for n in range(9)]
    assert await found(postmark) == sent[::-1]
    assert await found(postmark, "&tag=odd") == sent[1::2][::-1]
    assert await found(postmark, "&subject=hello") == sent[:3:-1]
    assert await found(postmark, "&subject=hello&tag=odd") == sent[1::2][::-1]
    monkeypatch.setattr(message_search, "MOST_FOUND", 3)
    assert await found(postmark) == sent[:5:-1]


async def test_events_say_what_became_of_each_recipient(postmark: Postmark) -> None:
    number = await send(postmark)
    rows = [
        ("sent", '{"attempt":1}'),
        ("deferred", '{"attempt":1,"phase":"rcpt","code":451,"text":"4.2.0 Later"}'),
        ("bounced", '{"attempt":2,"phase":"rcpt","code":550,"text":"5.1.1 Nobody"}'),
        ("opened", '{"first":true,"user_agent":"Mail/1.0","source":"192.0.2.1"}'),
        ("clicked", '{"first":true,"user_agent":"Web/1.0","source":"192.0.2.1","link":0,"part":"text"}'),
        ("unsubscribed", "{}"),
        ("waiting", "{}"),
    ]
    await do(postmark, "UPDATE deliveries SET state = 'sent', reason = '2.0.0 Taken'")
    for kind, data in rows:
        await do(
            postmark,
            "INSERT INTO events (account_id, server_id, message_id, delivery_id, kind, at, data)"
            " SELECT account_id, server_id, message_id, delivery_id, :kind, 0, :data FROM deliveries",
            kind=kind,
            data=data,
        )
    told = (await postmark.ok("GET", f"{LIST}/{number}/details"))["MessageEvents"]
    assert {one["Recipient"] for one in told} == {"ann@example.net"}
    assert [(one["Type"], one["Details"]) for one in told] == [
        ("SubscriptionChanged", {"Origin": "Recipient", "SuppressSending": "True"}),
        ("LinkClicked", {"Summary": "Link clicked with Web/1.0", "Link": "", "ClickLocation": "Text"}),
        ("Opened", {"Summary": "Email opened with Mail/1.0"}),
        ("Bounced", {"Summary": "5.1.1 Nobody", "BounceID": ""}),
        ("Transient", {"DeliveryMessage": "4.2.0 Later", "DestinationServer": "", "DestinationIP": ""}),
        ("Delivered", {"DeliveryMessage": "2.0.0 Taken", "DestinationServer": "", "DestinationIP": ""}),
    ]


async def test_what_a_sandbox_keeps_was_delivered_there(postmark: Postmark) -> None:
    number = await send(postmark)
    await do(postmark, "UPDATE servers SET sandbox = 1")
    shown = await postmark.ok("GET", f"{LIST}/{number}/details")
    assert (shown["Sandboxed"], shown["Status"]) == (True, "Sent")
    assert [one["Type"] for one in shown["MessageEvents"]] == ["Delivered"]
    assert await found(postmark, "&status=sent") == [number]
    assert await found(postmark, "&status=queued") == []


async def test_what_is_not_there_and_what_is_anothers_look_the_same(postmark: Postmark) -> None:
    number = await send(postmark)
    for call in ("details", "dump"):
        for wanted in ("x", "1", "00000000-0000-4000-8000-000000000000", "<1@shop.example>"):
            assert "not found" in await postmark.refused(701, "GET", f"{LIST}/{wanted}/{call}")
        await postmark.refused(701, "GET", f"{LIST}/{number}/{call}", token=postmark.house.foreign_key)
