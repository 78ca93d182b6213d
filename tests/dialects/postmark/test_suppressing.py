"""Suppressions of a stream: put on it, taken off it, listed."""

from __future__ import annotations

from typing import Any

from postroom.actions import suppressions
from postroom.core.server import Owner
from postroom.core.suppression import ALL_STREAMS, Origin, Reason
from postroom.storage.interface import Sql, Work
from tests.dialects.postmark.conftest import Postmark
from tests.support.context import ACTOR

LIST = "/message-streams/outbound/suppressions"
DAY_S = 86_400


def people(*addresses: object) -> dict[str, object]:
    return {"Suppressions": [{"EmailAddress": one} for one in addresses]}


async def put(
    postmark: Postmark, address: str, reason: Reason, origin: Origin, stream: str = ALL_STREAMS
) -> None:
    house = postmark.house
    await suppressions.suppress(
        house.ctx,
        ACTOR,
        Owner(house.account, house.channel),
        house.channel,
        [address],
        reason=reason,
        origin=origin,
        stream=stream,
    )


async def listed(postmark: Postmark, query: str = "", **more: Any) -> list[str]:
    answer = await postmark.ok("GET", f"{LIST}/dump{query}", **more)
    assert list(answer) == ["Suppressions"]
    return [one["EmailAddress"] for one in answer["Suppressions"]]


async def test_put_on_the_list_shown_and_taken_off(postmark: Postmark) -> None:
    sent = people("Ann@Example.net", "ann@example.net", "no address", "é@münchen.example")
    told = await postmark.ok("POST", LIST, sent)
    assert told == {
        "Suppressions": [
            {"EmailAddress": "Ann@Example.net", "Status": "Suppressed", "Message": None},
            {"EmailAddress": "ann@example.net", "Status": "Suppressed", "Message": None},
            {
                "EmailAddress": "no address",
                "Status": "Failed",
                "Message": "An invalid email address was provided.",
            },
            {"EmailAddress": "é@münchen.example", "Status": "Suppressed", "Message": None},
        ]
    }
    assert await postmark.ok("POST", LIST, sent) == told
    shown = await postmark.ok("GET", f"{LIST}/dump")
    assert [one["EmailAddress"] for one in shown["Suppressions"]] == [
        "ann@example.net",
        "é@xn--mnchen-3ya.example",
    ]
    (first, _) = shown["Suppressions"]
    created = first.pop("CreatedAt")
    assert created.endswith(("-05:00", "-04:00"))
    assert first == {
        "EmailAddress": "ann@example.net",
        "SuppressionReason": "ManualSuppression",
        "Origin": "Customer",
    }
    assert await listed(postmark, token=postmark.house.foreign_key) == []
    other = "/message-streams/broadcast/suppressions"
    assert (await postmark.ok("GET", f"{other}/dump")) == {"Suppressions": []}
    told = await postmark.ok("POST", f"{LIST}/delete", people("ANN@example.net", "nobody@example.net", "x"))
    assert [one["Status"] for one in told["Suppressions"]] == ["Deleted", "Deleted", "Failed"]
    assert await listed(postmark) == ["é@xn--mnchen-3ya.example"]


async def test_what_may_be_taken_off_and_what_may_not(postmark: Postmark) -> None:
    rows = (
        ("bounced@example.net", Reason.HARD_BOUNCE, Origin.RECIPIENT, ALL_STREAMS, "Deleted"),
        ("listed@example.net", Reason.MANUAL, Origin.CUSTOMER, ALL_STREAMS, "Deleted"),
        ("here@example.net", Reason.MANUAL, Origin.CUSTOMER, "outbound", "Deleted"),
        ("cried@example.net", Reason.COMPLAINT, Origin.RECIPIENT, ALL_STREAMS, "Failed"),
        ("left@example.net", Reason.UNSUBSCRIBE, Origin.RECIPIENT, "outbound", "Failed"),
        ("asked@example.net", Reason.MANUAL, Origin.RECIPIENT, "outbound", "Failed"),
        ("banned@example.net", Reason.MANUAL, Origin.ADMIN, ALL_STREAMS, "Failed"),
    )
    for address, reason, origin, stream, _ in rows:
        await put(postmark, address, reason, origin, stream)
    told = await postmark.ok("POST", f"{LIST}/delete", people(*(row[0] for row in rows)))
    assert [one["Status"] for one in told["Suppressions"]] == [row[4] for row in rows]
    refused = "You do not have the required authority to change this suppression."
    assert {one["Message"] for one in told["Suppressions"] if one["Status"] == "Failed"} == {refused}
    assert sorted(await listed(postmark)) == sorted(row[0] for row in rows if row[4] == "Failed")


async def test_an_address_on_both_lists_is_shown_once_and_off_both(postmark: Postmark) -> None:
    await put(postmark, "ann@example.net", Reason.HARD_BOUNCE, Origin.RECIPIENT)
    await postmark.ok("POST", LIST, people("ann@example.net"))
    (row,) = (await postmark.ok("GET", f"{LIST}/dump"))["Suppressions"]
    assert row["SuppressionReason"] == "HardBounce"
    await postmark.ok("POST", f"{LIST}/delete", people("ann@example.net"))
    assert await listed(postmark) == []
    # A complaint holds what the customer put on the list as well.
    await put(postmark, "ann@example.net", Reason.COMPLAINT, Origin.RECIPIENT)
    await postmark.ok("POST", LIST, people("ann@example.net"))
    told = await postmark.ok("POST", f"{LIST}/delete", people("ann@example.net"))
    assert told["Suppressions"][0]["Status"] == "Failed"


