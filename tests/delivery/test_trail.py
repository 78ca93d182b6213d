"""What the engine decides by itself stands in the audit trail, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from postroom.core.message import Purpose
from postroom.storage import audit
from postroom.storage.audit import AuditLine, Wanted
from tests.support.clock import FakeClock
from tests.support.engine import QUICK, Bench, bench, sink
from tests.support.stores import on_both

pytestmark = on_both


async def engine_lines(post: Bench) -> list[AuditLine]:
    """Oldest first."""
    found = await post.store.read(lambda: audit.list_lines(Wanted(actor="engine")))
    assert all(one.source == "" for one in found)
    return found[::-1]


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10.0):
        while not what():
            await asyncio.sleep(0.005)


async def test_a_connection_backs_off_fails_and_recovers(tmp_path: Path) -> None:
    clock = FakeClock()
    settings = replace(QUICK, failed_after_s=0.5)
    async with bench(tmp_path, clock=clock, settings=settings) as post, sink(tmp_path) as peer:
        connection = await post.connection(1)  # nobody listens there
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        await until(lambda: connection in post.engine.runners)
        runner = post.engine.runners[connection]

        def failed() -> bool:
            clock.advance(0.05)  # through many steps of backing off: one line
            return runner.route.failed_at is not None

        await until(failed)
        version = runner.route.version
        await post.do("UPDATE connections SET port = :p, version = version + 1", p=peer.port)
        post.engine.connection_changed(connection)
        await until(lambda: runner.route.version > version)  # the probe is to knock at the new port
        clock.advance(601.0)  # the engine's own probe finds that it works
        await until(lambda: runner.route.failed_at is None)
        await post.until_settled()
        lines = await engine_lines(post)
        assert [one.action for one in lines] == [
            "connection.back_off",
            "connection.fail",
            "connection.recover",
        ]
        assert {one.target for one in lines} == {f"connection {connection}"}
        back_off, fail, recover = (one.detail for one in lines)
        assert "refused" in str(back_off["text"])
        assert fail["before"] == {"failed_at_us": None, "failed_reason": None}
        assert recover["before"] == fail["after"]
        assert recover["after"] == fail["before"]


async def test_ten_equal_refusals_hold_a_connection(tmp_path: Path) -> None:
    async with sink(tmp_path) as peer, bench(tmp_path) as post:
        people = [f"bounce550.7.1+{n}@example.net" for n in range(10)]
        connection = await post.connection(peer.port)
        await post.send(Purpose.TRANSACTIONAL, people)
        await post.until(lambda states: states["bounced"] == 10)
        await until(lambda: post.engine.runners[connection].route.held_until is not None)
        (line,) = await engine_lines(post)
        assert (line.action, line.target) == ("connection.hold", f"connection {connection}")
        assert line.detail["text"]


async def test_a_hard_bounce_earns_one_suppression(tmp_path: Path) -> None:
    async with sink(tmp_path) as peer, bench(tmp_path) as post:
        gone = "bounce550.1.1+x@example.net"
        await post.send(Purpose.BROADCAST, [gone, "fine@example.net"])
        await post.send(Purpose.BROADCAST, [gone])
        await post.connection(peer.port)
        await post.until_settled()
        (line,) = await engine_lines(post)
        assert (line.action, line.target, line.account_id) == ("suppression.add", "server 1", 1)
        assert line.detail["addresses"] == [gone]
        assert line.detail["code"] == 550


async def test_a_delivery_that_cannot_be_composed_is_held(tmp_path: Path) -> None:
    async with sink(tmp_path) as peer, bench(tmp_path) as post:
        await post.send(Purpose.BROADCAST, ["lost@example.net"])
        await post.do("DELETE FROM contents")
        await post.connection(peer.port)
        await post.until(lambda states: states["held"] == 1)
        (line,) = await engine_lines(post)
        assert (line.action, line.target, line.detail["message"]) == ("delivery.hold", "delivery 1", 1)
        assert "content is gone" in str(line.detail["reason"])
