"""The server on a real socket: bodies and heads too long or too slow, and requests that are two."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from postroom.errors import TooLarge
from postroom.http.app import PREFIX_KEY, Mount, http_app
from postroom.http.asgi import ASGIApp, Receive, Scope, Send, answer
from postroom.http.body_limits import BodyTooSlow, read_body
from postroom.http.json import Malformed
from postroom.http.server import serve_http

MOST_BODY = 4 << 20  # above what is read to keep a connection, so that both ends of that are met
TEXT = b"text/plain"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says the size of the body, or what was wrong with it; below /deaf it reads nothing."""
    if scope["path"].startswith("/echo/deaf"):
        await answer(send, 200, b"deaf", TEXT)
        return
    try:
        body = await read_body(receive, MOST_BODY)
    except TooLarge:
        await answer(send, 413, b"too large", TEXT)
    except BodyTooSlow:
        await answer(send, 408, b"too slow", TEXT)
    else:
        await answer(send, 200, f"{len(body)} {scope['path']} {scope[PREFIX_KEY]}".encode(), TEXT)


@asynccontextmanager
async def running(
    app: ASGIApp = echo,
    *,
    body_patience_s: float = 5.0,
    mounts: Sequence[Mount] = (),
    **bounds: Any,  # of serve_http, of the types they have there
) -> AsyncIterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    whole = http_app(
        mounts or [Mount(app, ("/echo",), "/own")],
        lambda: (),
        most_body_bytes=MOST_BODY,
        body_patience_s=body_patience_s,
    )
    handle = await serve_http(whole, sock, **{"drain_s": 1.0, **bounds})
    try:
        yield port
    finally:
        await handle.stop()


class Wire:
    """One connection, bytes out and answers in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self) -> tuple[int, dict[str, str], bytes]:
        """One answer: status, header fields, body."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(fields["content-length"]))
        return int(head[0].split(" ")[1]), fields, body

    async def end(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with_reset = asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await with_reset


def post(path: str = "/echo", *fields: str, body: bytes = b"") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *(fields or (f"Content-Length: {len(body)}",))]
    return "\r\n".join([*lines, "", ""]).encode() + body


GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_several_requests_on_one_connection() -> None:
    async with running() as port, connected(port) as wire:
        await wire.say(post(body=b"abc") + post("/own/echo/x/", body=b"") + GET)
        assert (await wire.hear())[2] == b"3 /echo "
        assert (await wire.hear())[2] == b"0 /echo/x /own"
        assert (await wire.hear())[2] == b"0 /echo "


@pytest.mark.parametrize("field", ["Content-Length: 4194305", "Content-Length: 99999999999"])
async def test_w2_a_declared_body_above_the_cap_is_not_read(field: str) -> None:
    async with running() as port, connected(port) as wire:
        await wire.say(post("/echo", field))
        status, fields, _ = await wire.hear()
        assert (status, fields["connection"]) == (413, "close")
        assert await wire.end() == b""


async def test_w2_a_chunked_body_is_cut_at_the_cap() -> None:
    async with running() as port, connected(port) as wire:
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        await wire.say(post("/echo", "Transfer-Encoding: chunked"))
        hearing = asyncio.create_task(wire.hear())
        sent = 0
        try:
            while not hearing.done():
                await wire.say(chunk)
                sent += 0x10000
                assert sent < 64 << 20  # it would be read for ever
        except ConnectionError:
            pass
        status, fields, _ = await hearing
        assert (status, fields["connection"]) == (413, "close")


@pytest.mark.parametrize("fields", [("Content-Length: 9999999",), ("Transfer-Encoding: chunked",)])
async def test_w2_an_operation_without_a_body_reads_none(fields: tuple[str, ...]) -> None:
    async with running() as port, connected(port) as wire:
        await wire.say(post("/echo/deaf", *fields))
        if "chunked" in fields[0]:
            await wire.say(b"".join([b"10000\r\n" + b"x" * 0x10000 + b"\r\n"] * 32))
        status, answered, _ = await wire.hear()
        assert (status, answered["connection"]) == (200, "close")


async def test_a_small_body_nobody_read_keeps_the_connection() -> None:
    async with running() as port, connected(port) as wire:
        await wire.say(post("/echo/deaf", body=b"x" * 100_000) + GET)
        assert (await wire.hear())[2] == b"deaf"
        assert (await wire.hear())[2] == b"0 /echo "


async def test_nobody_is_told_to_go_on_with_a_body_that_is_refused() -> None:
    async with running() as port, connected(port) as wire:
        await wire.say(post("/echo", "Content-Length: 9999999", "Expect: 100-continue"))
        status, fields, _ = await wire.hear()
        assert (status, fields["connection"]) == (413, "close")
    async with running() as port, connected(port) as wire:
        await wire.say(post("/echo", "Content-Length: 3", "Expect: 100-continue"))
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await wire.say(b"abc")
        assert (await wire.hear())[2] == b"3 /echo "


async def test_a_body_that_never_comes_is_408() -> None:
    async with running(body_patience_s=0.05) as port, connected(port) as wire:
        await wire.say(post("/echo", "Content-Length: 3000000"))
        status, fields, _ = await wire.hear()
        assert (status, fields["connection"]) == (408, "close")


