"""Templates pushed from one server to another of the account."""

from __future__ import annotations

from typing import Any

from postroom.actions import keys
from postroom.core.server import Owner
from tests.dialects.postmark.conftest import ACCOUNT_TOKEN, SERVER_TOKEN, Postmark
from tests.dialects.postmark.test_templates import LAYOUT, WELCOME
from tests.support.context import ACTOR

PUSH = "/templates/push"


async def push(postmark: Postmark, **more: object) -> Any:  # Any: JSON
    """What is made and changed on the other server: action, alias, whether it has a number."""
    house = postmark.house
    body = {"SourceServerID": house.channel, "DestinationServerID": house.other_channel, **more}
    told = await postmark.ok("PUT", PUSH, body)
    assert told["TotalCount"] == len(told["Templates"])
    return [(one["Action"], one["Alias"], "TemplateId" in one) for one in told["Templates"]]


async def other(postmark: Postmark) -> dict[str, Any]:
    """The headers of the other server's own key."""
    house = postmark.house
    owner = Owner(house.account, house.other_channel)
    _, text = await keys.create_key(house.ctx, ACTOR, owner, "k", ["all"])
    return {"headers": {SERVER_TOKEN: text.reveal()}}


async def test_templates_arrive_with_their_layouts(postmark: Postmark) -> None:
    there = await other(postmark)
    await postmark.ok("POST", "/templates", LAYOUT)
    await postmark.ok("POST", "/templates", {**WELCOME, "LayoutTemplate": "frame"})
    await postmark.ok("POST", "/templates", {**WELCOME, "Alias": None})
    wanted = [("Create", "frame", False), ("Create", "welcome", False)]
    assert await push(postmark) == wanted
    assert await push(postmark, PerformChanges=False) == wanted
    assert (await postmark.ok("GET", "/templates?count=9&offset=0", **there))["TotalCount"] == 0
    numbers = {"SourceServerID": str(postmark.house.channel), "PerformChanges": True}
    assert await push(postmark, **numbers) == [("Create", "frame", True), ("Create", "welcome", True)]
    mine, theirs = (
        await postmark.ok("GET", "/templates/welcome"),
        await postmark.ok("GET", "/templates/welcome", **there),
    )
    assert theirs["AssociatedServerId"] == postmark.house.other_channel
    assert theirs["TemplateId"] != mine["TemplateId"]
    differs = ("TemplateId", "AssociatedServerId")
    assert {**theirs, **dict.fromkeys(differs)} == {**mine, **dict.fromkeys(differs)}
    assert theirs["LayoutTemplate"] == "frame"
    # Once more: what is there is changed.
    await postmark.ok("PUT", "/templates/welcome", {"Name": "Hello", "LayoutTemplate": None})
    assert await push(postmark, PerformChanges=True) == [("Edit", "frame", True), ("Edit", "welcome", True)]
    assert (await postmark.ok("GET", "/templates/welcome", **there))["Name"] == "Hello"
    assert (await postmark.ok("GET", "/templates/welcome", **there))["LayoutTemplate"] is None


async def test_what_cannot_be_pushed_changes_nothing(postmark: Postmark) -> None:
    house, there = postmark.house, await other(postmark)
    both = {"SourceServerID": house.channel, "DestinationServerID": house.other_channel}
    await postmark.ok("POST", "/templates", {**WELCOME, "Alias": None})
    await postmark.refused(1124, "PUT", PUSH, both)
    await postmark.ok("POST", "/templates", LAYOUT)
    await postmark.ok("POST", "/templates", WELCOME)
    await postmark.ok("POST", "/templates", {**LAYOUT, "Alias": "Welcome"}, **there)
    await postmark.refused(1125, "PUT", PUSH, {**both, "PerformChanges": True})
    assert (await postmark.ok("GET", "/templates?count=9&offset=0", **there))["TotalCount"] == 1
    for _ in range(98):
        await postmark.ok("POST", "/templates", {**WELCOME, "Alias": None}, **there)
    await postmark.ok("PUT", "/templates/welcome", {"Alias": "second"})
    await postmark.refused(1105, "PUT", PUSH, {**both, "PerformChanges": True})
    assert (await postmark.ok("GET", "/templates?count=9&offset=0", **there))["TotalCount"] == 99


async def test_servers_that_are_not_the_accounts(postmark: Postmark) -> None:
    house = postmark.house
    mine, foreign = house.channel, house.foreign_channel
    for source, destination, said in (
        (99, 98, "The source and destination servers were not found."),
        (None, 98, "The source and destination servers were not found."),
        (2**63, foreign, "The source and destination servers were not found."),
        (mine, foreign, "The destination server was not found."),
        (foreign, mine, "The source server was not found."),
    ):
        body = {"SourceServerID": source, "DestinationServerID": destination, "PerformChanges": True}
        assert await postmark.refused(601, "PUT", PUSH, body) == said
    await postmark.refused(1122, "PUT", PUSH, {"SourceServerID": mine, "DestinationServerID": mine})
    for code, nothing in ((1109, None), (1109, {}), (402, [])):
        await postmark.refused(code, "PUT", PUSH, nothing)
    both = {"SourceServerID": mine, "DestinationServerID": house.other_channel}
    await postmark.refused(403, "PUT", PUSH, {**both, "PerformChanges": "perhaps"})
    await postmark.refused(403, "PUT", PUSH, {**both, "SourceServerID": "x"})
    await postmark.refused(10, "PUT", PUSH, both, headers={ACCOUNT_TOKEN: house.server_key})
