"""The HTTP server: uvicorn on a socket that is bound already, inside our loop, within bounds.

Signals are `serve`'s business, and so is logging. uvicorn bounds neither the header section nor the time it
may take; both are added here. Requests that are no HTTP (RFC 9112), or that could be read as two, are refused
by the parser, and the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.events import TimerHandle
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from postroom.accepting import Share, SharedListener
from postroom.http.asgi import ASGIApp


class HttpHandle:
    """A running server."""

    def __init__(self, server: _Server, task: asyncio.Task[None], url: str) -> None:
        self._server, self._task, self.url = server, task, url

    async def stop(self) -> None:
        """Take no more connections, let open requests end within `drain_s`, then cut and close."""
        self._server.should_exit = True
        await self._task

    async def wait(self) -> None:
        """Until the server ended, for whatever reason; raises what it died of."""
        await asyncio.shield(self._task)


async def serve_http(
    app: ASGIApp,
    sock: socket.socket,
    *,
    most_headers: int = 100,
    most_header_bytes: int = 100 << 10,
    head_patience_s: float = 15.0,
    keep_alive_s: float = 15.0,
    drain_s: float = 30.0,
    most_connections: int | None = None,
    share: Share | None = None,
) -> HttpHandle:
    """Serve `app` on `sock` (bound, not blocking anybody) until `stop`; returns once it takes connections.

    most_headers, most_header_bytes: of one request, its request line included; above them it gets 400 and the
    connection is closed. head_patience_s: for a whole head to arrive. most_connections: above it 503.
    share: other processes accept on the socket too; how to take turns with them.
    """
    bounds = {
        "most_headers": most_headers,
        "most_header_bytes": most_header_bytes,
        "head_patience_s": head_patience_s,
    }
    config = uvicorn.Config(
        cast(Any, app),  # uvicorn's own types say the same in other words
        http=type("BoundedProtocol", (_BoundedProtocol,), bounds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # http.client_address reads them
        timeout_keep_alive=cast(int, keep_alive_s),  # it is only handed to call_later
        timeout_graceful_shutdown=cast(int, drain_s),  # and this to wait_for
        limit_concurrency=most_connections,
    )
    server = _Server(config, share)
    # Connections inherit it. asyncio sets it only where the listener names its protocol, and without it an
    # answer of two writes waits 40 ms for the client's ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port = sock.getsockname()[:2]
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    listening = asyncio.get_running_loop().create_task(server.listening.wait())
    await asyncio.wait((task, listening), return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if task.done():
        await task  # raises why
        raise OSError("the HTTP server ended as it started")
    return HttpHandle(server, task, f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, share: Share | None) -> None:
        super().__init__(config)
        self._share = share
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._share is not None:
            connections = self.server_state.connections
            listeners = [
                SharedListener(self._new_protocol, one, connections, self._share) for one in sockets or ()
            ]
            self.servers = cast(Any, listeners)  # `close` and `wait_closed` is all that is used of them
            self.started = True
        else:
            await super().startup(sockets)
        self.listening.set()

    def _new_protocol(self) -> asyncio.BaseProtocol:
        made = cast(Any, self.config.http_protocol_class)  # ours: `serve_http` chose it
        return cast(
            asyncio.BaseProtocol, made(config=self.config, server_state=self.server_state, app_state={})
        )


_GATHERED_BYTES = 64 << 10


class _HeadTooLarge(Exception):
    """Raised inside the parser, which then refuses the request."""


class _Gathered:
    """A transport that hands on together what is written in one turn of the loop: the head of an answer and
    its body are one system call and one wake-up of the client."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []
        self._bytes = 0

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._bytes += len(data)
        if self._bytes > _GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand on what is held."""
        if self._held:
            held, self._held, self._bytes = self._held, [], 0
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:  # Any: the rest is the transport's own
        return getattr(self._transport, name)


class _BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection with bounds on the head of each request, and answers in their order.

    What is no HTTP may follow a request that is being answered (RFC 9112 9.3.2). Its 400 then comes after
    that answer: sent at once, as uvicorn does, the client would take it for the answer to the first one.
    """

    most_headers: int
    most_header_bytes: int
    head_patience_s: float

    def __init__(self, *args: Any, **values: Any) -> None:  # Any: handed through to uvicorn
        super().__init__(*args, **values)
        self.access_log = False
        self._in_head = True
        self._fields = self._field_bytes = self._unfinished_bytes = 0
        self._head_timer: TimerHandle | None = None
        self._unanswered: list[RequestResponseCycle] = []
        self._refusal: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self._gathered = _Gathered(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._gathered))
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._give_up(self._unanswered)  # uvicorn tells only the last of several
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        begun_before = self._in_head
        super().data_received(data)
        if not self._in_head:
            if self.cycle is not None and self.cycle.response_complete and not self.timeout_keep_alive_task:
                self._start_head_timer()  # blank lines between requests keep no connection open
            return
        # A field that has no end yet is only known to the parser: what came while it grew is counted.
        self._unfinished_bytes += len(data) if begun_before else 0
        if self._unfinished_bytes > self.most_header_bytes and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.send_400_response("Request header fields too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._fields = self._field_bytes = 0
        self._in_head = True
        self._start_head_timer()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unfinished_bytes = 0
        self._stop_head_timer()
        super().on_headers_complete()
        self._unanswered.append(self.cycle)

    def on_response_complete(self) -> None:
        self._gathered.flush()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        super().on_response_complete()
        if self._refusal is not None and not self._unanswered and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            super().send_400_response(self._refusal)

    def send_400_response(self, msg: str) -> None:
        broken = [cycle for cycle in self._unanswered if cycle.more_body]
        self._give_up(broken)
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.more_body]
        self.pipeline = deque(one for one in self.pipeline if one[0] not in broken)
        self._refusal = msg
        if self._unanswered:
            self.flow.pause_reading()
        elif any(cycle.response_started for cycle in broken):
            self.transport.close()  # a second answer would stand in the middle of the first
        else:
            super().send_400_response(msg)

    @staticmethod
    def _give_up(cycles: Sequence[RequestResponseCycle]) -> None:
        """Nothing more is to be written for these; whoever waits for their bodies is told."""
        for cycle in cycles:
            cycle.disconnected = True
            cycle.message_event.set()

    def _count(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > self.most_header_bytes or self._fields > self.most_headers:
            raise _HeadTooLarge

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_patience_s, self._too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
