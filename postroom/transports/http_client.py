"""A small HTTP/1.1 client for sending mail: exact about how far a request came, strict about replies.

Framing is h11's (RFC 9112); connections come from the one guarded dialer. No redirects, no cookies, no
proxies from the environment, no decompression: a reply is bounded in bytes and in time and handed on as
it is. The last block of a request is held back until the caller has said yes to it, so until then it is
certain that no server can have acted on it: Content-Length promises more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import h11

from postroom.transports.dialer import Dialer, DialError, Purpose, tls_name, tls_text
from postroom.transports.http_url import Url
from postroom.transports.http_wire import HttpWire, WireTrouble
from postroom.transports.interface import Phase

BLOCK_BYTES = 65_536
MOST_HEAD_BYTES = 64 << 10
MOST_BODY_BYTES = 1 << 20
_MOST_INTERIM = 10  # 1xx, of which we ask for none
_CLOSE_S = 2.0

Headers = tuple[tuple[str, str], ...]


class HttpTrouble(Exception):
    """No reply. `Progress` says how far the request came; the text is safe to show, one line."""


@dataclass(frozen=True)
class HttpTimeouts:
    """Seconds each wait may take."""

    connect_s: float = 15.0
    tls_s: float = 30.0
    write_s: float = 60.0  # each block of a request
    reply_s: float = 60.0  # from the last block to the last byte of the reply


@dataclass(frozen=True)
class HttpRequest:
    """`path` follows the URL's own. `headers` without Host, Content-Length and Connection."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""


@dataclass(frozen=True)
class HttpReply:
    """`headers` in lower case. `complete`: the whole body was read; else it is empty."""

    status: int
    headers: Headers
    body: bytes
    complete: bool = True

    def header(self, name: str) -> str:
        """The first of this name (lower case); "" without one."""
        return next((value for one, value in self.headers if one == name), "")


@dataclass
class Progress:
    """How far a request came. `phase`: MAIL before its first byte, BODY before its last block, DOT after."""

    phase: Phase = Phase.MAIL
    stopped: bool = False  # a checkpoint said no

    @property
    def begun(self) -> bool:
        """Its first byte was written."""
        return self.phase is not Phase.MAIL


def _yes() -> bool:
    return True


@dataclass(frozen=True)
class Gates:
    """Asked right before the first byte, and right before the block that completes the request."""

    first: Callable[[], bool] = _yes
    last: Callable[[], bool] = _yes


