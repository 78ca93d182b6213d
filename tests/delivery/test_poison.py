"""What cannot be composed is held for a person; what killed workers is composed alone first."""

from __future__ import annotations

from pathlib import Path

from postroom.core.message import Purpose
from tests.support.engine import bench, sink
from tests.support.stores import on_both

pytestmark = on_both


async def test_q7_a_lost_or_damaged_body_is_held_and_the_rest_flows(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.send(Purpose.BROADCAST, ["lost@example.net"])
        await post.send(Purpose.BROADCAST, ["damaged@example.net"])
        await post.send(Purpose.BROADCAST, ["fine@example.net"])
        of_message = "content_id = (SELECT content_id FROM messages WHERE message_id = :m)"
        await post.do(f"DELETE FROM contents WHERE {of_message}", m=1)
        await post.do(f"UPDATE contents SET body = :damaged WHERE {of_message}", m=2, damaged=b"\x01\x02")
        await post.connection(out.port)
        states = await post.until(lambda s: s["held"] == 2 and s["sent"] == 1)
        assert sum(states.values()) == 3
        rows = await post.rows("SELECT reason FROM deliveries WHERE state = 'held' ORDER BY delivery_id")
        assert "content is gone" in rows[0][0]
        assert "cannot be composed" in rows[1][0]
        held = await post.rows("SELECT held FROM cap")
        assert held == [(1,)]  # only what was sent uses room


async def test_q4_what_killed_two_workers_is_composed_in_a_child_first(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.send(Purpose.BROADCAST, ["innocent@example.net"])
        await post.send(Purpose.BROADCAST, ["poison@example.net"], body="x" * 50_000)
        await post.do("UPDATE deliveries SET crashes = 2")
        # A message id that composing refuses kills only the child that tries it.
        await post.do("UPDATE messages SET rfc_message_id = 'broken' WHERE message_id = 2")
        await post.connection(out.port)
        await post.until(lambda s: s["held"] == 1 and s["sent"] == 1)
        rows = await post.rows("SELECT recipient, reason FROM deliveries WHERE state = 'held'")
        assert rows[0][0] == "poison@example.net"
        assert "composing it alone failed" in rows[0][1]
