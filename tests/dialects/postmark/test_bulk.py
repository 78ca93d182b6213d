"""Bulks: accepted whole, made into messages in the background, and what a kill in the middle does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from postroom.actions import bulks, servers, suppressions
from postroom.actions.bulks import PutOff
from postroom.actions.context import Context
from postroom.actions.submission import Submission
from postroom.core.bulk import Bulk, BulkSlice
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.dialects.postmark.bulk_reading import read_slice
from postroom.dialects.postmark.mail_fields import ORIGIN
from postroom.engine.bulk_feed import BulkFeed
from postroom.errors import NotFound, Unavailable
from postroom.ids import ServerId
from postroom.storage.interface import Rows, Sql, Work
from tests.dialects.broadcast.conftest import GOOD
from tests.dialects.house import House, build_house
from tests.dialects.postmark.conftest import SERVER_TOKEN, Postmark
from tests.dialects.postmark.test_sending import stored
from tests.dialects.postmark.test_templates import LAYOUT, WELCOME
from tests.support.context import ACTOR
from tests.support.stores import on_both

BULK = "/email/bulk"
FROM = "Shop <hello@shop.example>"
NEWS: dict[str, Any] = {
    "From": FROM,
    "Subject": "News for {{name}}",
    "HtmlBody": "<p>Hi {{name}}",
    "TextBody": "Hi {{name}}",
}


def people(count: int, start: int = 0) -> list[dict[str, object]]:
    """Messages to so many, each with a name."""
    return [
        {"To": f"p{number}@example.net", "TemplateModel": {"name": f"P{number}"}}
        for number in range(start, start + count)
    ]


def feed_of(ctx: Context) -> BulkFeed:
    return BulkFeed(ctx, {ORIGIN: read_slice})


async def asked(ctx: Context, text: str) -> Rows:
    def work() -> Work[Rows]:
        return (yield Sql(text))

    return await ctx.store.read(work)


async def recipients(ctx: Context) -> list[str]:
    return [row[0] for row in await asked(ctx, "SELECT recipient FROM deliveries ORDER BY delivery_id")]


async def first_message(postmark: Postmark) -> str:
    rows = await asked(postmark.house.ctx, "SELECT public_id FROM messages ORDER BY message_id LIMIT 1")
    return str(rows[0][0])


async def test_a_bulk_from_its_sending_to_its_end(postmark: Postmark) -> None:
    house = postmark.house
    await suppressions.suppress(
        house.ctx, ACTOR, Owner(house.account, house.channel), house.channel, ["p1@example.net"]
    )
    unfit = {"To": "p9@example.net", "TemplateModel": {"name": "two\nlines"}}
    told = await postmark.ok("POST", BULK, {**NEWS, "Messages": [*people(120), unfit]})
    assert told["ID"] == told["Id"]
    assert {**told, "Id": "", "ID": "", "SubmittedAt": ""} == {
        "Id": "",
        "ID": "",
        "SubmittedAt": "",
        "Status": "Accepted",
        "TotalMessages": 121,
        "PercentageCompleted": 0,
        "ReleasedCount": 0,
        "FailedCount": 0,
        "Subject": "News for {{name}}",
    }
    assert await recipients(house.ctx) == []
    del told["ID"]
    path = f"{BULK}/{told['Id'].upper()}/"
    assert await postmark.ok("GET", path) == told
    (bulk,) = await bulks.open_bulks(house.ctx)
    await one_slice(house.ctx, bulk)
    assert await postmark.ok("GET", path) == told | {
        "Status": "Processing",
        "PercentageCompleted": 41,
        "ReleasedCount": 49,
        "FailedCount": 1,
    }
    assert await feed_of(house.ctx).run_once() == 2
    assert await postmark.ok("GET", path) == told | {
        "Status": "Completed",
        "PercentageCompleted": 100,
        "ReleasedCount": 119,
        "FailedCount": 2,
    }
    assert await recipients(house.ctx) == [f"p{number}@example.net" for number in range(120) if number != 1]
    # Nothing of the request itself is left.
    assert await asked(house.ctx, "SELECT LENGTH(shared) FROM bulks") == [(0,)]
    assert await asked(house.ctx, "SELECT COUNT(*) FROM bulk_slices") == [(0,)]


async def one_slice(ctx: Context, bulk: Bulk) -> bool:
    """As the feed makes one."""
    found = await bulks.next_slice(ctx, bulk)
    assert found is not None
    shared, part = found
    return await bulks.release(ctx, bulk, part, await read_slice(ctx, bulk, shared, part))


async def test_what_a_message_of_a_bulk_is(postmark: Postmark) -> None:
    await postmark.ok(
        "POST", "/message-streams", {"ID": "news", "Name": "N", "MessageStreamType": "Broadcasts"}
    )
    style = "<style>p { color: red }</style>"
    await postmark.ok(
        "POST",
        BULK,
        {
            **NEWS,
            "HtmlBody": f"{style}<p>Hi {{{{name}}}}</p>",
            "InlineCss": True,
            "ReplyTo": "back@shop.example",
            "Tag": "weekly",
            "Metadata": {"a": "1", "b": "2"},
            "Headers": [{"Name": "X-A", "Value": "1"}, {"Name": "X-B", "Value": "2"}],
            "TrackOpens": True,
            "MessageStream": "News",
            "Attachments": [{"Name": "a.txt", "Content": "aGk=", "ContentType": "text/plain"}],
            "Messages": [
                {
                    "to": "Ann <ann@example.net>",
                    "Cc": "bob@example.net",
                    "TemplateModel": {"name": "<Ann>"},
                    "Metadata": {"B": "3"},
                    "Headers": [{"Name": "x-b", "Value": "3"}],
                }
            ],
        },
    )
    await feed_of(postmark.house.ctx).run_once()
    seen = await stored(postmark, await first_message(postmark))
    content, message = seen.content, seen.message
    assert content is not None
    assert (content.subject, content.text) == ("News for <Ann>", "Hi <Ann>")
    assert content.html is not None
    assert '<p style="color: red;">Hi &lt;Ann&gt;</p>' in content.html
    assert content.headers == (("X-A", "1"), ("x-b", "3"))
    assert [one.data for one in content.attachments] == [b"hi"]
    assert content.track_opens
    assert (message.stream, message.purpose, message.origin) == ("news", Purpose.BROADCAST, ORIGIN)
    assert message.options["metadata"] == {"a": "1", "B": "3"}
    assert (message.options["to"], message.options["tag"]) == ("Ann <ann@example.net>", "weekly")
    assert message.options["files"] == ["a.txt"]
    assert {one.recipient for one in seen.deliveries} == {"ann@example.net", "bob@example.net"}


async def test_a_template_is_as_it_was_when_the_bulk_was_accepted(postmark: Postmark) -> None:
    await postmark.ok("POST", "/templates", LAYOUT)
    await postmark.ok("POST", "/templates", {**WELCOME, "LayoutTemplate": "frame"})
    sent = {"From": FROM, "TemplateAlias": "welcome", "Messages": people(1)}
    assert (await postmark.ok("POST", BULK, sent))["Subject"] == "Hello {{name}}"
    await postmark.ok("PUT", "/templates/frame", {"TextBody": "changed {{{@content}}}"})
    await postmark.ok("DELETE", "/templates/welcome")
    await feed_of(postmark.house.ctx).run_once()
    content = (await stored(postmark, await first_message(postmark))).content
    assert content is not None
    assert (content.subject, content.text) == ("Hello P0", "Hi P0\n-- \n")


async def test_bulks_are_listed_page_by_page(postmark: Postmark) -> None:
    assert await postmark.ok("GET", BULK) == {"Requests": []}
    made = [
        (await postmark.ok("POST", BULK, {**NEWS, "Subject": None, "Messages": people(1)}))["Id"]
        for _ in range(3)
    ]
    first = await postmark.ok("GET", f"{BULK}?count=2")
    assert [one["Id"] for one in first["Requests"]] == [made[2], made[1]]
    assert "Subject" not in first["Requests"][0]
    second = await postmark.ok("GET", f"{BULK}?count=2&paginationkey={first['PaginationKey']}")
    assert [one["Id"] for one in second["Requests"]] == [made[0]]
    assert "PaginationKey" not in second
    for key in ("x", "0", "-1", str(2**63), "9" * 40):
        await postmark.refused(13, "GET", f"{BULK}?PaginationKey={key}")
    for count in ("0", "501", "x", "-1"):
        await postmark.refused(403, "GET", f"{BULK}?count={count}")
    foreign, mine = postmark.house.foreign_key, postmark.house.server_key
    assert await postmark.ok("GET", BULK, token=foreign) == {"Requests": []}
    for path, token in ((made[0], foreign), ("nothing", mine), ("%00", mine)):
        answer = await postmark.call("GET", f"{BULK}/{path}", token=token)
        assert (answer.status_code, answer.json()["ErrorCode"]) == (404, 12)


async def test_a_bulk_with_anything_wrong_is_refused_whole(postmark: Postmark) -> None:
    for code, more in (
        (403, {"Messages": {}}),
        (403, {"Messages": "x"}),
        (403, {"From": []}),
        (403, {"InlineCss": "perhaps"}),
        (1226, {"MessageStream": "nothing"}),
        (1236, {"MessageStream": "outbound"}),
        (1236, {"MessageStream": "inbound"}),
        (300, {"Messages": []}),
        (300, {"Messages": None}),
        (300, {"HtmlBody": None, "TextBody": None}),
        (1122, {"TextBody": "{{#broken}}"}),
        (1101, {"TemplateId": 7, "Subject": None, "HtmlBody": None, "TextBody": None}),
        (1123, {"TemplateId": 7}),
        (411, {"Attachments": [{"Name": "a.exe", "Content": ""}]}),
        (300, {"Messages": [{"To": "nobody"}]}),
        (300, {"Messages": [{}]}),
        (403, {"Messages": ["x"]}),
        (403, {"Messages": [{"To": "a@example.net", "TemplateModel": "x"}]}),
        (1122, {"Messages": [{"To": "a@example.net", "TemplateModel": {"@content": 1}}]}),
        (300, {"Messages": [{"To": "a@example.net", "Headers": [{"Name": "Bcc", "Value": "x@x.example"}]}]}),
        (300, {"Metadata": {"a": "1"}, "Messages": [{"To": "a@example.net", "Metadata": {"b" * 21: "2"}}]}),
        (400, {"From": "a@stranger.example"}),
    ):
        await postmark.refused(code, "POST", BULK, {**NEWS, "Messages": people(1), **more})
    for nothing in (None, [NEWS]):
        await postmark.refused(402, "POST", BULK, nothing)
    several = [*people(2), {"To": "nobody"}, {"To": ""}]
    answer = await postmark.call("POST", BULK, {**NEWS, "Messages": several})
    said = answer.json()
    assert (answer.status_code, said["ErrorCode"]) == (422, 11)
    assert said["Errors"] == {
        "Messages[2]": [{"ErrorCode": 300, "Message": "Invalid 'To' address: 'nobody'."}],
        "Messages[3]": [{"ErrorCode": 300, "Message": "Zero recipients specified."}],
    }
    assert await asked(postmark.house.ctx, "SELECT COUNT(*) FROM bulks") == [(0,)]


async def test_w1_w17_models_of_a_bulk_as_hostile_as_json_may_be(postmark: Postmark) -> None:
    """Numbers of any length, depth, a million small values: taken as they are, or refused; never 500."""
    headers = {SERVER_TOKEN: postmark.house.server_key}

    async def sent(model: str, count: int = 1) -> tuple[int, int]:
        one = f'{{"To": "ann@example.net", "TemplateModel": {model}}}'
        body = f'{{"From": "{FROM}", "TextBody": "{{{{n}}}}", "Messages": [{", ".join([one] * count)}]}}'
        answer = await postmark.house.http.post(BULK, content=body, headers=headers)
        return answer.status_code, answer.json().get("ErrorCode", 0)

    for digits, codes in ((30, [0]), (4300, [0, 402]), (5000, [0, 402]), (400_000, [402])):
        status, code = await sent(f'{{"n": {"9" * digits}}}')
        assert status == (422 if code else 200)
        assert code in codes, digits
    assert await sent('{"n": 1e400}') == (422, 402)
    assert await sent('{"n": ' * 70 + "1" + "}" * 70) == (422, 402)
    # The application of these tests takes 1 MiB.
    assert await sent(f'{{"n": [{"1," * 600_000}1]}}') == (413, 413)
    assert (await sent(f'{{"n": [{"1," * 400_000}1]}}'))[0] == 200
    await feed_of(postmark.house.ctx).run_once()
    assert await bulks.open_bulks(postmark.house.ctx) == []


async def test_the_test_token_has_a_bulk_checked(postmark: Postmark) -> None:
    token = "POSTMARK_API_TEST"
    told = await postmark.ok("POST", BULK, {**NEWS, "Messages": people(2)}, token=token)
    assert (told["Status"], told["TotalMessages"]) == ("Accepted", 2)
    await postmark.refused(300, "POST", BULK, {**NEWS, "Messages": [{"To": "x"}]}, token=token)
    assert await asked(postmark.house.ctx, "SELECT COUNT(*) FROM bulks") == [(0,)]


async def test_a_bulk_waits_for_a_connection_that_may_carry_it(postmark: Postmark) -> None:
    """What the owner may set right again fails no message; asked anew, it is refused at once."""
    house, sent = postmark.house, {**NEWS, "Messages": people(2)}
    await postmark.ok("POST", BULK, sent)
    for_others = {"email_server": {**GOOD, "use_for_broadcasts": False, "use_for_transactionals": True}}
    made = await house.call("POST", "/api/v1/email_servers", for_others)
    assert made.status_code == 201, made.text
    assert await feed_of(house.ctx).run_once() == 0
    assert [one.done for one in await bulks.open_bulks(house.ctx)] == [0]
    answer = await postmark.call("POST", BULK, sent)
    assert (answer.status_code, answer.json()["ErrorCode"]) == (422, 405)
    path = f"/api/v1/email_servers/{made.json()['id']}"
    changed = await house.call("PATCH", path, {"email_server": {"use_for_broadcasts": True}})
    assert changed.status_code == 200, changed.text
    assert await feed_of(house.ctx).run_once() == 1
    assert await recipients(house.ctx) == ["p0@example.net", "p1@example.net"]


async def test_those_that_wait_are_in_nobodys_way(postmark: Postmark) -> None:
    """However many they are: each round looks at all that are open."""
    ctx = postmark.house.ctx
    for _ in range(53):
        await postmark.ok("POST", BULK, {**NEWS, "Messages": people(1)})
    able = {one.bulk_id for one in await bulks.open_bulks(ctx, after=51)}

    async def read(ctx: Context, bulk: Bulk, shared: bytes, part: BulkSlice) -> list[Any]:
        if bulk.bulk_id not in able:
            raise PutOff("not now")
        return await read_slice(ctx, bulk, shared, part)

    assert await BulkFeed(ctx, {ORIGIN: read}).run_once() == len(able) == 2


async def test_trouble_of_ours_fails_no_message(postmark: Postmark) -> None:
    house, ctx = postmark.house, postmark.house.ctx
    await postmark.ok("POST", BULK, {**NEWS, "Messages": people(2)})

    async def no_room(ctx: Context, bulk: Bulk, shared: bytes, part: BulkSlice) -> list[Any]:
        raise Unavailable("the disk is full")

    async def broken(ctx: Context, bulk: Bulk, shared: bytes, part: BulkSlice) -> list[Any]:
        raise RuntimeError("a fault of ours")

    with pytest.raises(Unavailable):
        await BulkFeed(ctx, {ORIGIN: no_room}).run_once()
    assert await BulkFeed(ctx, {ORIGIN: broken}).run_once() == 0
    assert await BulkFeed(ctx, {}).run_once() == 0
    assert [one.done for one in await bulks.open_bulks(ctx)] == [0]
    await postmark.ok("POST", BULK, {**NEWS, "Messages": people(1, 7)})
    await servers.delete_server(ctx, ACTOR, Owner(house.account), house.channel)
    assert await asked(ctx, "SELECT COUNT(*) FROM bulks") == [(0,)]
    assert await asked(ctx, "SELECT COUNT(*) FROM bulk_slices") == [(0,)]
    assert await feed_of(ctx).run_once() == 0


@pytest.fixture
async def on_store(tmp_path: Path) -> AsyncIterator[House]:
    async with build_house(tmp_path, "") as built:
        yield built


@on_both
async def test_killed_between_any_two_steps_nothing_is_lost_or_twice(on_store: House) -> None:
    """The feed dies in its unit, before it and after it; two at once take nothing from each other."""
    ctx, postmark = on_store.ctx, Postmark(on_store)
    for place in range(3):
        await postmark.ok("POST", BULK, {**NEWS, "Messages": people(60, place * 60)})
    first, second, _ = await bulks.open_bulks(ctx)
    # Ended before its commit, behind all its messages: the unit is undone as a whole.
    found = await bulks.next_slice(ctx, first)
    assert found is not None
    shared, part = found
    given = await read_slice(ctx, first, shared, part)
    assert isinstance(given[0], Submission)
    gone = replace(given[0], server_id=ServerId(999))
    with pytest.raises(PutOff):
        await bulks.release(ctx, first, part, [*given, gone])
    assert await recipients(ctx) == []
    # Killed while it writes: all of it is there, or nothing.
    task = asyncio.create_task(bulks.release(ctx, first, part, given))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(await recipients(ctx)) in (0, part.count)
    # Killed after it, before anybody heard: what it made is not made again.
    found = await bulks.next_slice(ctx, second)
    assert found is not None
    shared, part = found
    given = await read_slice(ctx, second, shared, part)
    assert await bulks.release(ctx, second, part, given)
    assert not await bulks.release(ctx, second, part, given)
    await asyncio.gather(*(feed_of(ctx).run_once() for _ in range(3)))
    everybody = await recipients(ctx)
    assert sorted(everybody) == sorted(f"p{number}@example.net" for number in range(180))
    assert await bulks.open_bulks(ctx) == []
    rows = await asked(ctx, "SELECT released, failed FROM bulks")
    assert [tuple(row) for row in rows] == [(60, 0)] * 3


async def test_the_feed_begins_by_itself(postmark: Postmark) -> None:
    ctx = postmark.house.ctx
    feed = feed_of(ctx)
    feed.start()
    try:
        told = await postmark.ok("POST", BULK, {**NEWS, "Messages": people(3)})
        async with asyncio.timeout(20):
            while (await postmark.ok("GET", f"{BULK}/{told['Id']}"))["Status"] != "Completed":
                await asyncio.sleep(0.01)
    finally:
        await feed.stop()
    assert len(await recipients(ctx)) == 3


async def test_large_slices_are_cut(postmark: Postmark) -> None:
    """By recipients, and by what each message will weigh: a unit of work stays short."""
    many = ", ".join(f"a{number}@example.net" for number in range(50))
    await postmark.ok("POST", BULK, {**NEWS, "Messages": [{"To": many}] * 9})
    heavy = {**NEWS, "HtmlBody": None, "TextBody": "x" * 300_000}
    await postmark.ok("POST", BULK, {**heavy, "Messages": people(30)})
    rows = await asked(postmark.house.ctx, "SELECT bulk_id, count FROM bulk_slices ORDER BY bulk_id, first")
    assert [row[1] for row in rows] == [4, 4, 1, 14, 14, 2]


async def test_a_deleted_server_between_two_slices(postmark: Postmark) -> None:
    ctx = postmark.house.ctx
    await postmark.ok("POST", BULK, {**NEWS, "Messages": people(60)})
    (bulk,) = await bulks.open_bulks(ctx)
    found = await bulks.next_slice(ctx, bulk)
    assert found is not None
    shared, part = found
    given = await read_slice(ctx, bulk, shared, part)
    await servers.delete_server(ctx, ACTOR, Owner(postmark.house.account), postmark.house.channel)
    assert not await bulks.release(ctx, bulk, part, given)
    with pytest.raises(NotFound):
        await read_slice(ctx, bulk, shared, part)
    assert await recipients(ctx) == []
