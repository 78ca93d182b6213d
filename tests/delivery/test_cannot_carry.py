"""What one server cannot carry another may: the mail goes there, and bounces only where nobody can."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from postroom.core.message import DeliveryState, Purpose
from postroom.core.need import larger_than, stands_against, with_need
from postroom.core.server import Owner
from postroom.ids import ConnectionId
from postroom.storage import connections
from tests.delivery.faults import play
from tests.support import seed_rows
from tests.support.fault_bench import FaultBench, fault_bench
from tests.support.scripted_smtp import ScriptedServer

T = Purpose.TRANSACTIONAL
OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)
PLAIN = ("PIPELINING", "8BITMIME")
ACCENTS = "jos\u00e9@example.net"


async def sent_by(post: FaultBench) -> list[tuple[ConnectionId, str]]:
    rows = await post.rows("SELECT connection_id, result FROM attempts ORDER BY attempt_id")
    return [(row[0], row[1]) for row in rows]


async def ended(post: FaultBench, message: object) -> bool:
    state = await post.value("SELECT state FROM deliveries WHERE message_id = :m", m=message)
    return state in ("sent", "bounced")


async def test_an_address_with_accents_takes_the_server_that_knows_it(tmp_path: Path) -> None:
    async with (
        ScriptedServer(extensions=PLAIN) as old,
        ScriptedServer() as new,
        fault_bench(tmp_path) as post,
    ):
        first = await post.way_out(old, hourly_cap=1000)  # first in rank: it has the most room
        second = await post.way_out(new)
        message = await post.mail(T, [ACCENTS])
        await play.until(lambda: ended(post, message))
        assert await sent_by(post) == [(first, "returned"), (second, "sent")]
        assert await post.value("SELECT tries FROM deliveries") == 0
        decision = json.loads(
            await post.value("SELECT decision FROM decisions ORDER BY decision_id DESC LIMIT 1")
        )
        assert {one["connection_id"]: one["reason"] for one in decision["judged"]} == {
            first: "cannot_carry",
            second: "chosen",
        }
        # The next one like it loses no time there, and plain mail goes the way it went.
        plain = await post.mail(T, ["jose@example.net"])
        await play.until(lambda: ended(post, plain))
        assert (await sent_by(post))[-1] == (first, "sent")
        await post.check_books()


async def test_it_bounces_where_none_can_and_that_ends(tmp_path: Path) -> None:
    async with (
        ScriptedServer(extensions=PLAIN) as one,
        ScriptedServer(extensions=PLAIN) as other,
        fault_bench(tmp_path) as post,
    ):
        first = await post.way_out(one, hourly_cap=1000)
        second = await post.way_out(other)
        message = await post.mail(T, [ACCENTS])
        await play.until(lambda: ended(post, message))
        assert await play.state_of(post, message) is DeliveryState.BOUNCED
        assert await sent_by(post) == [(first, "returned"), (second, "bounced")]
        assert await post.value("SELECT reason FROM deliveries") == (
            "the message needs SMTPUTF8, which the server lacks"
        )
        assert await post.value("SELECT COUNT(*) FROM suppressions") == 0
        await post.check_books()


@pytest.mark.parametrize("limits", [(2000, 4000, 0), (4000, 2000, 0), (2000, 2000, 50_000)])
async def test_a_large_message_takes_the_server_with_the_room_for_it(
    tmp_path: Path, limits: Sequence[int]
) -> None:
    """Each limit met narrows it down, whatever their order; in the end the largest carries it."""
    servers = [ScriptedServer(extensions=("PIPELINING", f"SIZE {limit}")) for limit in limits]
    async with servers[0], servers[1], servers[2], fault_bench(tmp_path) as post:
        ways = [
            await post.way_out(server, hourly_cap=1000 - 100 * number)
            for number, server in enumerate(servers)
        ]
        message = await post.mail(T, ["someone@example.net"], text="x\n" * 5000)
        await play.until(lambda: ended(post, message))
        assert (await sent_by(post))[-1] == (ways[2], "sent")
        assert len(await sent_by(post)) <= 3
        await post.check_books()


async def test_it_waits_for_a_way_out_that_is_in_trouble_now(tmp_path: Path) -> None:
    """The one that may carry it cannot be reached: the mail waits for it and does not bounce."""
    async with (
        ScriptedServer(extensions=PLAIN) as old,
        ScriptedServer() as new,
        fault_bench(tmp_path) as post,
    ):
        first = await post.way_out(old)
        second = await post.way_out(new)
        await play.until(lambda: known(post, second))
        post.engine.runners[second].failed_now()  # so that the first probe comes after this test
        await post.do("UPDATE connections SET connection_failed_at = 1 WHERE connection_id = :c", c=second)
        post.engine.connection_changed(second)
        message = await post.mail(T, [ACCENTS])
        await play.until(lambda: in_another_lane(post))
        assert await play.state_of(post, message) is DeliveryState.READY
        await post.do("UPDATE connections SET connection_failed_at = NULL")
        post.engine.connection_changed(second)
        await play.until(lambda: ended(post, message))
        assert (await sent_by(post))[0] == (first, "returned")
        assert (await sent_by(post))[-1] == (second, "sent")


async def known(post: FaultBench, connection: ConnectionId) -> bool:
    return connection in post.engine.runners


async def in_another_lane(post: FaultBench) -> bool:
    rows = await post.rows(
        "SELECT l.needs FROM deliveries d JOIN lanes l ON l.lane_id = d.lane_id WHERE d.state = 'ready'"
    )
    return rows == [("smtputf8",)]


async def test_what_was_found_is_forgotten_after_an_hour_and_once_it_is_changed(tmp_path: Path) -> None:
    async with (
        ScriptedServer(extensions=PLAIN) as old,
        ScriptedServer() as new,
        fault_bench(tmp_path) as post,
    ):
        first = await post.way_out(old, hourly_cap=1000)
        await post.way_out(new)
        message = await post.mail(T, [ACCENTS])
        await play.until(lambda: ended(post, message))
        rows = await post.rows("SELECT connection_id, need, until FROM lacks")
        assert rows == [(first, "smtputf8", post.clock.now_us() + 3600 * 1_000_000)]
        found = await post.store.read(lambda: connections.get_owned(OWNER, first))
        assert found is not None
        at_us = post.clock.now_us()
        await post.store.write(lambda: connections.change(found, found.version, at_us))
        assert await post.rows("SELECT need FROM lacks") == []


def test_needs() -> None:
    assert with_need((), "smtputf8") == ("smtputf8",)
    assert with_need(("smtputf8",), larger_than(10)) == ("size>10", "smtputf8")
    assert with_need(("size>10", "smtputf8"), larger_than(5)) == ("size>10", "smtputf8")
    assert with_need(("size>10",), larger_than(500)) == ("size>500",)
    assert stands_against("smtputf8", ("8bitmime", "smtputf8"))
    assert not stands_against("smtputf8", ("8bitmime", "size>10"))
    assert stands_against("size>10", ("size>10",))
    assert stands_against("size>5", ("size>10",))
    assert not stands_against("size>11", ("size>10",))
