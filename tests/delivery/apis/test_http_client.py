"""The HTTP client against a scripted server: every way a request can end, and how far it had come."""

from __future__ import annotations

import gzip
import ssl
from dataclasses import replace

import pytest

from postroom.transports.dialer import Dialer, DialPrivate, verified_context
from postroom.transports.http_client import (
    BLOCK_BYTES,
    Gates,
    HttpConnection,
    HttpReply,
    HttpRequest,
    HttpTimeouts,
    HttpTrouble,
    Progress,
)
from postroom.transports.http_url import NotAUrl, read_url
from postroom.transports.interface import Phase
from tests.support.certs import Certs
from tests.support.http_peer import (
    Exchange,
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

PATIENT = HttpTimeouts(connect_s=10.0, tls_s=10.0, write_s=10.0, reply_s=10.0)
SOON = replace(PATIENT, write_s=0.3, reply_s=0.3)
SMALL = HttpRequest("POST", "/email", (("Content-Type", "application/json"),), b'{"a":1}')
LARGE = replace(SMALL, body=b"x" * (256 * BLOCK_BYTES))  # more than the kernel's buffers take
BOMB = gzip.compress(b"0" * (50 << 20))


async def opened(
    peer: HttpPeer, timeouts: HttpTimeouts = PATIENT, context: ssl.SSLContext | None = None
) -> HttpConnection:
    return await HttpConnection.open(
        read_url(peer.url), Dialer(DialPrivate.ALL), timeouts, context or verified_context(), Progress()
    )


async def asked(
    play: Play, request: HttpRequest = SMALL, timeouts: HttpTimeouts = PATIENT, gates: Gates | None = None
) -> tuple[HttpReply | None, Progress, str]:
    """The reply, how far it came, and the trouble's text."""
    progress = Progress()
    async with HttpPeer(play) as peer:
        connection = await opened(peer, timeouts)
        try:
            return await connection.ask(request, progress, gates), progress, ""
        except HttpTrouble as trouble:
            assert not connection.usable
            return None, progress, str(trouble)
        finally:
            await connection.close()


async def test_a_reply_and_the_request_it_answers() -> None:
    async with HttpPeer(says(200, {"MessageID": "m1"}, "X-Kept: yes\r\n")) as peer:
        connection = await opened(peer)
        reply = await connection.ask(SMALL, Progress())
        assert reply is not None
        assert (reply.status, reply.body, reply.header("x-kept")) == (200, b'{"MessageID": "m1"}', "yes")
        assert peer.asked[0].headers == {
            "host": f"localhost:{peer.port}",
            "content-type": "application/json",
            "content-length": "7",
        }
        assert peer.asked[0].body == SMALL.body
        await connection.close()


async def test_a_connection_carries_one_request_after_another() -> None:
    async with HttpPeer(says(200, b"ok")) as peer:
        connection = await opened(peer)
        for _ in range(3):
            assert connection.usable
            await connection.ask(SMALL, Progress())
        assert (len(peer.asked), peer.connections) == (3, 1)
        await connection.close()


async def test_a_reply_that_announces_the_end_is_the_last() -> None:
    async with HttpPeer(says(200, b"ok", "Connection: close\r\n")) as peer:
        connection = await opened(peer)
        await connection.ask(SMALL, Progress())
        assert not connection.usable
        await connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    ],
    ids=["after an interim reply", "chunked"],
)
async def test_replies_come_in_several_shapes(data: bytes) -> None:
    reply, progress, _ = await asked(sends(data))
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"ok")
    assert progress.phase is Phase.DOT


async def test_a_reply_may_end_with_the_connection() -> None:
    reply, _, _ = await asked(sends(b"HTTP/1.0 200 OK\r\n\r\nok", then_close=True))
    assert reply is not None
    assert reply.body == b"ok"


def _ok(headers: str, body: str = "ok") -> Play:
    return sends(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{body}".encode(), then_close=True)


NO_REPLY: dict[str, tuple[Play, str]] = {
    "cut": (cuts, "the connection was lost"),
    "closed": (sends(b"", then_close=True), "the connection was closed without a complete reply"),
    "hangs": (hangs, "no complete reply within 0.3 s"),
    "drips": (drips, "no complete reply within 0.3 s"),
    "not HTTP": (sends(b"220 mail.example ESMTP\r\n\r\n"), "the reply is not HTTP"),
    "X21 head of 1 MB": (sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20)), "the reply is not HTTP"),
    "body cut": (_ok("Content-Length: 99"), "the reply is not HTTP"),
    "X21 endless body": (never_ends, "the reply is too large"),
    "two lengths": (_ok("Content-Length: 2\r\nContent-Length: 3"), "the reply is not HTTP"),
    "endless interim replies": (
        sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000),
        "too many interim replies came",
    ),
}


@pytest.mark.parametrize(("play", "trouble"), NO_REPLY.values(), ids=NO_REPLY)
async def test_without_a_complete_reply_the_request_may_have_been_taken(play: Play, trouble: str) -> None:
    reply, progress, text = await asked(play, timeouts=SOON)
    assert reply is None
    assert text == trouble
    assert progress.phase is Phase.DOT


@pytest.mark.parametrize(
    ("play", "trouble"),
    [(cuts_in_the_body, "the connection was lost"), (never_reads, "the peer took no data within 0.3 s")],
    ids=["cut", "never read"],
)
async def test_a_request_cut_in_its_body_was_surely_not_taken(play: Play, trouble: str) -> None:
    reply, progress, text = await asked(play, LARGE, SOON)
    assert reply is None
    assert text == trouble
    assert progress.phase is Phase.BODY
    assert progress.begun


