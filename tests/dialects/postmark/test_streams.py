"""Message streams: made, edited, archived, and what mail each type takes."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.actions.accept import Submission, accept_message
from postroom.actions.messages import show_message
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.core.stream import PURPOSES, StreamType
from postroom.errors import Invalid
from postroom.mail.content import Mailbox
from postroom.mail.unsubscribe import DEFAULT_OFFER, Offer, offer_for
from tests.dialects.postmark.conftest import Postmark

NEWS: dict[str, Any] = {"ID": "news", "Name": "News", "MessageStreamType": "Broadcasts"}
DAY_S = 86_400


async def test_with_custom_handling_nothing_is_added(postmark: Postmark) -> None:
    handling = {"SubscriptionManagementConfiguration": {"UnsubscribeHandlingType": "Custom"}}
    await postmark.ok(
        "POST", "/message-streams", {"ID": "own", "Name": "O", "MessageStreamType": "Broadcasts", **handling}
    )
    mail = {"From": "hello@shop.example", "To": "ann@example.net", "HtmlBody": "<p>Hi", "TextBody": "Hi"}
    house, offers = postmark.house, []
    for stream, text in (("own", "Hi"), ("broadcast", "Hi"), ("own", "{{{ pm:unsubscribe }}}")):
        sent = await postmark.ok("POST", "/email", {**mail, "MessageStream": stream, "TextBody": text})
        owner = Owner(house.account, house.channel)
        seen = await show_message(house.ctx, owner, sent["MessageID"], with_content=True)
        assert seen.content is not None
        offers.append(offer_for(seen.content, DEFAULT_OFFER, bulk=True))
    assert offers == [None, DEFAULT_OFFER, Offer(header=False, footer=False)]


async def test_a_server_has_three_streams(postmark: Postmark) -> None:
    listed = await postmark.ok("GET", "/message-streams")
    assert listed["TotalCount"] == 3
    assert {one["ID"]: one["MessageStreamType"] for one in listed["MessageStreams"]} == {
        "outbound": "Transactional",
        "inbound": "Inbound",
        "broadcast": "Broadcasts",
    }
    handling = {one["ID"]: one["SubscriptionManagementConfiguration"] for one in listed["MessageStreams"]}
    assert handling["broadcast"] == {"UnsubscribeHandlingType": "Postmark"}
    assert handling["outbound"] == handling["inbound"] == {"UnsubscribeHandlingType": "None"}


async def test_a_stream_from_its_making_to_its_archiving(postmark: Postmark) -> None:
    made = await postmark.ok("POST", "/message-streams", {**NEWS, "Description": "Once\na week"})
    created = made["CreatedAt"]
    assert created.endswith(("-05:00", "-04:00"))
    assert made == {
        "ID": "news",
        "ServerID": postmark.house.channel,
        "Name": "News",
        "Description": "Once\na week",
        "MessageStreamType": "Broadcasts",
        "CreatedAt": created,
        "UpdatedAt": None,
        "ArchivedAt": None,
        "ExpectedPurgeDate": None,
        "SubscriptionManagementConfiguration": {"UnsubscribeHandlingType": "Postmark"},
    }
    assert await postmark.ok("GET", "/Message-Streams/NEWS/") == made
    postmark.house.harness.clock.advance(60)
    edited = await postmark.ok("PATCH", "/message-streams/news", {"Name": "The news"})
    assert edited["UpdatedAt"] > created
    assert edited == made | {"Name": "The news", "UpdatedAt": edited["UpdatedAt"]}
    assert (
        await postmark.ok("PATCH", "/message-streams/news", {"name": "The news", "description": None})
        == edited
    )
    assert await postmark.ok("PATCH", "/message-streams/news") == edited
    custom = {"Description": "", "SubscriptionManagementConfiguration": {"unsubscribeHandlingType": "custom"}}
    changed = await postmark.ok("PATCH", "/message-streams/news", custom)
    assert changed["Description"] is None
    assert changed["SubscriptionManagementConfiguration"] == {"UnsubscribeHandlingType": "Custom"}
    gone = await postmark.ok("POST", "/message-streams/news/archive", {})
    assert set(gone) == {"ID", "ServerID", "ExpectedPurgeDate"}
    assert await postmark.ok("POST", "/message-streams/news/archive") == gone
    shown = await postmark.ok("GET", "/message-streams/news")
    assert shown["ExpectedPurgeDate"] == gone["ExpectedPurgeDate"] > shown["ArchivedAt"] > created


async def test_lists_by_type_and_with_the_archived_ones(postmark: Postmark) -> None:
    await postmark.ok("POST", "/message-streams", NEWS)
    await postmark.ok("POST", "/message-streams/news/archive")
    for query, ids in (
        ("", ["broadcast", "inbound", "outbound"]),
        ("?IncludeArchivedStreams=True", ["broadcast", "inbound", "news", "outbound"]),
        ("?messagestreamtype=broadcasts&includearchivedstreams=1", ["broadcast", "news"]),
        ("?MessageStreamType=Inbound", ["inbound"]),
        ("?MessageStreamType=&IncludeArchivedStreams=", ["broadcast", "inbound", "outbound"]),
    ):
        listed = await postmark.ok("GET", f"/message-streams{query}")
        assert [one["ID"] for one in listed["MessageStreams"]] == ids
        assert listed["TotalCount"] == len(ids)
    await postmark.refused(1221, "GET", "/message-streams?MessageStreamType=Fast")
    await postmark.refused(403, "GET", "/message-streams?IncludeArchivedStreams=perhaps")


WRONG: list[tuple[int, dict[str, object]]] = [
    (1222, {"ID": None}),
    (1222, {"ID": ""}),
    (403, {"ID": ["x"]}),
    (1227, {"ID": "News"}),
    (1227, {"ID": "1news"}),
    (1227, {"ID": "n" * 31}),
    (1227, {"ID": "né"}),
    (1227, {"ID": "a b"}),
    (1227, {"ID": "a\u0000"}),
    (1233, {"ID": "pm-news"}),
    (1237, {"ID": "all"}),
    (1230, {"ID": "outbound"}),
    (1230, {"ID": "inbound"}),
    (1223, {"Name": None}),
    (1223, {"Name": " "}),
    (1224, {"Name": "n" * 101}),
    (403, {"Name": "a\u0000b"}),
    (1221, {"MessageStreamType": None}),
    (1221, {"MessageStreamType": "Fast"}),
    (1221, {"MessageStreamType": 1}),
    (1228, {"MessageStreamType": "Inbound"}),
    (1231, {"Description": "d" * 1001}),
    (1234, {"Description": "It is <b>bold</b>"}),
    (403, {"Description": "a\u0000b"}),
    (403, {"Description": {}}),
    (403, {"SubscriptionManagementConfiguration": "None"}),
    (1240, {"SubscriptionManagementConfiguration": {"UnsubscribeHandlingType": "Yes"}}),
    (1239, {"SubscriptionManagementConfiguration": {"UnsubscribeHandlingType": "None"}}),
    (
        1239,
        {
            "MessageStreamType": "Transactional",
            "SubscriptionManagementConfiguration": {"UnsubscribeHandlingType": "Postmark"},
        },
    ),
]


async def test_w17_what_is_wrong_with_a_stream_has_its_code(postmark: Postmark) -> None:
    for code, change in WRONG:
        await postmark.refused(code, "POST", "/message-streams", {**NEWS, **change})
    assert (await postmark.ok("GET", "/message-streams"))["TotalCount"] == 3
    await postmark.refused(1222, "POST", "/message-streams")
    await postmark.refused(402, "POST", "/message-streams", [NEWS])
    await postmark.refused(402, "PATCH", "/message-streams/outbound", [NEWS])
    before = await postmark.ok("GET", "/message-streams/outbound")
    for code, change in WRONG:
        if code in (1224, 1231, 1234, 1240):
            await postmark.refused(code, "PATCH", "/message-streams/outbound", change)
    assert await postmark.ok("GET", "/message-streams/outbound") == before


async def test_a_stream_that_is_not_there(postmark: Postmark) -> None:
    foreign = postmark.house.foreign_key
    await postmark.ok("POST", "/message-streams", NEWS, token=foreign)
    for name in ("news", "nothing", "%00", "x" * 100, "a%20b"):
        for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/archive"), ("POST", "/unarchive")):
            await postmark.refused(1226, method, f"/message-streams/{name}{path}")


async def test_ten_streams_at_most_archived_ones_aside(postmark: Postmark) -> None:
    for number in range(7):
        await postmark.ok("POST", "/message-streams", {**NEWS, "ID": f"news-{number}"})
    await postmark.refused(1225, "POST", "/message-streams", NEWS)
    await postmark.ok("POST", "/message-streams/news-0/archive")
    await postmark.ok("POST", "/message-streams", NEWS)
    await postmark.refused(1225, "POST", "/message-streams/news-0/unarchive")
    await postmark.refused(1230, "POST", "/message-streams", {**NEWS, "ID": "news-0"})


async def test_the_defaults_stay_and_what_is_archived_too_long_is_gone(postmark: Postmark) -> None:
    for name in ("outbound", "inbound"):
        await postmark.refused(1229, "POST", f"/message-streams/{name}/archive")
    await postmark.ok("POST", "/message-streams/broadcast/archive")
    postmark.house.harness.clock.advance(45 * DAY_S - 1)
    back = await postmark.ok("POST", "/message-streams/broadcast/unarchive")
    assert (back["ArchivedAt"], back["ExpectedPurgeDate"]) == (None, None)
    assert await postmark.ok("POST", "/message-streams/broadcast/unarchive") == back
    await postmark.ok("POST", "/message-streams/broadcast/archive")
    postmark.house.harness.clock.advance(45 * DAY_S)
    await postmark.refused(1232, "POST", "/message-streams/broadcast/unarchive")


async def test_a_streams_type_says_what_mail_it_takes(postmark: Postmark) -> None:
    assert PURPOSES == {
        StreamType.TRANSACTIONAL: Purpose.TRANSACTIONAL,
        StreamType.BROADCAST: Purpose.BROADCAST,
    }
    house = postmark.house
    await postmark.ok("POST", "/message-streams", NEWS)

    async def send(purpose: Purpose) -> None:
        to = [Mailbox("ann@example.net")]
        await accept_message(
            house.ctx, Submission(house.account, house.channel, purpose, "test", to, text="x", stream="news")
        )

    await send(Purpose.BROADCAST)
    with pytest.raises(Invalid, match="not a stream for transactional mail"):
        await send(Purpose.TRANSACTIONAL)
    await postmark.ok("POST", "/message-streams/news/archive")
    with pytest.raises(Invalid, match="is not a stream of this server"):
        await send(Purpose.BROADCAST)
    await postmark.ok("POST", "/message-streams/news/unarchive")
    await send(Purpose.BROADCAST)


async def test_w19_streams_need_their_scopes(postmark: Postmark) -> None:
    reader = await postmark.house.key("channel_settings_read", "subscribers_read")
    await postmark.ok("GET", "/message-streams", token=reader)
    await postmark.ok("GET", "/message-streams/outbound/suppressions/dump", token=reader)
    await postmark.refused(10, "POST", "/message-streams", NEWS, token=reader)
    person = {"Suppressions": [{"EmailAddress": "ann@example.net"}]}
    await postmark.refused(10, "POST", "/message-streams/outbound/suppressions", person, token=reader)
