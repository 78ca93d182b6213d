"""The engine against a real sink: what is accepted arrives once, in the right order, and is recorded."""

from __future__ import annotations

from pathlib import Path

from postroom.core.message import Purpose
from tests.support.engine import bench, sink
from tests.support.sink import Received
from tests.support.stores import on_both

pytestmark = on_both


async def test_everything_accepted_arrives_once(tmp_path: Path) -> None:
    seen: list[Received] = []
    async with sink(tmp_path, seen.append) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        for number in range(40):
            await post.send(Purpose.BROADCAST, [f"a{number}@example.net", f"b{number}@example.net"])
        states = await post.until_settled()
        assert states == {"sent": 80}
        assert len(seen) == 80
        assert len({one.recipients for one in seen}) == 80
        assert out.sessions <= 10
        rows = await post.rows("SELECT kind, COUNT(*) FROM events GROUP BY kind")
        assert dict(rows) == {"accepted": 80, "sent": 80}


async def test_refusals_settle_as_what_they_are(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        people = ["ok@example.net", "bounce550.1.1@example.net", "defer451@example.net"]
        await post.send(Purpose.TRANSACTIONAL, people)
        states = await post.until(lambda s: s["sent"] == 1 and s["bounced"] == 1 and not s["claimed"])
        assert states["ready"] == 1
        rows = await post.rows("SELECT tries, due > 0, reason FROM deliveries WHERE state = 'ready'")
        assert rows[0][0] == 1
        held = await post.rows("SELECT held, (SELECT SUM(n) FROM cap_release) FROM cap")
        assert held[0] == (1, 1)


async def test_a_dropped_reply_is_unknown_and_transactional_mail_is_sent_again(tmp_path: Path) -> None:
    seen: list[Received] = []
    async with sink(tmp_path, seen.append) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(Purpose.TRANSACTIONAL, ["drop+dot+once@example.net"])
        await post.until(lambda s: s["unknown"] == 1)
        states = await post.until_settled()
        assert states == {"sent": 1}
        ids = {one.content.split(b"Message-ID: ")[1].split(b"\r\n")[0] for one in seen}
        assert len(ids) == 1


async def test_a_dropped_reply_to_bulk_is_never_sent_again(tmp_path: Path) -> None:
    seen: list[Received] = []
    async with sink(tmp_path, seen.append) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(Purpose.BROADCAST, ["drop+dot@example.net", "fine@example.net"])
        states = await post.until_settled()
        assert states == {"unverified": 1, "sent": 1}
        assert len(seen) <= 2


async def test_mail_waits_for_a_connection_that_is_not_there_yet(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        assert await post.states() == {"ready": 1}
        await post.connection(out.port)
        assert await post.until_settled() == {"sent": 1}


async def test_a_dead_host_backs_off_and_delivers_when_it_lives_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        async with sink(tmp_path) as out:
            port = out.port
        await post.connection(port)
        await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        runners = post.engine._runners
        await post.until(lambda _: any(one.troubles.backoff_until_us for one in runners.values()))
        assert await post.states() == {"ready": 1}
        async with sink(tmp_path, port=port):
            assert await post.until_settled() == {"sent": 1}
        rows = await post.rows("SELECT tries FROM deliveries")
        assert rows[0][0] == 0  # the connection's trouble is no step of the delivery's schedule
