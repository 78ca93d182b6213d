"""The composer's cache knows its own size, whoever asks for the same content at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from pathlib import Path

from postroom.core.message import Purpose
from postroom.engine.claim import Claimed, Claims, Pick, claim
from postroom.engine.composer import Composer
from postroom.ids import DecisionId
from postroom.mail.unsubscribe import Offer
from postroom.storage import lanes
from tests.support import seed_rows
from tests.support.engine import LINKS, Bench, bench
from tests.support.stores import on_both

pytestmark = on_both


async def claimed(post: Bench, people: list[str]) -> list[Claimed]:
    """A message's deliveries, claimed while nobody sends."""
    return (await claims(post, people)).claimed


async def claims(post: Bench, people: list[str], known: Container[int] = ()) -> Claims:
    """The whole claim."""
    connection = await post.store.write(lambda: seed_rows.connection(None))
    await post.store.write(lambda: seed_rows.message(Purpose.BROADCAST, people, "m", "x" * 50_000))
    (lane, _), *_ = await post.store.read(lanes.with_mail)
    picks = [Pick(lane.lane_id, lane.server_id, lane.purpose, lane.sender, DecisionId(1), len(people))]
    assert post.engine.terms.present is not None
    worker = post.engine.terms.present.worker
    return await post.store.write(
        lambda: claim(worker, seed_rows.ACCOUNT, connection, 1, picks, len(people), known)
    )


async def test_content_read_twice_at_once_counts_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        found = await claimed(post, ["a@example.net", "b@example.net"])
        composer = Composer(post.store, LINKS)
        await asyncio.gather(*(composer.envelope(one, Offer()) for one in found))
        await composer.envelope(found[0], Offer(header=False))
        assert composer._bytes == sum(entry.size_bytes for entry in composer._cache.values())


async def test_contents_come_with_the_claim_unless_they_are_known(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        taken = await claims(post, ["a@example.net", "b@example.net"])
        (content_id, body), *others = taken.bodies.items()
        assert not others
        assert {one.content_id for one in taken.claimed} == {content_id}
        composer = Composer(post.store, LINKS)
        composer.keep(taken.bodies)
        assert content_id in composer.known
        await post.do("DELETE FROM contents")  # so that a look of its own would find nothing
        envelope = await composer.envelope(taken.claimed[0], Offer())
        assert b"x" * 60 in envelope.content()
        assert len(body) < 50_000


async def test_known_contents_are_not_read_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        taken = await claims(post, ["a@example.net"], known=range(1 << 53))  # whatever its number is
        assert len(taken.claimed) == 1
        assert taken.bodies == {}
