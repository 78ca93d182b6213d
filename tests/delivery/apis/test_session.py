"""A session with a vendor's API: how far a delivery came when something went wrong, and the key's checks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from postroom.mail.content import Attachment
from postroom.transports import api
from postroom.transports.api import ApiTarget, ApiTransport
from postroom.transports.dialer import Dialer, DialPrivate
from postroom.transports.http_client import HttpConnection
from postroom.transports.http_url import read_url
from postroom.transports.interface import Account, Fault, Finder, OpenFailed, Outcome, Phase, Result
from tests.delivery.apis.speaking import (
    CONTENT,
    PATIENT,
    SOON,
    Watch,
    envelope,
    postmark_speaker,
    session,
    through_postmark,
    transport,
)
from tests.support.http_peer import (
    HttpPeer,
    Play,
    cuts,
    cuts_in_the_body,
    drips,
    hangs,
    never_ends,
    never_reads,
    says,
    sends,
)
from tests.support.postmark_peer import TOKEN, emails, error, postmark_peer

HUGE = CONTENT.__class__(
    CONTENT.sender, CONTENT.to, text="x", attachments=(Attachment("a.bin", "image/png", b"x" * (7 << 20)),)
)
AFTER: dict[str, Play] = {
    "cut": cuts,
    "hangs": hangs,
    "drips": drips,
    "X21 endless body": never_ends,
    "X21 head of 1 MB": sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20)),
    "not HTTP": sends(b"no\r\n\r\n"),
    "X21 gzip": says(200, b"\x1f\x8b\x08\x00", "Content-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("play", AFTER.values(), ids=AFTER)
async def test_without_an_answer_to_a_whole_request_the_outcome_is_unknown(play: Play) -> None:
    outcome, _ = await through_postmark([play], timeouts=SOON)
    assert (outcome.result, outcome.fault) == (Result.UNKNOWN, Fault.CONNECTION)
    assert (outcome.phase, outcome.begun) == (Phase.DOT, True)
    assert not outcome.before_mail_reply


@pytest.mark.parametrize("play", [cuts_in_the_body, never_reads], ids=["cut", "never read"])
async def test_a_request_cut_before_its_end_goes_back(play: Play) -> None:
    outcome, _ = await through_postmark([play], envelope(HUGE), SOON)
    assert (outcome.result, outcome.fault) == (Result.RETURNED, Fault.CONNECTION)
    assert (outcome.phase, outcome.begun, outcome.session_usable) == (Phase.BODY, True, False)


@pytest.mark.parametrize(
    ("stop_at", "asked"),
    [("mail", ["mail"]), ("data", ["mail", "data"]), ("dot", ["mail", "data", "dot"])],
)
async def test_nothing_leaves_against_a_checkpoint(stop_at: str, asked: list[str]) -> None:
    async with postmark_peer() as peer, session(transport(peer, postmark_speaker())) as made:
        watch = Watch(stop_at)
        outcome = await made.deliver(envelope(), watch)
        assert (outcome.result, outcome.fault, outcome.begun) == (Result.RETURNED, Fault.OURS, False)
        assert watch.asked == asked
        assert emails(peer) == []


async def test_one_session_carries_many() -> None:
    async with postmark_peer() as peer, session(transport(peer, postmark_speaker())) as made:
        for _ in range(3):
            assert (await made.deliver(envelope(), Watch())).result is Result.SENT
        assert (made.deliveries, made.usable, peer.connections) == (3, True, 1)


async def test_a_peer_that_closes_costs_the_next_delivery_nothing() -> None:
    closing = says(200, {"MessageID": "m"}, "Connection: close\r\n")
    async with postmark_peer() as peer, session(transport(peer, postmark_speaker())) as made:
        peer.plays.append(closing)
        outcome = await made.deliver(envelope(), Watch())
        assert (outcome.result, outcome.session_usable, made.usable) == (Result.SENT, False, False)
        outcome = await made.deliver(envelope(), Watch())
        assert (outcome.result, outcome.before_mail_reply) == (Result.RETURNED, True)


async def test_a_connection_that_rested_long_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with postmark_peer() as peer, session(transport(peer, postmark_speaker())) as made:
        monkeypatch.setattr(api, "REST_S", -1.0)
        outcome = await made.deliver(envelope(), Watch())
        assert (outcome.result, outcome.fault) == (Result.RETURNED, Fault.CONNECTION)
        assert outcome.before_mail_reply
        assert emails(peer) == []


async def test_aborted_while_it_waits_for_the_answer_it_may_have_been_taken() -> None:
    async with postmark_peer() as peer, session(transport(peer, postmark_speaker())) as made:
        peer.plays.append(hangs)
        under_way = asyncio.create_task(made.deliver(envelope(), Watch()))
        async with asyncio.timeout(10.0):
            while not emails(peer):
                await asyncio.sleep(0)
        made.abort()
        outcome = await under_way
        assert (outcome.result, outcome.fault) == (Result.UNKNOWN, Fault.OURS)
        assert not made.usable


async def test_the_key_is_checked_once_for_many_sessions_and_again_after_a_refusal() -> None:
    def checks() -> int:
        return sum(one.target == "/server" for one in peer.asked)

    async with postmark_peer() as peer:
        way = transport(peer, postmark_speaker())
        first, second = await asyncio.gather(way.open(), way.open())
        assert checks() == 1
        peer.plays.append(error(401, 10, f"not {TOKEN}"))
        outcome = await first.deliver(envelope(), Watch())
        assert (outcome.fault, outcome.session_usable) == (Fault.LOGIN, False)
        assert TOKEN not in outcome.text
        assert not second.usable  # opened with the key that is refused now
        peer.plays.append(error(401, 10, "still not"))
        with pytest.raises(OpenFailed) as caught:
            await way.open()
        assert caught.value.outcome.fault is Fault.LOGIN
        third = await way.open()
        assert checks() == 3
        for one in (first, second, third):
            await one.close()


async def test_a_key_never_goes_out_in_clear_text_to_a_far_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(**changes: Any) -> Outcome:
        target = ApiTarget(read_url(peer.url), PATIENT, **changes)
        way = ApiTransport(target, postmark_speaker(), Dialer(DialPrivate.ALL))
        return (await way.check()).outcome

    async with postmark_peer() as peer:
        real = HttpConnection.open

        async def far(*args: Any) -> Any:
            connection = await real(*args)
            connection.private = False
            return connection

        monkeypatch.setattr(HttpConnection, "open", far)
        refused = await opened()
        assert (refused.result, refused.phase) == (Result.RETURNED, Phase.AUTH)
        assert "clear text" in refused.text
        assert peer.asked == []
        assert (await opened(allow_clear_auth=True)).result is Result.SENT


async def test_a_peer_that_is_not_there_opens_no_session() -> None:
    async with postmark_peer() as peer:
        pass
    with pytest.raises(OpenFailed) as caught:
        await transport(peer, postmark_speaker()).open()
    assert (caught.value.outcome.fault, caught.value.outcome.phase) == (Fault.CONNECTION, Phase.CONNECT)


@pytest.mark.parametrize(
    "play", [cuts, hangs, says(500, b""), never_ends], ids=["cut", "hangs", "500", "endless"]
)
async def test_a_check_that_fails_is_the_connections_trouble(play: Play) -> None:
    async with HttpPeer(play) as peer:
        way = transport(peer, postmark_speaker(), SOON)
        assert isinstance(way, Account)
        assert isinstance(way, Finder)
        checked = await way.check()
        assert (checked.outcome.result, checked.outcome.fault) == (Result.RETURNED, Fault.CONNECTION)
        with pytest.raises(OpenFailed):
            await way.open()
        assert await way.find("x", bulk=False) is None
