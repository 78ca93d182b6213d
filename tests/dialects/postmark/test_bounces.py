"""Bounces: counted, searched by every filter, shown in full, and their addresses made active again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from postroom.actions import api_errors, looking, suppressions
from postroom.actions.api_errors import ApiError
from postroom.core.bounce import BounceKind
from postroom.core.server import Owner
from postroom.core.suppression import Origin, Reason
from postroom.dialects.postmark.bounce_types import TYPES
from postroom.storage import bounce_search, bounces
from postroom.storage import looking as stored_looking
from postroom.storage import suppressions as stored_suppressions
from postroom.storage.bounces import Bounced
from postroom.storage.interface import Sql, Work, now
from tests.dialects.postmark.conftest import Postmark
from tests.dialects.postmark.test_outbound import send
from tests.support.context import ACTOR
from tests.support.stores import on_both

PAGE = "/bounces?count=50&offset=0"
DAY_S = 86_400


async def bounce(
    postmark: Postmark,
    kind: BounceKind = BounceKind.HARD,
    *,
    suppress: Reason | None = None,
    **fields: object,
) -> int:
    """A message that bounced, as a settle leaves it; the number of its bounce."""
    number = await send(postmark, **fields)
    house = postmark.house

    def work() -> Work[int]:
        rows = yield Sql(
            "SELECT d.delivery_id, d.address FROM deliveries d JOIN messages m ON m.message_id = d.message_id"
            " WHERE m.public_id = :number",
            {"number": number},
        )
        at_us = yield from now()
        if suppress is not None:
            yield from stored_suppressions.add(
                house.account, house.channel, at_us, [rows[0][1]], reason=suppress, origin=Origin.RECIPIENT
            )
        told = Bounced(house.account, rows[0][0], kind, "5.1.1 Nobody here", 550, "5.1.1")
        yield from bounces.add_bounced([told], at_us)
        yield Sql(
            "INSERT INTO events (account_id, server_id, message_id, delivery_id, kind, at, data)"
            " SELECT account_id, server_id, message_id, delivery_id, 'bounced', :at, '{}' FROM deliveries"
            " WHERE delivery_id = :delivery",
            {"delivery": rows[0][0], "at": at_us},
        )
        made = yield Sql("SELECT MAX(bounce_id) FROM bounces")
        return int(made[0][0])

    return await house.ctx.store.write(work)


async def found(postmark: Postmark, query: str = "") -> list[int]:
    told = await postmark.ok("GET", f"{PAGE}{query}")
    assert told["TotalCount"] == len(told["Bounces"])
    return [one["ID"] for one in told["Bounces"]]


async def test_a_bounce_is_told_whole(postmark: Postmark) -> None:
    number = await bounce(postmark, To="Ann <Ann@Example.net>", Tag="welcome", suppress=Reason.HARD_BOUNCE)
    told = await postmark.ok("GET", PAGE)
    (shown,) = told["Bounces"]
    assert told["TotalCount"] == 1
    assert shown.pop("BouncedAt").endswith(("-05:00", "-04:00"))
    message = shown.pop("MessageID")
    assert shown == {
        "RecordType": "Bounce",
        "ID": number,
        "Type": "HardBounce",
        "TypeCode": 1,
        "Name": "Hard bounce",
        "Tag": "welcome",
        "ServerID": postmark.house.channel,
        "MessageStream": "outbound",
        "Description": TYPES[BounceKind.HARD].description,
        "Details": "smtp; 550 5.1.1 Nobody here",
        "Email": "Ann@Example.net",
        "From": "hello@shop.example",
        "DumpAvailable": True,
        "Inactive": True,
        "CanActivate": True,
        "Subject": "Hello",
    }
    alone = await postmark.ok("GET", f"/bounces/{number}")
    dump = (await postmark.ok("GET", f"/bounces/{number}/dump"))["Body"]
    assert {name: alone[name] for name in shown} == shown
    assert alone["Content"] == dump
    assert "Status: 5.1.1\r\n" in dump
    events = (await postmark.ok("GET", f"/messages/outbound/{message}/details"))["MessageEvents"]
    assert events[0]["Details"]["BounceID"] == str(number)


@on_both
async def test_every_filter_narrows(postmark: Postmark) -> None:
    house = postmark.house
    await postmark.ok(
        "POST", "/message-streams", {"ID": "other", "Name": "O", "MessageStreamType": "Transactional"}
    )
    first = await bounce(postmark, To="ann_a@example.net", Tag="odd", suppress=Reason.HARD_BOUNCE)
    second = await bounce(postmark, BounceKind.SOFT, To="Bob@B\u00fccher.example")
    third = await bounce(postmark, To="carl@example.net", MessageStream="other")
    assert await found(postmark) == [second, first]
    assert await found(postmark, "&messagestream=other") == [third]
    assert await found(postmark, "&MessageStream=OTHER&type=hardbounce") == [third]
    assert await found(postmark, "&type=HardBounce") == [first]
    assert await found(postmark, "&type=SoftBounce&tag=odd") == []
    assert await found(postmark, "&tag=odd") == [first]
    assert await found(postmark, "&inactive=true") == [first]
    assert await found(postmark, "&inactive=False") == [second]
    assert await found(postmark, "&emailFilter=N_A@Ex") == [first]
    assert await found(postmark, "&emailfilter=b%25b") == []
    assert await found(postmark, "&emailFilter=B\u00fccher") == [second]
    message = (await postmark.ok("GET", f"/bounces/{second}"))["MessageID"]
    assert await found(postmark, f"&messageID={message.upper()}") == [second]
    assert await found(postmark, "&messageID=nothing") == []
    day = (await postmark.ok("GET", f"/bounces/{first}"))["BouncedAt"][:10]
    house.harness.clock.advance(2 * DAY_S)
    later = await bounce(postmark, BounceKind.SOFT)
    assert await found(postmark, f"&todate={day}") == [second, first]
    assert await found(postmark, f"&fromdate={day}&type=") == [later, second, first]
    assert await found(postmark, f"&fromdate={day}T23:59:59") == [later]


async def test_bad_queries_are_refused_by_their_code(postmark: Postmark) -> None:
    queries = ("", "?count=1", "?offset=0", "?count=0&offset=0", "?count=-1&offset=0", "?count=501&offset=0")
    wrong = ("offset=-1", "offset=10000", "offset=0&type=Sad", "offset=0&inactive=maybe", "offset=0&todate=x")
    for query in (*queries, *(f"?count=1&{one}" for one in wrong)):
        await postmark.refused(1000, "GET", f"/bounces{query}")


async def test_pages_and_bounds(postmark: Postmark, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [await bounce(postmark) for _ in range(7)]
    page = await postmark.ok("GET", "/bounces?count=2&offset=1")
    assert (page["TotalCount"], [one["ID"] for one in page["Bounces"]]) == (7, [made[5], made[4]])
    monkeypatch.setattr(stored_looking, "SLICE", 2)
    assert await found(postmark) == made[::-1]
    monkeypatch.setattr(looking, "MOST_SLICES", 2)
    assert await found(postmark) == made[:2:-1]
    monkeypatch.setattr(looking, "MOST_FOUND", 3)
    assert await found(postmark) == made[:3:-1]


@on_both
async def test_an_activated_address_gets_mail_again_and_a_later_bounce_is_its_own(postmark: Postmark) -> None:
    first = await bounce(postmark, suppress=Reason.HARD_BOUNCE)
    mail = {"From": "hello@shop.example", "To": "ann@example.net", "TextBody": "Hi"}
    await postmark.refused(406, "POST", "/email", mail)
    told = await postmark.ok("PUT", f"/bounces/{first}/activate", {})
    assert (told["Message"], told["Bounce"]["ID"], told["Bounce"]["Inactive"]) == ("OK", first, False)
    assert (await postmark.ok("GET", f"/bounces/{first}"))["Inactive"] is False
    await postmark.ok("POST", "/email", mail)
    assert (await postmark.ok("PUT", f"/bounces/{first}/activate"))["Message"] == "OK"
    postmark.house.harness.clock.advance(60)
    second = await bounce(postmark, suppress=Reason.HARD_BOUNCE)
    assert await found(postmark, "&inactive=true") == [second]
    await postmark.ok(
        "POST",
        "/message-streams/outbound/suppressions/delete",
        {"Suppressions": [{"EmailAddress": "ann@example.net"}]},
    )
    assert await found(postmark, "&inactive=true") == []


async def test_what_the_recipient_or_a_person_said_stays(postmark: Postmark) -> None:
    house = postmark.house
    complaint = await bounce(postmark, BounceKind.COMPLAINT, suppress=Reason.COMPLAINT)
    shown = await postmark.ok("GET", f"/bounces/{complaint}")
    assert (shown["Type"], shown["Inactive"], shown["CanActivate"]) == ("SpamComplaint", True, False)
    said = await postmark.refused(1003, "PUT", f"/bounces/{complaint}/activate")
    assert said == "Due to the type of bounce, this address cannot be reactivated."
    mine = await bounce(postmark, To="bob@example.net")
    owner = Owner(house.account, house.channel)
    await suppressions.suppress(house.ctx, ACTOR, owner, house.channel, ["bob@example.net"])
    assert (await postmark.ok("PUT", f"/bounces/{mine}/activate"))["Bounce"]["Inactive"] is False
    for who in ("ann", "bob"):
        assert await suppressions.is_suppressed(house.ctx, owner, house.channel, f"{who}@example.net")


@on_both
async def test_statistics_and_tags(postmark: Postmark) -> None:
    house = postmark.house
    empty = await postmark.ok("GET", "/deliveryStats")
    everything = {"Name": "All", "Type": "", "TypeCode": 0}
    assert empty == {"InactiveMails": 0, "Bounces": [{**everything, "Count": 0}]}
    await bounce(postmark, Tag="b", suppress=Reason.HARD_BOUNCE)
    await bounce(postmark, BounceKind.SOFT, To="bob@example.net", Tag="a")
    await bounce(postmark, BounceKind.SOFT, To="bob@example.net", Tag="a")
    assert await postmark.ok("GET", "/deliverystats") == {
        "InactiveMails": 1,
        "Bounces": [
            {**everything, "Count": 3},
            {"Name": "Hard bounce", "Count": 1, "Type": "HardBounce", "TypeCode": 1},
            {"Name": "Soft bounce", "Count": 2, "Type": "SoftBounce", "TypeCode": 4096},
        ],
    }
    assert await postmark.ok("GET", "/bounces/Tags") == ["a", "b"]
    assert await postmark.ok("GET", "/bounces/tags", token=house.foreign_key) == []


async def test_a_message_refused_after_it_was_taken_is_an_smtp_api_error(postmark: Postmark) -> None:
    house = postmark.house
    refused = ApiError(
        house.account, house.channel, "outbound", ["ann@example.net"], "Bad sender.", "It was bad.", 400,
        sender="a@b.example", subject="Hi", tag="t",
    )  # fmt: skip
    (number,) = await api_errors.record(house.ctx, refused)
    (shown,) = (await postmark.ok("GET", f"{PAGE}&type=SMTPApiError"))["Bounces"]
    assert (shown["ID"], shown["TypeCode"], shown["Description"]) == (number, 100007, "Bad sender.")
    assert (shown["From"], shown["Subject"], shown["Tag"]) == ("a@b.example", "Hi", "t")
    dump = (await postmark.ok("GET", f"/bounces/{number}/dump"))["Body"]
    assert dump == "It was bad.\r\n\r\nErrorCode: 400\r\nMessage: Bad sender.\r\n"


async def test_what_is_not_there_and_what_is_anothers_look_the_same(postmark: Postmark) -> None:
    mine = await bounce(postmark)
    for method, end in (("GET", ""), ("GET", "/dump"), ("PUT", "/activate")):
        for number in ("0", "999", "9" * 18, str(mine)):
            foreign = {"token": postmark.house.foreign_key} if number == str(mine) else {}
            assert "not found" in await postmark.refused(1001, method, f"/bounces/{number}{end}", **foreign)
        for number in ("x", "-1", "9" * 19, "1.5", "%00"):
            await postmark.refused(1002, method, f"/bounces/{number}{end}")


def test_each_kind_has_a_type_of_its_own() -> None:
    assert set(TYPES) == set(BounceKind)
    assert (
        len({one.type for one in TYPES.values()}) == len({one.code for one in TYPES.values()}) == len(TYPES)
    )


async def test_a_look_reads_one_range_of_an_index(postmark: Postmark) -> None:
    house = postmark.house
    everything = bounce_search.Wanted("outbound", BounceKind.HARD, inactive=True, containing="x")
    of_one = bounce_search.Wanted("outbound", public_id="x")
    unit = bounce_search.look(house.account, house.channel, everything, 10)
    looks = [next(unit), unit.send([])]
    assert await plans(postmark, looks, "ix_bounces_account_id_server_id_bounce_id")
    unit = bounce_search.look(house.account, house.channel, of_one, None)
    assert await plans(postmark, [next(unit)], "ix_bounces_account_id_server_id_public_id")
    unit = bounce_search.counts(house.account, house.channel)  # type: ignore[assignment]  # only its statement counts
    assert await plans(postmark, [next(unit)], "ix_bounces_account_id_server_id_kind")


async def plans(postmark: Postmark, looks: Sequence[object], index: str) -> bool:
    """Whether each of these is answered by this index, and none reads all."""
    for statement in looks:
        assert isinstance(statement, Sql)
        text, params = f"EXPLAIN QUERY PLAN {statement.text}", statement.params

        def work(text: str = text, params: Any = params) -> Work[list[str]]:
            rows = yield Sql(text, params)
            return [str(row[3]) for row in rows]

        plan = await postmark.house.ctx.store.read(work)
        assert any(index in step for step in plan), plan
        assert not [step for step in plan if step.startswith("SCAN bounces") and index not in step], plan
    return True
