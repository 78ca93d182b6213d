"""What our SMTP listeners share: how many peers, how much memory, and a stop that loses nothing.

An `SmtpServer` serves any number of sockets, in clear text with STARTTLS or with TLS from the first byte;
all of them count as one. The `SmtpSession` it makes for each connection (`smtp_session`) holds the
dialogue. A message is stored in a task of its own: losing the connection does not stop it half way, and
`stop` waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, cast

from postroom.accepting import Share, SharedListener
from postroom.peers import address_group

GOODBYE_S = 2.0  # for a peer to hear that the session ends
_GRACE_S = 5.0
_BACKLOG = 512
_REST_S = 1.0

log = logging.getLogger(__name__)

TlsSource = Callable[[], ssl.SSLContext]
"""Gives the context for a handshake that begins now: a certificate may be renewed."""


@dataclass(frozen=True)
class SessionLimits:
    """What the peers of one server may use. Times are seconds.

    memory_bytes: what all sessions together may hold of messages not yet stored. login_s: for each command
    until the peer has logged in. data_s: for a whole message. session_s: after so long a session takes no
    more messages. idle_commands: in one session without a message between them; unknown_commands: in one
    session.
    """

    max_sessions: int = 1000
    sessions_per_address: int = 100
    memory_bytes: int = 256 << 20
    handshake_s: float = 10.0
    login_s: float = 60.0
    idle_s: float = 300.0
    data_s: float = 600.0
    session_s: float = 3600.0
    unknown_commands: int = 10
    idle_commands: int = 100
    messages_per_session: int = 10_000


class Peer(Protocol):
    """A session as its listener sees it; asyncio sees a Protocol of its own kind in it."""

    address: str
    admitted: bool
    implicit_tls: bool  # the socket it came by speaks TLS from the first byte

    def dismiss(self, reply: str) -> None:
        """Say goodbye and close; while a message is being stored its reply comes first."""

    def cut(self) -> None:
        """Close at once."""


class SmtpServer(ABC):
    """One or more listening sockets. tls: for STARTTLS, which is offered if it is given."""

    def __init__(
        self,
        limits: SessionLimits,
        size_limit_bytes: int,
        *,
        host_name: str = "localhost",
        ident: str = "Postroom",
        tls: TlsSource | None = None,
    ) -> None:
        self.limits, self.size_limit_bytes = limits, size_limit_bytes
        self.host_name, self.ident = host_name, ident
        self.tls = tls
        self.sessions: set[Peer] = set()
        self.tasks: set[asyncio.Task[Any]] = set()  # Any: each has a result of its own
        self.held_bytes = 0
        self.stopping = False
        self._addresses: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._servers: list[asyncio.Server | SharedListener] = []
        self._listeners: list[socket.socket] = []  # of implicit TLS
        self._handshakes: set[asyncio.Task[Any]] = set()
        self._accepted: set[socket.socket] = set()  # by connections whose task has not begun

    @abstractmethod
    def new_session(self) -> Peer:
        """The protocol for one connection."""

    def _new_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self.new_session())

    async def start(
        self, listener: socket.socket, implicit_tls: TlsSource | None = None, share: Share | None = None
    ) -> None:
        """Serve on a bound TCP socket, which is ours from now on; may be called for several.

        implicit_tls: TLS from the first byte (RFC 8314 3.3). share: other processes accept on it too; how to
        take turns with them.
        """
        self.stopping = False
        try:
            if implicit_tls is not None:
                listener.listen(_BACKLOG)
                listener.setblocking(False)
                self._listeners.append(listener)
                self._handshakes.add(self.start_task(self._accept(listener, implicit_tls)))
            elif share is not None:
                listener.setblocking(False)
                self._servers.append(SharedListener(self._new_protocol, listener, self.sessions, share))
            else:
                loop = asyncio.get_running_loop()
                self._servers.append(await loop.create_server(self._new_protocol, sock=listener))
        except BaseException:
            listener.close()
            raise

    async def _accept(self, listener: socket.socket, tls: TlsSource) -> None:
        """Accept for implicit TLS. asyncio's own would count nobody in before the handshake is over."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor left, for example
                log.error("cannot accept a connection: %s", error)
                await asyncio.sleep(_REST_S)
                continue
            self._accepted.add(connection)
            task = self.start_task(self._connect(connection, str(peer[0]), tls))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
            await asyncio.sleep(0)  # another process may share the socket: it takes the next

    async def _connect(self, connection: socket.socket, address: str, tls: TlsSource) -> None:
        self._accepted.discard(connection)
        session = self.new_session()
        session.address, session.implicit_tls = address, True
        if self.admit(session):
            connection.close()  # in clear text there is nothing we could say
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast(asyncio.BaseProtocol, session),
                connection,
                ssl=tls(),
                ssl_handshake_timeout=self.limits.handshake_s,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except OSError as error:  # of which ssl.SSLError and TimeoutError are kinds
            log.debug("TLS with %s failed: %r", address, error)
            self.left(session)
        except BaseException:
            self.left(session)
            raise

    async def stop(self) -> None:
        """Stop listening; a message being stored is still stored and answered. Safe to call twice."""
        if not self._servers and not self._listeners:
            return
        self.stopping = True
        for handshake in tuple(self._handshakes):
            handshake.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        self._handshakes.clear()
        while self._accepted:
            self._accepted.pop().close()
        while self._listeners:
            self._listeners.pop().close()
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        for session in tuple(self.sessions):
            session.dismiss("421 4.3.2 The server is shutting down")
        if self.sessions:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await self._empty.wait()
        for session in tuple(self.sessions):
            session.cut()
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)
        for server in servers:
            await server.wait_closed()

    def start_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` beside its session; `stop` waits for it."""
        return self.keep(asyncio.get_running_loop().create_task(work))

    def keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def admit(self, session: Peer) -> str:
        """Count a session in, by its address; the reply that refuses it, or ""."""
        if self.stopping:
            return "421 4.3.2 The server is shutting down"
        group = address_group(session.address)
        if len(self.sessions) >= self.limits.max_sessions:
            return f"421 4.7.0 All {self.limits.max_sessions} sessions are taken, try again later"
        most = self.limits.sessions_per_address
        if self._addresses[group] >= most:
            return (
                f"421 4.7.0 Your address has {most} sessions open already, the most it may; try again later"
            )
        self._addresses[group] += 1
        self.sessions.add(session)
        session.admitted = True
        self._empty.clear()
        return ""

    def left(self, session: Peer) -> None:
        if session not in self.sessions:
            return
        self.sessions.discard(session)
        group = address_group(session.address)
        self._addresses[group] -= 1
        if not self._addresses[group]:
            del self._addresses[group]
        if not self.sessions:
            self._empty.set()