async def test_what_is_suppressed_here_is_so_everywhere(postmark: Postmark) -> None:
    """And the other way round: another API's list holds for this one."""
    house = postmark.house
    await postmark.ok("POST", LIST, people("ann@example.net"))
    sent = {"to": "ann@example.net", "subject": "x", "body": "x"}
    assert (await house.call("POST", "/api/v1/transactionals", sent)).status_code == 201
    assert await states(postmark) == ["suppressed"]
    assert (await house.call("POST", "/api/v1/suppressions", {"email": "bob@example.net"})).status_code == 201
    assert sorted(await listed(postmark)) == ["ann@example.net", "bob@example.net"]


async def states(postmark: Postmark) -> list[str]:
    def work() -> Work[list[str]]:
        return [row[0] for row in (yield Sql("SELECT state FROM deliveries"))]

    return await postmark.house.harness.store.read(work)


async def test_a_dump_by_reason_origin_day_and_address(postmark: Postmark) -> None:
    await put(postmark, "bounced@example.net", Reason.HARD_BOUNCE, Origin.RECIPIENT)
    await put(postmark, "cried@example.net", Reason.COMPLAINT, Origin.RECIPIENT)
    await put(postmark, "left@example.net", Reason.UNSUBSCRIBE, Origin.RECIPIENT, "outbound")
    shown = (await postmark.ok("GET", f"{LIST}/dump"))["Suppressions"]
    day = shown[0]["CreatedAt"][:10]
    postmark.house.harness.clock.advance(2 * DAY_S)
    await postmark.ok("POST", LIST, people("ann@example.net"))
    for query, found in (
        ("?SuppressionReason=hardbounce", ["bounced@example.net"]),
        ("?suppressionreason=ManualSuppression", ["ann@example.net", "left@example.net"]),
        ("?Origin=Customer", ["ann@example.net"]),
        ("?Origin=Recipient&SuppressionReason=SpamComplaint", ["cried@example.net"]),
        ("?Origin=Admin", []),
        ("?EmailAddress=Left@Example.net", ["left@example.net"]),
        ("?emailAddress=invalid", []),
        ("?EmailAddress=%25", []),
        (f"?todate={day}", ["bounced@example.net", "cried@example.net", "left@example.net"]),
        (f"?fromdate={day}&todate={day}", ["bounced@example.net", "cried@example.net", "left@example.net"]),
        (f"?fromdate={day}T00:00:00&EmailAddress=ann@example.net", ["ann@example.net"]),
        ("?fromdate=2100-1-1", []),
        ("?count=1&offset=7&fromdate=&Origin=", 4),
    ):
        told = await listed(postmark, query)
        assert (len(told) if isinstance(found, int) else told) == found, query


async def test_w17_what_is_wrong_with_a_request_has_its_code(postmark: Postmark) -> None:
    for code, query in (
        (1404, "SuppressionReason=Whim"),
        (1405, "Origin=Nobody"),
        (1402, "fromdate=yesterday"),
        (1402, "fromdate=2026-02-30"),
        (1403, "todate=2026-13-01"),
        (1403, "todate=99999-01-01"),
    ):
        await postmark.refused(code, "GET", f"{LIST}/dump?{query}")
    many = people(*(f"p{number}@example.net" for number in range(51)))
    wrong: dict[int, list[object]] = {
        1409: [None, {}, {"Suppressions": None}, {"Suppressions": []}, {"Suppressions": "ann@example.net"}],
        1410: [many],
        1411: [people(None), people(""), {"Suppressions": [{}]}],
        403: [people(["x"]), people({}), {"Suppressions": [None, "ann@example.net"]}],
        402: [[]],
    }
    for code, body in ((code, body) for code, bodies in wrong.items() for body in bodies):
        await postmark.refused(code, "POST", LIST, body)
        await postmark.refused(code, "POST", f"{LIST}/delete", body)
    for name in ("nothing", "all", "%00"):
        await postmark.refused(1226, "GET", f"/message-streams/{name}/suppressions/dump")
        await postmark.refused(1226, "GET", f"/message-streams/{name}/suppressions/dump?EmailAddress=invalid")
        for path in ("", "/delete"):
            person = people("ann@example.net")
            await postmark.refused(1226, "POST", f"/message-streams/{name}/suppressions{path}", person)
    assert await listed(postmark) == []


async def test_fifty_addresses_at_once(postmark: Postmark) -> None:
    sent = {"suppressions": [{"emailAddress": f"p{number:02}@example.net"} for number in range(50)]}
    told = await postmark.ok("POST", LIST, sent)
    assert [one["Status"] for one in told["Suppressions"]] == ["Suppressed"] * 50
    assert await listed(postmark) == [f"p{number:02}@example.net" for number in range(50)]
