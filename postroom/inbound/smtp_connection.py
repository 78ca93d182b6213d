"""One connection of a listener: counted in, secured, timed, and ended in an orderly way.

aiosmtpd's session with its edges replaced: TLS by STARTTLS and from the first byte in one way (RFC 3207,
8314), limits that are nobody else's, replies with enhanced codes (RFC 2034). Which commands there are and
what they do is in `smtp_session`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from aiosmtpd.smtp import SMTP

from postroom.inbound import sasl
from postroom.inbound.smtp_server import GOODBYE_S, SmtpServer

Command = Callable[[str | None], Awaitable[None]]

_MOST_COMMAND_BYTES = 1 << 20  # received without one whole command
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3} ")
# For replies of aiosmtpd, which have no enhanced code (RFC 2034 4).
_CODES = {"500": "5.5.2", "501": "5.5.4", "502": "5.5.1", "503": "5.5.1", "504": "5.5.4", "552": "5.3.4"}
_GOOD = {"250 OK": "250 2.0.0 OK", "221 Bye": "221 2.0.0 Bye"}
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_MOST_REPLY = 500  # RFC 5321 4.5.3.1.5: 512 with its CRLF

log = logging.getLogger(__name__)


class _CommandLimits(dict[str, int]):
    """Bytes a command line may have: a constant, with room for the longest AUTH (RFC 4954 4).

    aiosmtpd shares one growing dict among all its listeners, empties it at each connection and raises
    MAIL's limit at each EHLO; this one never changes.
    """

    def __missing__(self, command: str) -> int:
        return sasl.MAX_LINE if command == "AUTH" else 2048

    def __setitem__(self, command: str, limit: int) -> None:
        pass


class _Commands(dict[str, Command]):
    """The methods of a session, each behind its `run_command`, the unknown ones too."""

    def __init__(self, methods: dict[str, Command], run: Callable[..., Awaitable[None]]) -> None:
        super().__init__(methods)
        self._run = run

    def get(self, command: str, default: object = None) -> Any:  # Any: as in aiosmtpd
        return partial(self._run, command, super().get(command))


class SmtpConnection(SMTP):
    """The connection under a session."""

    command_size_limit = 2048
    command_size_limits = _CommandLimits()
    line_length_limit = 64 * 1024  # how much is read at once; lines of a body may be longer

    def __init__(self, server: SmtpServer, hooks: object) -> None:
        self.server = server
        self.address = ""  # of the peer
        self.secure = False
        self.storing = False
        self.reading_body = False
        self.unheard_bytes = 0  # received since the last whole command
        self.admitted = False  # counted in by the listener
        self.implicit_tls = False  # told by it before the connection is made
        self._securing = False
        self._lost = False
        super().__init__(
            hooks,
            data_size_limit=server.size_limit_bytes,
            enable_SMTPUTF8=True,
            hostname=server.host_name,  # aiosmtpd would ask DNS for a name at each connection
            ident=server.ident,
            timeout=server.limits.login_s,
            auth_require_tls=False,
            loop=asyncio.get_running_loop(),
        )
        self._smtp_methods = _Commands(self._smtp_methods, self.run_command)

    @abstractmethod
    async def run_command(self, name: str, method: Command | None, arg: str | None) -> None:
        """Run a command the peer has sent; `method` is None for an unknown one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.WriteTransport, transport)  # uvloop's are not its subclasses
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self.admitted and (refusal := self.server.admit(self)):
            transport.set_protocol(asyncio.Protocol())
            transport.write(refusal.encode() + b"\r\n")
            transport.close()
            return
        super().connection_made(transport)
        assert self._handler_coroutine is not None
        self._handler_coroutine.add_done_callback(self._ended)
        self.server.keep(self._handler_coroutine)
        if self.implicit_tls:
            self._mark_secure()

    async def _handshake(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """STARTTLS's; the new transport. Raises OSError, of which ssl.SSLError and TimeoutError are kinds."""
        assert self.server.tls is not None
        self._securing = True
        try:
            secured = await self.loop.start_tls(
                cast(asyncio.Transport, transport),
                self,
                self.server.tls(),
                server_side=True,
                ssl_handshake_timeout=self.server.limits.handshake_s,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        finally:
            self._securing = False
        if secured is None:
            raise ConnectionResetError("lost at the end of the handshake")
        return secured

    def _mark_secure(self) -> None:
        assert self.session is not None
        self.secure = True
        self.session.ssl = {}

    def reset_transaction(self) -> None:
        """Forget sender and recipients."""
        self.envelope = self._create_envelope()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("SMTP session ended: %r", error)
            self.cut()

    def data_received(self, data: bytes) -> None:
        self.unheard_bytes += len(data)
        if self.unheard_bytes > _MOST_COMMAND_BYTES and not self.reading_body:
            self.cut()
        else:
            super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._lost or self._handler_coroutine is None:
            return
        self._lost = True
        super().connection_lost(error)
        self.server.left(self)

    def _timeout_cb(self) -> None:
        writing = self._writing
        if self.storing or writing is None:
            return  # storing ends by itself, and starts the time anew
        if self._securing or writing.is_closing():
            self.cut()  # also a peer that has not read our goodbye
        else:
            self.dismiss("421 4.4.2 Nothing heard for too long")
            self._reset_timeout(GOODBYE_S)

    @property
    def _writing(self) -> asyncio.WriteTransport | None:
        return cast("asyncio.WriteTransport | None", self.transport)

    def dismiss(self, reply: str) -> None:
        """Say goodbye and close; while a message is being stored its reply comes first."""
        if self._securing:
            self.cut()
        elif self._writing is not None and not self.storing and not self._writing.is_closing():
            self._writing.write(reply.encode() + b"\r\n")
            self._writing.close()

    def cut(self) -> None:
        if self._writing is not None:
            self._writing.abort()

    async def end(self, reply: str) -> None:
        """Answer, close, and run nothing more of what the peer has sent."""
        await self.push(reply)
        if self._writing is not None:
            self._writing.close()
        await self._stop_here()

    async def _stop_here(self) -> None:
        assert self._handler_coroutine is not None
        self._handler_coroutine.cancel()
        await asyncio.sleep(0)  # raises: not one more command is run

    async def push(self, status: str | bytes) -> None:
        text = status if isinstance(status, str) else status.decode("latin-1")
        await self.write(polished(text).encode("ascii") + b"\r\n")

    async def write(self, data: bytes) -> None:
        """Send whole reply lines. Raises ConnectionResetError when nothing can be sent any more."""
        if self._writing is None or self._writing.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def handle_exception(self, error: Exception) -> str:
        if isinstance(error, (ConnectionError, EOFError)):
            self.cut()
            return "421 4.4.2 Connection lost"
        log.warning("a command broke an SMTP session", exc_info=error)
        return "451 4.3.0 That command could not be handled"

    async def begin_tls(self) -> None:
        assert self.transport is not None
        # No await between this and the handshake: nothing can be read in clear text meanwhile.
        self._writer.write(b"220 2.0.0 Ready to start TLS\r\n")
        try:
            secured = await self._handshake(self.transport)
        except OSError as error:
            log.debug("STARTTLS with %s failed: %r", self.address, error)
            self.cut()
            self.connection_lost(error)  # nobody else says so in the middle of a handshake
            await self._stop_here()
            return
        # StreamWriter.start_tls of Python 3.11 leaves the reader on the old transport.
        self._reader._transport = secured  # type: ignore[attr-defined]
        self._writer._transport = secured  # type: ignore[attr-defined]
        self.transport = secured
        peer = self.session.peer if self.session is not None else None
        self.reset_transaction()  # RFC 3207 4.2: nothing learnt before counts
        self.session = self._create_session()
        self.session.peer = peer
        self._timeout_duration = self.server.limits.login_s
        self._reset_timeout()
        self._mark_secure()


def polished(reply: str) -> str:
    """One reply line as it may be sent: with an enhanced code (RFC 2034 4), printable ASCII, not too long."""
    reply = _NOT_PRINTABLE.sub("?", _GOOD.get(reply, reply))
    code, _, text = reply.partition(" ")
    if code[:1] in ("4", "5") and not _ENHANCED.match(text + " "):
        reply = f"{code} {_CODES.get(code, code[0] + '.0.0')} {text}"
    return reply if code == "334" else reply[:_MOST_REPLY]