HEADS = {
    "many fields": b"GET /echo HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    "one long field": b"GET /echo HTTP/1.1\r\na: " + b"x" * 30_000 + b"\r\n\r\n",
    "a long address": b"GET /echo?" + b"x" * 30_000 + b" HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
async def test_w7_a_head_above_its_bounds_is_refused(name: str) -> None:
    async with running(most_header_bytes=20_000) as port, connected(port) as wire:
        await wire.say(HEADS[name])
        assert (await wire.hear())[0] == 400
        assert await wire.end() == b""


async def test_w7_a_field_without_an_end_is_cut() -> None:
    async with running(most_header_bytes=20_000) as port, connected(port) as wire:
        await wire.say(GET)
        assert (await wire.hear())[0] == 200  # bounds hold for later requests too
        await wire.say(b"GET /echo HTTP/1.1\r\na: ")
        hearing = asyncio.create_task(wire.hear())
        sent = 0
        try:
            while not hearing.done():
                await wire.say(b"x" * 1000)
                sent += 1000
                assert sent < 10_000_000
        except ConnectionError:
            pass
        assert (await hearing)[0] == 400


async def test_a_head_that_never_ends_is_dropped() -> None:
    async with running(head_patience_s=0.05) as port:
        for begun in (b"", b"GET /echo HTT", b"GET /echo HTTP/1.1\r\nHost: x\r\n"):
            async with connected(port) as wire:
                await wire.say(begun)
                assert await wire.end() == b""
        async with connected(port) as wire:
            await wire.say(GET)
            assert (await wire.hear())[0] == 200
            await wire.say(b"\r\n")  # keeps no connection open
            assert await wire.end() == b""


SMUGGLED = {
    "both lengths": post("/echo", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + GET,
    "two lengths": post("/echo", "Content-Length: 0", f"Content-Length: {len(GET)}") + GET,
    "a length with a sign": post("/echo", "Content-Length: +0") + GET,
    "chunked, and then not": post("/echo", "Transfer-Encoding: chunked, identity") + b"0\r\n\r\n" + GET,
    "a blank before the colon": post("/echo", "Content-Length : 3") + b"abc" + GET,
    "a bare LF ends a field": b"POST /echo HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc" + GET,
    "a chunk size with a sign": post("/echo", "Transfer-Encoding: chunked") + b"-1\r\n\r\n" + GET,
    "a folded field": b"GET /echo HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\x00: d\r\n\r\n" + GET,
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_w6_a_request_that_could_be_two_is_refused_and_the_connection_closed(name: str) -> None:
    async with running() as port, connected(port) as wire:
        await wire.say(SMUGGLED[name])
        told = await wire.end()
        assert told.startswith(b"HTTP/1.1 400 ")
        assert told.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("after", [b"not HTTP\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
@pytest.mark.parametrize("requests", [1, 3])
async def test_w6_what_is_no_http_is_refused_after_the_answers_to_what_was(
    after: bytes, requests: int
) -> None:
    """Refused at once, the 400 would be taken for the answer to the first request, and that one be lost."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go_on.wait()
        await answer(send, 200, b"done", TEXT)

    async with running(slow) as port, connected(port) as wire:
        await wire.say(GET * requests + after)
        await begun.wait()
        go_on.set()
        for _ in range(requests):
            assert (await wire.hear())[2] == b"done"
        assert (await wire.hear())[0] == 400
        assert await wire.end() == b""


async def test_w6_a_body_that_breaks_off_reaches_its_operation_as_such() -> None:
    read: list[str] = []

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(receive, MOST_BODY)
        except Malformed as error:
            read.append(str(error))
        await answer(send, 200, b"done", TEXT)

    async with running(reads) as port, connected(port) as wire:
        await wire.say(post("/echo", "Transfer-Encoding: chunked") + b"5\r\nabc")
        await wire.say(b"de\r\nnot a size\r\n")
        assert (await wire.hear())[0] == 400
        assert await wire.end() == b""
        async with asyncio.timeout(5):
            while not read:
                await asyncio.sleep(0)
    assert read == ["The body ended early"]


async def test_the_longest_path_wins_and_what_fits_half_does_not() -> None:
    def named(name: str) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(send, 200, f"{name} {scope['path']}".encode(), TEXT)

        return app

    mounts = [
        Mount(named("short"), ("/api",), "/one"),
        Mount(named("long"), ("/api/v1", "/Servers"), "/two", fold_case=True),
    ]
    cases = {
        "/api/x": b"short /api/x",
        "/api/v1": b"long /api/v1",
        "/API/v1/X//y/": b"long /api/v1/x/y",
        "/servers/5": b"long /servers/5",
        "/two/Servers": b"long /servers",
        "/one/api/v1": b"short /api/v1",
        "/api/v10": b"short /api/v10",
        "/API/x": None,
        "/apix": None,
        "/one": None,
    }
    async with running(mounts=mounts) as port, connected(port) as wire:
        for path, expected in cases.items():
            await wire.say(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, _, body = await wire.hear()
            assert (status, body) == ((200, expected) if expected else (404, b'{"error":"Not Found"}')), path


async def test_stopping_lets_an_open_request_end() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go_on.wait()
        await answer(send, 200, b"done", TEXT)

    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    handle = await serve_http(slow, sock, drain_s=5.0)
    async with connected(port) as wire:
        await wire.say(GET)
        await begun.wait()
        stopping = asyncio.create_task(handle.stop())
        async with asyncio.timeout(5):
            while True:  # until nobody listens any more
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:
                    break
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert not stopping.done()
        go_on.set()
        assert (await wire.hear())[2] == b"done"
        await stopping


async def test_stopping_cuts_what_does_not_end() -> None:
    begun = asyncio.Event()

    async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    sock = socket.create_server(("127.0.0.1", 0))
    handle = await serve_http(hangs, sock, drain_s=0.05)
    async with connected(sock.getsockname()[1]) as wire:
        await wire.say(GET)
        await begun.wait()
        async with asyncio.timeout(3):
            await handle.stop()
