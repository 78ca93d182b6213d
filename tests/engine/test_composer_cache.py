"""The composer's cache knows its own size, whoever asks for the same content at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from postroom.core.message import Purpose
from postroom.engine.claim import Claimed, Pick, claim
from postroom.engine.composer import Composer
from postroom.ids import DecisionId
from postroom.mail.unsubscribe import Offer
from postroom.storage import lanes
from tests.support import seed_rows
from tests.support.engine import LINKS, Bench, bench


async def claimed(post: Bench, people: list[str]) -> list[Claimed]:
    """A message's deliveries, claimed while nobody sends."""
    connection = await post.store.write(lambda: seed_rows.connection(None))
    await post.store.write(lambda: seed_rows.message(Purpose.BROADCAST, people, "m", "x" * 50_000))
    (lane, _), *_ = await post.store.read(lanes.with_mail)
    picks = [Pick(lane.lane_id, lane.server_id, lane.purpose, lane.sender, DecisionId(1), len(people))]
    worker = post.engine._worker
    assert worker is not None
    taken = await post.store.write(
        lambda: claim(worker, seed_rows.ACCOUNT, connection, 1, picks, len(people))
    )
    return taken.claimed


async def test_content_read_twice_at_once_counts_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        found = await claimed(post, ["a@example.net", "b@example.net"])
        composer = Composer(post.store, LINKS)
        await asyncio.gather(*(composer.load([one]) for one in found))
        for one in found:
            await composer.envelope(one, Offer())
        await composer.envelope(found[0], Offer(header=False))
        assert composer._bytes == sum(entry.size_bytes for entry in composer._cache.values())
