"""A feeder over HTTP that costs little: many connections kept open, each wait for a yes taken.

    python -m bench.load URL KEY [--messages 5000] [--connections 20] [--first 0] [--batch 100 [--tracked]]

A process of its own, so that it shares no interpreter with what it measures. One message a request goes by
Broadcast's API, more by Postmark's batch call, where each item's own yes is looked at. Prints one JSON line:
seconds until the last yes, and the 50th and 99th percentile of the waits in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.peers.interface import BODY, HTML, SENDER

# The request for some messages by their numbers.
Request = Callable[[Sequence[int]], bytes]


def single(host: str, key: str) -> Request:
    """One message to one recipient by Broadcast's API, written out."""

    def make(numbers: Sequence[int]) -> bytes:
        (number,) = numbers
        body = json.dumps({"to": f"r{number}@example.net", "subject": "Bench", "body": BODY}).encode()
        return _head(host, "/api/v1/transactionals", f"Authorization: Bearer {key}", len(body)) + body

    return make


def batched(host: str, key: str, tracked: bool) -> Request:
    """Several by Postmark's API."""
    shown: dict[str, object] = {"From": SENDER, "Subject": "Bench"}
    shown |= (
        {"HtmlBody": HTML, "TrackOpens": True, "TrackLinks": "HtmlAndText"} if tracked else {"TextBody": BODY}
    )
    rest = json.dumps(shown)[1:]

    def make(numbers: Sequence[int]) -> bytes:
        items = ",".join(f'{{"To": "r{number}@example.net", {rest}' for number in numbers)
        body = f"[{items}]".encode()
        return _head(host, "/email/batch", f"X-Postmark-Server-Token: {key}", len(body)) + body

    return make


def _head(host: str, path: str, login: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{login}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


class _Client(asyncio.Protocol):
    """One connection: the next request as soon as the answer to the last is whole."""

    def __init__(self, feeder: _Feeder) -> None:
        self._feeder, self._left, self._sent_s = feeder, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        numbers = self._feeder.take()
        if not numbers:
            self._transport.close()
            return
        self._asked = len(numbers)
        data = self._feeder.request(numbers)
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
        if not head.startswith(b"HTTP/1.1 201") and body.count(b'"ErrorCode":0') != self._asked:
            self._feeder.fail(head + body)
            return
        self._feeder.waits.append(time.perf_counter() - self._sent_s)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._feeder.closed(error)


class _Feeder:
    def __init__(self, given: argparse.Namespace) -> None:
        parts = urlsplit(given.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._batch = given.batch
        self._next, self._end = given.first, given.first + given.messages
        self._open = min(given.connections, -(-given.messages // given.batch))
        self.request = (
            single(self._host, given.key)
            if given.batch == 1
            else batched(self._host, given.key, given.tracked)
        )
        self.waits: list[float] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> Sequence[int]:
        """The numbers of the next request; none when all are handed in."""
        first = self._next
        self._next = min(first + self._batch, self._end)
        return range(first, self._next)

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


async def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first recipient")
    parser.add_argument("--batch", type=int, default=1, help="messages a request")
    parser.add_argument("--tracked", action="store_true", help="HTML, opens and clicks tracked")
    feeder = _Feeder(parser.parse_args())
    sys.stdout.write(json.dumps(await feeder.run()) + "\n")


if __name__ == "__main__":
    uvloop.run(_main())
