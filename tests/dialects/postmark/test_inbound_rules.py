"""Rules for what comes in: kept, listed and taken away, each once and only as address or domain."""

from __future__ import annotations

from tests.dialects.postmark.conftest import Postmark
from tests.support.stores import on_both

RULES = "/triggers/inboundrules"


@on_both
async def test_rules_come_and_go(postmark: Postmark) -> None:
    made = [
        await postmark.ok("POST", "/Triggers/inboundRules", {"Rule": one})
        for one in ("Spam@Example.NET", " bad.example ", "b\u00fccher.example")
    ]
    assert [one["Rule"] for one in made] == ["spam@example.net", "bad.example", "xn--bcher-kva.example"]
    told = await postmark.ok("GET", f"{RULES}?count=2&offset=1")
    assert told == {"TotalCount": 3, "InboundRules": [made[0], made[2]]}
    assert await postmark.refused(810, "POST", RULES, {"Rule": "SPAM@example.net"})
    gone = await postmark.ok("DELETE", f"{RULES}/{made[1]['ID']}")
    assert gone == {"ErrorCode": 0, "Message": "Rule bad.example removed."}
    await postmark.refused(812, "DELETE", f"{RULES}/{made[1]['ID']}")
    await postmark.refused(812, "DELETE", f"{RULES}/{made[0]['ID']}", token=postmark.house.foreign_key)
    assert (await postmark.ok("GET", f"{RULES}?count=9&offset=0"))["TotalCount"] == 2


async def test_bad_rules_are_refused_by_their_code(postmark: Postmark) -> None:
    for rule in (
        "a@",
        "@b",
        "a b",
        "x@y@z",
        "-.example",
        "\u0000",
        "a@b.example\r\nx",
        "." * 300,
        "x" * 5000,
    ):
        await postmark.refused(813, "POST", RULES, {"Rule": rule})
    for body in ({}, {"Rule": ""}, {"Rule": None}, None):
        await postmark.refused(809, "POST", RULES, body)
    await postmark.refused(403, "POST", RULES, {"Rule": ["a@b.example"]})
    for query in ("", "?count=0&offset=0", "?count=501&offset=0", "?count=1&offset=-1", "?count=1"):
        await postmark.refused(800, "GET", RULES + query)
    for number in ("x", "-1", "9" * 30):
        await postmark.refused(812, "DELETE", f"{RULES}/{number}")
