"""The engine sending by vendors' APIs: state, room and health after each thing that can go wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.core.message import DeliveryState, Purpose
from tests.delivery.apis.api_bench import api_way_out
from tests.delivery.apis.speaking import SOON
from tests.delivery.faults import play
from tests.support.fault_bench import FaultBench, fault_bench
from tests.support.http_peer import (
    HttpPeer,
    Play,
    cuts,
    cuts_in_the_body,
    drips,
    hangs,
    never_ends,
    says,
    sends,
)
from tests.support.postmark_peer import Postmark, emails, error, postmark_peer
from tests.support.ses_peer import error as ses_error
from tests.support.ses_peer import ses_peer

TRANSACTIONAL, BROADCAST = Purpose.TRANSACTIONAL, Purpose.BROADCAST
READY, SENT, BOUNCED, UNKNOWN = (
    DeliveryState.READY,
    DeliveryState.SENT,
    DeliveryState.BOUNCED,
    DeliveryState.UNKNOWN,
)
ANN = "ann@example.net"


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[FaultBench]:
    async with fault_bench(tmp_path) as made:
        yield made


@dataclass(frozen=True)
class Row:
    """What a play does to a transactional message that meets it first; each uses room: it was begun."""

    play: Play
    state: DeliveryState
    backs_off: bool = True
    tries: int = 0
    refuses_sender: bool = False


ROWS = {
    "taken": Row(says(200, {"ErrorCode": 0, "MessageID": "m1"}), SENT, backs_off=False),
    "throttled": Row(error(429, 429, "Rate limit exceeded"), READY),
    "unavailable": Row(says(503), READY),
    "own failure": Row(error(500, 0, "oops"), READY, tries=1),
    "redirect": Row(says(301, b"", "Location: http://127.0.0.1/\r\n"), READY),
    "no such token": Row(error(401, 10, "token"), READY),
    "From refused": Row(error(422, 400, "no Sender Signature"), READY, backs_off=False, refuses_sender=True),
    "inactive recipient": Row(error(422, 406, "inactive"), BOUNCED, backs_off=False),
    "bad message": Row(error(422, 300, "Invalid 'To' address"), BOUNCED, backs_off=False),
    "pending account": Row(error(422, 412, "pending"), READY, backs_off=False, tries=1),
    "cut": Row(cuts, UNKNOWN),
    "hangs": Row(hangs, UNKNOWN),
    "drips": Row(drips, UNKNOWN),
    "X21 endless body": Row(never_ends, UNKNOWN),
    "X21 head of 1 MB": Row(sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20)), UNKNOWN),
    "X21 gzip": Row(says(200, b"\x1f\x8b", "Content-Encoding: gzip\r\n"), UNKNOWN),
    "garbage": Row(says(200, b"{]"), UNKNOWN),
    "bad gateway": Row(says(502), UNKNOWN),
}


def letting_in(peer: HttpPeer, *plays: Play) -> None:
    """The key is tried first, then these are played."""
    assert peer.default is not None
    peer.plays.extend([peer.default, *plays])


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_what_each_trouble_does(row: Row, post: FaultBench) -> None:
    async with postmark_peer() as peer:
        letting_in(peer, row.play)
        way = await api_way_out(post, peer, timeouts=SOON)
        message = await post.mail(TRANSACTIONAL, [ANN])
        await play.until(lambda: play.at_rest(post, way, message))
        seen = await play.look(post, way, message)
        assert len(seen.attempts) == 1
        assert (seen.state, seen.tries, seen.backs_off) == (row.state, row.tries, row.backs_off)
        assert (seen.held, seen.released) == (1, 1)
        assert seen.refused_senders == row.refuses_sender
        assert seen.suppressions == 0
        await post.check_books()
        assert post.complaints() == []


async def test_a_message_that_always_breaks_in_its_body_takes_a_step(post: FaultBench) -> None:
    async with postmark_peer() as peer:
        letting_in(peer, cuts_in_the_body)
        way = await api_way_out(post, peer, timeouts=SOON)
        message = await post.mail(TRANSACTIONAL, [ANN], text="x" * (9 << 20))
        await play.until(lambda: play.at_rest(post, way, message))
        seen = await play.look(post, way, message)
        assert seen.attempts == [("returned", "connection", "body")]
        assert (seen.state, seen.tries, seen.backs_off, seen.released) == (READY, 1, True, 1)
        await post.check_books()


async def test_a_peer_that_is_not_there_costs_the_mail_nothing(post: FaultBench) -> None:
    async with postmark_peer() as peer:
        pass
    way = await api_way_out(post, peer)
    message = await post.mail(TRANSACTIONAL, [ANN])
    await play.until(lambda: play.at_rest(post, way, message))
    seen = await play.look(post, way, message)
    assert (seen.state, seen.tries, seen.attempts, seen.backs_off) == (READY, 0, [], True)


async def test_a_refused_key_fails_the_connection_and_a_good_one_brings_it_back(post: FaultBench) -> None:
    async with postmark_peer() as peer:
        good, peer.default = peer.default, error(401, 10, "no valid token")
        way = await api_way_out(post, peer)
        message = await post.mail(TRANSACTIONAL, [ANN])

        async def is_failed() -> bool:
            failed = "SELECT connection_failed_at FROM connections WHERE connection_id = :c"
            return await post.value(failed, c=way) is not None

        async def is_failed_or_backs_off() -> bool:
            return await is_failed() or post.backs_off(way)

        await play.until(is_failed_or_backs_off)
        post.time.advance(61.0)
        await play.until(is_failed)
        assert emails(peer) == []  # nothing was claimed for a key that does not work
        runner = post.engine._runners[way]

        async def is_known() -> bool:
            return (runner.probing.next_us(runner.route) or 0) > post.clock.now_us()

        await play.until(is_known)
        peer.default = good
        post.time.advance(601.0)
        await post.until_settled()
        assert await play.state_of(post, message) is SENT
        assert not await is_failed()


async def test_a_key_refused_later_backs_off_and_is_tried_before_the_next_message(post: FaultBench) -> None:
    async with postmark_peer() as peer:
        letting_in(peer, error(401, 10, "revoked"))
        way = await api_way_out(post, peer)
        message = await post.mail(TRANSACTIONAL, [ANN])
        await play.until(lambda: play.at_rest(post, way, message))
        assert post.backs_off(way)
        post.time.advance(61.0)
        await post.until_settled()
        targets = [one.target for one in peer.asked if one.target in ("/server", "/email")]
        first, second = (number for number, target in enumerate(targets) if target == "/email")
        assert "/server" in targets[first:second]


async def test_ses_keeps_what_it_called_the_message(post: FaultBench) -> None:
    async with ses_peer() as peer:
        await api_way_out(post, peer, "aws_ses")
        await post.mail(BROADCAST, [ANN, "bob@example.net"])
        assert await post.until_settled() == {SENT: 2}
        rows = await post.rows("SELECT remote_id, phase, code FROM attempts ORDER BY attempt_id")
        assert {row[0] for row in rows} == {"0102-2", "0102-3"}
        assert {row[1:] for row in rows} == {("done", 200)}
        await post.check_books()


async def test_an_unknown_outcome_at_ses_ends_by_policy(post: FaultBench) -> None:
    async with ses_peer() as peer:
        letting_in(peer, cuts)
        way = await api_way_out(post, peer, "aws_ses")
        message = await post.mail(TRANSACTIONAL, [ANN])
        await play.until(lambda: play.at_rest(post, way, message))
        assert await play.state_of(post, message) is UNKNOWN
        assert await play.pass_time(post, way, message) is SENT
        references = {one.json["EmailTags"][0]["Value"] for one in peer.asked if one.method == "POST"}
        assert len(references) == 1  # the second copy carries the same name


async def test_ten_equal_refusals_hold_the_connection(post: FaultBench) -> None:
    async with ses_peer() as peer:
        letting_in(peer, *[ses_error(400, "MessageRejected", "Virus")] * 10)
        way = await api_way_out(post, peer, "aws_ses")
        await post.mail(BROADCAST, [f"r{number}@example.net" for number in range(12)])

        async def is_held() -> bool:
            until = await post.value("SELECT held_until FROM connections WHERE connection_id = :c", c=way)
            return until is not None

        await play.until(is_held)
        await post.until(lambda states: states[BOUNCED] == 10)
        kept = await post.value("SELECT data FROM events WHERE kind = 'bounced' LIMIT 1")
        assert json.loads(kept)["class"] == "content"


async def test_mail_that_is_only_true_as_it_stands_waits_for_another_way(post: FaultBench) -> None:
    raw = b"From: shop@example.com\r\nSubject: x\r\n\r\nsigned\r\n"
    async with postmark_peer() as first, ses_peer() as second:
        await api_way_out(post, first)
        message = await post.mail(TRANSACTIONAL, [ANN], raw=raw)

        async def reasons() -> set[str]:
            text = await post.value("SELECT decision FROM decisions ORDER BY decision_id DESC LIMIT 1")
            return {one["reason"] for one in json.loads(text)["judged"]} if text else set()

        async def is_passed_over() -> bool:
            return await reasons() == {"needs_parts"}

        await play.until(is_passed_over)
        assert await play.state_of(post, message) is READY
        await api_way_out(post, second, "aws_ses")
        await post.until_settled()
        assert await play.state_of(post, message) is SENT
        assert emails(first) == []


async def test_bulk_by_postmark_offers_to_unsubscribe_as_by_smtp(post: FaultBench) -> None:
    async with postmark_peer() as peer:
        await api_way_out(post, peer)
        await post.mail(BROADCAST, [ANN])
        await post.until_settled()
        [asked] = emails(peer)
        names = {one["Name"] for one in asked.json["Headers"]}
        assert "List-Unsubscribe" in names
        assert "Unsubscribe from these emails" in asked.json["TextBody"]
        assert asked.json["MessageStream"] == "broadcast"
        assert isinstance(peer.default, Postmark)
        assert peer.default.problems == []
