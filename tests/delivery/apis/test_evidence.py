"""Unknown outcomes at a vendor that can be asked: found means sent, and nothing goes out twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.core.message import DeliveryState, Purpose
from postroom.engine.reference import reference_of
from postroom.ids import ConnectionId, DeliveryId, MessageId
from tests.delivery.apis.api_bench import api_way_out
from tests.delivery.faults import play
from tests.support.fault_bench import FaultBench, fault_bench
from tests.support.http_peer import Exchange, HttpPeer, cuts
from tests.support.postmark_peer import Postmark, emails, postmark_peer

TRANSACTIONAL, BROADCAST = Purpose.TRANSACTIONAL, Purpose.BROADCAST
UNKNOWN, SENT, UNVERIFIED = DeliveryState.UNKNOWN, DeliveryState.SENT, DeliveryState.UNVERIFIED
ANN = "ann@example.net"


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[FaultBench]:
    async with fault_bench(tmp_path) as made:
        yield made


async def takes_and_cuts(exchange: Exchange) -> None:
    """The message is taken; its answer is lost."""
    asked = await exchange.request()
    postmark = exchange._peer.default
    assert isinstance(postmark, Postmark)
    postmark.take(asked)
    exchange.cut()


def searches(peer: HttpPeer) -> int:
    return sum(one.target.startswith("/messages/outbound?") for one in peer.asked)


async def unknown_at(
    post: FaultBench, peer: HttpPeer, purpose: Purpose, *, taken: bool
) -> tuple[ConnectionId, MessageId]:
    """A message whose answer was lost, nothing asked yet."""
    assert peer.default is not None
    peer.plays.extend([peer.default, takes_and_cuts if taken else cuts])
    way = await api_way_out(post, peer)
    message = await post.mail(purpose, [ANN])
    await play.until(lambda: play.at_rest(post, way, message))
    assert await play.state_of(post, message) is UNKNOWN
    return way, message


async def is_searched(peer: HttpPeer, times: int) -> bool:
    return searches(peer) >= times


@pytest.mark.parametrize("purpose", [TRANSACTIONAL, BROADCAST])
async def test_what_the_vendor_has_is_sent_and_not_sent_again(purpose: Purpose, post: FaultBench) -> None:
    async with postmark_peer() as peer:
        _, message = await unknown_at(post, peer, purpose, taken=True)
        post.time.advance(6.0)
        await post.until_settled()
        assert await play.state_of(post, message) is SENT
        assert isinstance(peer.default, Postmark)
        [remote_id] = peer.default.taken.values()
        rows = await post.rows("SELECT result, remote_id FROM attempts")
        assert rows == [("unknown", remote_id)]
        events = await post.rows("SELECT kind FROM events WHERE delivery_id IS NOT NULL ORDER BY event_id")
        assert [row[0] for row in events] == ["accepted", "unknown", "sent"]
        post.time.advance(3600.0)
        await post.check_books()
        assert len(emails(peer)) == 1
        assert post.complaints() == []


async def test_transactional_mail_the_vendor_does_not_have_is_sent_again_after_its_wait(
    post: FaultBench,
) -> None:
    async with postmark_peer() as peer:
        way, message = await unknown_at(post, peer, TRANSACTIONAL, taken=False)
        post.time.advance(6.0)
        await play.until(lambda: is_searched(peer, 1))
        assert await play.state_of(post, message) is UNKNOWN
        assert await play.pass_time(post, way, message) is SENT
        assert isinstance(peer.default, Postmark)
        assert len(peer.default.taken) == 1


async def test_bulk_the_vendor_does_not_have_waits_for_a_day_and_is_never_sent_again(
    post: FaultBench,
) -> None:
    async with postmark_peer() as peer:
        _, message = await unknown_at(post, peer, BROADCAST, taken=False)
        for times in range(1, 4):
            post.time.advance(5.0 * 2**times)
            await play.until(lambda times=times: is_searched(peer, times))  # type: ignore[misc]  # bound at once
        assert await play.state_of(post, message) is UNKNOWN
        asked = searches(peer)
        post.time.advance(23 * 3600.0)
        await play.until(lambda: is_searched(peer, asked + 1))
        assert await play.state_of(post, message) is UNKNOWN
        post.time.advance(3600.0)
        await post.until_settled()
        assert await play.state_of(post, message) is UNVERIFIED
        assert len(emails(peer)) == 1


async def test_a_vendor_that_does_not_answer_keeps_no_other_from_being_asked(
    post: FaultBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        over.set()
        await asyncio.Event().wait()

    async with postmark_peer() as silent, postmark_peer() as peer:
        first, waits = await unknown_at(post, silent, BROADCAST, taken=True)
        monkeypatch.setattr(post.transports[first], "find", hang)
        await post.do("UPDATE connections SET enabled = 0 WHERE connection_id = :c", c=first)
        post.engine.connection_changed(first)
        post.time.advance(6.0)
        await asyncio.wait_for(over.wait(), 10)
        _, message = await unknown_at(post, peer, TRANSACTIONAL, taken=True)
        post.time.advance(6.0)

        async def is_sent() -> bool:
            return await play.state_of(post, message) is SENT

        await play.until(is_sent)
        assert await play.state_of(post, waits) is UNKNOWN
        assert len(emails(peer)) == 1


async def test_a_restart_asks_on(post: FaultBench) -> None:
    async with postmark_peer() as peer:
        _, message = await unknown_at(post, peer, BROADCAST, taken=True)
        await post.restart()
        post.time.advance(6.0)
        await post.until_settled()
        assert await play.state_of(post, message) is SENT


def test_a_reference_is_the_deliverys_own_and_the_same_at_each_attempt() -> None:
    one = reference_of("<a@example.com>", DeliveryId(1))
    assert one == reference_of("<a@example.com>", DeliveryId(1))
    assert one.isalnum()
    assert (
        len(
            {
                one,
                reference_of("<a@example.com>", DeliveryId(2)),
                reference_of("<b@example.com>", DeliveryId(1)),
            }
        )
        == 3
    )