async def test_a_refusal_before_the_end_of_the_body_is_heard() -> None:
    async def too_large(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.reply(413, b"too large", "Connection: close\r\n")
        await exchange.hang()

    reply, progress, _ = await asked(too_large, LARGE)
    assert reply is not None
    assert (reply.status, reply.body) == (413, b"too large")
    assert progress.phase is Phase.BODY


async def test_a_yes_before_the_end_of_the_body_counts_for_nothing() -> None:
    async def hasty(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.reply(200, b"ok")
        await exchange.hang()

    reply, progress, text = await asked(hasty, LARGE)
    assert reply is None
    assert text == "the peer said yes before it had everything"
    assert progress.phase is Phase.BODY


async def test_a_refusal_counts_even_where_its_text_is_cut() -> None:
    cut = b"HTTP/1.1 429 Slow down\r\nContent-Length: 99\r\n\r\nslow"
    reply, _, _ = await asked(sends(cut, then_close=True))
    assert reply is not None
    assert (reply.status, reply.body, reply.complete) == (429, b"", False)


async def test_x21_a_redirect_is_not_followed() -> None:
    async with HttpPeer(says(307, b"", "Location: http://169.254.169.254/\r\n")) as peer:
        connection = await opened(peer)
        reply = await connection.ask(SMALL, Progress())
        assert reply is not None
        assert reply.status == 307
        assert len(peer.asked) == 1
        await connection.close()


async def test_x21_a_gzip_bomb_is_not_unpacked() -> None:
    reply, _, _ = await asked(says(200, BOMB, "Content-Encoding: gzip\r\n"))
    assert reply is not None
    assert reply.body == BOMB


async def test_no_first_byte_leaves_unless_the_gate_says_yes() -> None:
    gates = Gates(first=lambda: False)
    reply, progress, _ = await asked(says(200), gates=gates)
    assert reply is None
    assert progress.stopped
    assert not progress.begun


@pytest.mark.parametrize("request_", [SMALL, LARGE], ids=["small", "large"])
async def test_no_last_byte_leaves_unless_the_gate_says_yes(request_: HttpRequest) -> None:
    async def reads(exchange: Exchange) -> None:
        await exchange.request()

    async with HttpPeer(reads) as peer:
        connection = await opened(peer)
        progress = Progress()
        assert await connection.ask(request_, progress, Gates(last=lambda: False)) is None
        assert progress.stopped
        await connection.close()
        assert peer.asked == []


async def test_a_connection_closed_meanwhile_is_noticed_before_anything_is_sent() -> None:
    closed = sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", then_close=True)
    async with HttpPeer(closed) as peer:
        connection = await opened(peer)
        await connection.ask(SMALL, Progress())
        while connection.usable:
            await connection._wire._wait(10.0, "nothing happened")
        progress = Progress()
        with pytest.raises(HttpTrouble):
            await connection.ask(SMALL, progress)
        assert not progress.begun
        await connection.close()


async def test_what_comes_unasked_ends_the_connection() -> None:
    unasked = sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")
    async with HttpPeer(unasked) as peer:
        connection = await opened(peer)
        await connection.ask(SMALL, Progress())
        progress = Progress()
        with pytest.raises(HttpTrouble):
            await connection.ask(SMALL, progress)
        await connection.close()


async def failed_to_open(url: str, context: ssl.SSLContext, dialer: Dialer) -> tuple[str, Phase]:
    progress = Progress()
    with pytest.raises(HttpTrouble) as caught:
        await HttpConnection.open(read_url(url), dialer, PATIENT, context, progress)
    return str(caught.value), progress.phase


async def test_x20_a_certificate_is_verified() -> None:
    certs = Certs()
    everybody = Dialer(DialPrivate.ALL)
    async with HttpPeer(says(200), context=certs.server()) as peer:
        connection = await opened(peer, context=certs.client())
        assert connection.private
        assert connection.tls_version == "TLSv1.3"
        await connection.ask(SMALL, Progress())
        await connection.close()
    for bad in (certs.expired(), certs.wrong_name(), certs.untrusted(), certs.ancient()):
        async with HttpPeer(says(200), context=bad) as peer:
            text, phase = await failed_to_open(peer.url, certs.client(), everybody)
            assert phase is Phase.TLS
            assert text.startswith("TLS: ")
            assert peer.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "169.254.169.254", "10.0.0.1"])
async def test_x1_private_addresses_are_not_dialled_for_an_api(host: str) -> None:
    text, phase = await failed_to_open(f"http://{host}:8443/", verified_context(), Dialer())
    assert text == "this destination may not be dialled; see the setting dial_private"
    assert phase is Phase.CONNECT


@pytest.mark.parametrize(
    ("text", "shown", "port"),
    [
        ("https://api.example.com", "https://api.example.com", 443),
        ("https://api.example.com:8443/v1/", "https://api.example.com:8443/v1", 8443),
        ("http://[::1]:5000", "http://[::1]:5000", 5000),
        ("HTTPS://API.example.com/", "https://api.example.com", 443),
    ],
)
def test_urls_are_read(text: str, shown: str, port: int) -> None:
    url = read_url(text)
    assert (str(url), url.port) == (shown, port)


@pytest.mark.parametrize(
    "text",
    [
        "", "api.example.com", "ftp://x.example", "file:///etc/passwd", "https://", "https://user@x.example",
        "https://x.example@127.0.0.1", "https://x.example?a=b", "https://x.example/#a", "https://x.example:0",
        "https://x.example:99999", "https://x.example:port", "https://x example",
        "https://x.example/\r\nX: 1", "https://bücher.example", "https://[::1",
        "https://" + "a" * 3000, "https://x.example/a b",
    ],
)  # fmt: skip
def test_x19_what_is_no_plain_url_is_refused(text: str) -> None:
    with pytest.raises(NotAUrl):
        read_url(text)
