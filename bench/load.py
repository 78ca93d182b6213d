"""A feeder over HTTP that costs little: many connections kept open, each wait for a yes taken.

    python -m bench.load URL KEY MESSAGES CONNECTIONS [FIRST]

A process of its own, so that it shares no interpreter with what it measures. Prints one JSON line: seconds
until the last yes, and the 50th and 99th percentile of the waits in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.peers.interface import BODY


def request(host: str, path: str, key: str, number: int) -> bytes:
    """One message to one recipient by Broadcast's API, written out."""
    body = json.dumps({"to": f"r{number}@example.net", "subject": "Bench", "body": BODY}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """One connection: the next request as soon as the answer to the last is whole."""

    def __init__(self, feeder: _Feeder) -> None:
        self._feeder, self._left, self._sent_s = feeder, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        number = self._feeder.take()
        if number is None:
            self._transport.close()
            return
        data = self._feeder.request(number)
        self._sent_s = time.perf_counter()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._left += data
        head, blank, body = self._left.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._left = body[length:]
        if not head.startswith(b"HTTP/1.1 201"):
            self._feeder.fail(head + body)
            return
        self._feeder.waits.append(time.perf_counter() - self._sent_s)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._feeder.closed(error)


class _Feeder:
    def __init__(self, url: str, key: str, messages: int, connections: int, first: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._key, self._next, self._end = key, first, first + messages
        self._open = min(connections, messages)
        self.waits: list[float] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> int | None:
        if self._next >= self._end:
            return None
        self._next += 1
        return self._next

    def request(self, number: int) -> bytes:
        return request(self._host, "/api/v1/transactionals", self._key, number)

    def fail(self, answer: bytes) -> None:
        if not self._done.done():
            self._done.set_exception(SystemExit(f"refused: {answer[:500].decode(errors='replace')}"))

    def closed(self, error: Exception | None) -> None:
        self._open -= 1
        if error is not None:
            self.fail(str(error).encode())
        elif not self._open and not self._done.done():
            self._done.set_result(None)

    async def run(self) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        for _ in range(self._open):
            await loop.create_connection(lambda: _Client(self), self._host, self._port)
        await self._done
        seconds = time.perf_counter() - began
        waits = sorted(self.waits)
        return {
            "seconds": seconds,
            "p50_ms": waits[len(waits) // 2] * 1000,
            "p99_ms": waits[int(len(waits) * 0.99)] * 1000,
        }


async def _main(arguments: list[str]) -> None:
    url, key, messages, connections, *rest = arguments
    feeder = _Feeder(url, key, int(messages), int(connections), int(rest[0]) if rest else 0)
    sys.stdout.write(json.dumps(await feeder.run()) + "\n")


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1:]))