class HttpConnection:
    """One connection to an API, kept alive. One request at a time."""

    def __init__(self, wire: HttpWire, url: Url, timeouts: HttpTimeouts, *, loopback: bool) -> None:
        self._wire, self._url, self._timeouts = wire, url, timeouts
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        self.private = bool(wire.tls_version) or loopback  # nothing said here can be overheard

    @classmethod
    async def open(
        cls, url: Url, dialer: Dialer, timeouts: HttpTimeouts, context: ssl.SSLContext, progress: Progress
    ) -> HttpConnection:
        """Connect and secure. Raises HttpTrouble; `progress` says whether connecting or TLS failed."""
        progress.phase = Phase.CONNECT
        try:
            sock, peer = await dialer.dial(url.host, url.port, Purpose.API, timeout_s=timeouts.connect_s)
        except DialError as error:
            raise HttpTrouble(str(error)) from error
        loop = asyncio.get_running_loop()
        wire = HttpWire(loop)
        try:
            if url.secure:
                progress.phase = Phase.TLS
                async with asyncio.timeout(timeouts.tls_s):
                    await loop.create_connection(
                        lambda: wire,
                        sock=sock,
                        ssl=context,
                        server_hostname=tls_name(url.host),
                        ssl_handshake_timeout=timeouts.tls_s,
                        ssl_shutdown_timeout=_CLOSE_S,
                    )
            else:
                await loop.create_connection(lambda: wire, sock=sock)
        except OSError as error:
            sock.close()
            raise HttpTrouble(tls_text(error)) from error
        except BaseException:
            sock.close()
            raise
        return cls(wire, url, timeouts, loopback=peer.loopback)

    @property
    def tls_version(self) -> str:
        """Like "TLSv1.3", or "" for clear text."""
        return self._wire.tls_version

    @property
    def usable(self) -> bool:
        """It may carry another request."""
        return self._wire.quiet and self._h11.our_state is h11.IDLE

    async def ask(
        self, request: HttpRequest, progress: Progress, gates: Gates | None = None
    ) -> HttpReply | None:
        """One request and its reply; None when a gate said no. Raises HttpTrouble.

        A reply that comes before the request is complete is taken, if it is no 2xx.
        """
        progress.phase = Phase.MAIL
        try:
            self._wire.begin()
            if not await self._send(request, progress, gates or Gates()):
                return None
            return await self._reply(progress)
        except (WireTrouble, h11.ProtocolError) as error:
            self.abort()
            raise HttpTrouble(_text(error)) from error
        except BaseException:
            self.abort()  # cancelled: where the conversation stands is not known any more
            raise

    async def _send(self, request: HttpRequest, progress: Progress, gates: Gates) -> bool:
        blocks = self._blocks(request)
        if not gates.first():
            progress.stopped = True
            return False
        for block in blocks[:-1]:
            progress.phase = Phase.BODY
            self._wire.send(block)
            await self._wire.drain(self._timeouts.write_s)
            if self._wire.heard:
                return True
        if not gates.last():
            progress.stopped = True
            self.abort()
            return False
        self._wire.check()
        progress.phase = Phase.DOT
        self._wire.send(blocks[-1])
        return True

    def _blocks(self, request: HttpRequest) -> list[bytes]:
        """The request's bytes; the last block completes it."""
        headers = [("Host", self._url.authority), *request.headers]
        if request.body or request.method == "POST":
            headers.append(("Content-Length", str(len(request.body))))
        target = self._url.path + request.path
        head = self._h11.send(h11.Request(method=request.method, target=target, headers=headers)) or b""
        if request.body:
            self._h11.send(h11.Data(data=request.body))
        self._h11.send(h11.EndOfMessage())
        if len(head) + len(request.body) <= BLOCK_BYTES:
            return [head + request.body]
        body = request.body
        return [head, *(body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES))]

    async def _reply(self, progress: Progress) -> HttpReply:
        deadline_s = asyncio.get_running_loop().time() + self._timeouts.reply_s
        head = await self._event(deadline_s)
        for _ in range(_MOST_INTERIM):
            if not isinstance(head, h11.InformationalResponse):
                break
            head = await self._event(deadline_s)
        if not isinstance(head, h11.Response):
            raise WireTrouble("too many interim replies came")
        if progress.phase is Phase.BODY and head.status_code // 100 == 2:
            raise WireTrouble("the peer said yes before it had everything")
        headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
        try:
            body = await self._body(deadline_s)
        except (WireTrouble, h11.ProtocolError):
            if head.status_code // 100 == 2:
                raise
            self.abort()  # a refusal counts as one even where its text is cut
            return HttpReply(head.status_code, headers, b"", complete=False)
        if progress.phase is Phase.BODY or self._h11.trailing_data[0]:
            self.abort()  # what nobody asked for must never pass for the next reply
        elif self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return HttpReply(head.status_code, headers, body)

    async def _body(self, deadline_s: float) -> bytes:
        body = bytearray()
        while True:
            event = await self._event(deadline_s)
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > MOST_BODY_BYTES:
                    raise WireTrouble("the reply is too large")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            else:
                raise WireTrouble("the reply was cut")

    async def _event(self, deadline_s: float) -> object:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self._wire.receive(deadline_s, self._timeouts.reply_s)
            if not data and self._h11.their_state is h11.SEND_RESPONSE:
                raise WireTrouble("the connection was closed without a complete reply")
            self._h11.receive_data(data)

    def abort(self) -> None:
        """Cut it: nothing more goes out."""
        self._wire.abort()

    async def close(self) -> None:
        """Close it; never raises."""
        await self._wire.close(_CLOSE_S)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, WireTrouble) else "the reply is not HTTP"
