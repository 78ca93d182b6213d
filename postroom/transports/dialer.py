"""The one guarded way out: every connection Postroom opens to a host somebody named goes through here.

A host is resolved once, every address it has is judged by `dial_rules`, and the connection is made to
a judged address itself, so that a name cannot point elsewhere between check and use (DNS rebinding).
If any one of a name's addresses is closed the name is refused: half inside is an attack or a mistake.
All refusals read the same and name no address; the log has the exact reason. Redirects and URLs are
the caller's: it comes back here for each host.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from postroom.transports.dial_rules import (
    AddressKind,
    DialPrivate,
    IpAddress,
    NotAHost,
    Purpose,
    kind_of,
    may_dial,
    read_host,
)

__all__ = [
    "DialError",
    "DialFailed",
    "DialPrivate",
    "DialRefused",
    "Dialer",
    "Peer",
    "Purpose",
    "Resolver",
    "Stream",
]

log = logging.getLogger(__name__)

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(ASCII host name, port) -> its IP addresses as text. Raises OSError when there are none."""

HTTP_PORTS: tuple[range, ...] = (range(80, 81), range(443, 444), range(8000, 9001))
MOST_ADDRESSES = 8  # tried in turn; a name with more is not more reachable for it
REFUSALS = (
    "host",
    "port",
    "ourselves",
    *(kind.value for kind in AddressKind if kind is not AddressKind.PUBLIC),
)
LEAST_SHARE_S = 0.5  # of the timeout, for each address


class DialError(Exception):
    """There is no connection; the text is safe to show and has no line breaks."""


class DialRefused(DialError):
    """The rules forbid it. Nothing was sent."""

    TEXT = "this destination may not be dialled; see the setting dial_private"

    def __init__(self, text: str = TEXT) -> None:
        super().__init__(text)


class DialFailed(DialError):
    """Allowed, but it did not work: no such name, refused, timed out, TLS."""


@dataclass(frozen=True)
class Peer:
    """Whom we are connected to. `loopback`: nothing said here leaves the machine."""

    address: str
    port: int
    loopback: bool


@dataclass(frozen=True)
class Stream:
    """A connection as asyncio streams. The caller closes the writer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    peer: Peer


class Dialer:
    """Opens TCP connections, by the rules. One per process is enough; it holds no connection.

    resolver: asked once per dial, for names only; the default is getaddrinfo(3).
    http_ports: what Purpose.HTTP may use; other purposes may use any port but 0.
    own_addresses: public addresses of this machine, judged like private ones. `listeners`: where this
    process takes mail, as (IP address, port); never dialled, because mail would go round.
    """

    OURSELVES = "this is where Postroom itself takes mail: it would go round"

    def __init__(
        self,
        dial_private: DialPrivate = DialPrivate.SMTP,
        *,
        resolver: Resolver | None = None,
        http_ports: Iterable[Collection[int]] = HTTP_PORTS,
        own_addresses: Iterable[str] = (),
    ) -> None:
        self.dial_private = dial_private
        self.refused: Counter[str] = Counter()  # since start: by kind of address, or port, or host
        self._resolver = resolver or _getaddrinfo
        self._http_ports = tuple(http_ports)
        self.listeners: set[tuple[str, int]] = set()
        self._own = frozenset(ip_address(address) for address in own_addresses)

    async def dial(
        self, host: str, port: int, purpose: Purpose, *, timeout_s: float
    ) -> tuple[socket.socket, Peer]:
        """Connect -> (a connected non-blocking socket the caller owns, whom it reaches).

        timeout_s covers name resolution and all tries together. Raises DialRefused, DialFailed.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        addresses = await self.resolve(host, port, purpose, timeout_s=timeout_s)
        trouble = "timed out"
        for index, address in enumerate(addresses):
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            share_s = min(left_s, max(LEAST_SHARE_S, left_s / (len(addresses) - index)))
            try:
                sock = await _connect(address, port, share_s)
            except TimeoutError:
                trouble = "timed out"
            except OSError as error:
                trouble = _os_text(error)
            else:
                peer = Peer(str(address), port, kind_of(address) is AddressKind.LOOPBACK)
                if self._is_ourselves(sock, address, peer):
                    sock.close()
                    self.refused["ourselves"] += 1
                    raise DialRefused(self.OURSELVES)
                return sock, peer
        raise DialFailed(f"cannot connect to port {port}: {trouble}")

    async def open_stream(
        self,
        host: str,
        port: int,
        purpose: Purpose,
        *,
        timeout_s: float,
        ssl_context: ssl.SSLContext | None = None,
        limit: int = 65536,
    ) -> Stream:
        """`dial`, then asyncio streams on it, with TLS for `host` if a context is given.

        limit: bytes the reader buffers. Raises DialRefused, DialFailed (TLS trouble included).
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        sock, peer = await self.dial(host, port, purpose, timeout_s=timeout_s)
        try:
            async with asyncio.timeout_at(deadline):
                reader, writer = await asyncio.open_connection(
                    sock=sock,
                    ssl=ssl_context,
                    server_hostname=tls_name(host) if ssl_context else None,
                    limit=limit,
                )
        except OSError as error:
            sock.close()
            raise DialFailed(tls_text(error)) from error
        except BaseException:
            sock.close()
            raise
        return Stream(reader, writer, peer)

    async def resolve(
        self, host: str, port: int, purpose: Purpose, *, timeout_s: float
    ) -> tuple[IpAddress, ...]:
        """All addresses of `host`, every one judged and allowed, families alternating (RFC 8305 4).

        Raises DialRefused, DialFailed.
        """
        if not self._port_allowed(port, purpose):
            raise self._refuse(host, port, purpose, "port", "port")
        try:
            target = read_host(host)
        except NotAHost as error:
            raise self._refuse(host, port, purpose, "host", str(error)) from error
        if isinstance(target, str):
            addresses = await self._look_up(target, port, timeout_s)
        else:
            addresses = (target,)
        for address in addresses:
            kind = AddressKind.PRIVATE if _unmapped(address) in self._own else kind_of(address)
            if not may_dial(kind, purpose, self.dial_private):
                raise self._refuse(host, port, purpose, kind.value, f"{address} is {kind}")
        return _alternate(addresses)[:MOST_ADDRESSES]

    async def _look_up(self, name: str, port: int, timeout_s: float) -> tuple[IpAddress, ...]:
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._resolver(name, port)
        except TimeoutError as error:
            raise DialFailed("cannot resolve the host name: timed out") from error
        except (OSError, UnicodeError) as error:
            raise DialFailed("cannot resolve the host name") from error
        try:
            addresses = tuple(dict.fromkeys(ip_address(text) for text in found))
        except ValueError as error:
            raise DialFailed("cannot resolve the host name") from error
        if not addresses:
            raise DialFailed("cannot resolve the host name")
        return addresses

    def _is_ourselves(self, sock: socket.socket, address: IpAddress, peer: Peer) -> bool:
        """Whether one of `listeners` answers there. A wildcard does on every address of this machine, and
        on one of these the connection has the same address at both ends."""
        for host, port in self.listeners:
            listening = _unmapped(ip_address(host))
            if port == peer.port and (
                listening == _unmapped(address)
                or (listening.is_unspecified and (peer.loopback or sock.getsockname()[0] == str(address)))
            ):
                log.warning("refused to dial %s port %s: we listen there", address, port)
                return True
        return False

    def _port_allowed(self, port: int, purpose: Purpose) -> bool:
        if not 0 < port < 65536:
            return False
        return purpose is not Purpose.HTTP or any(port in ports for ports in self._http_ports)

    def _refuse(self, host: str, port: int, purpose: Purpose, kind: str, reason: str) -> DialRefused:
        self.refused[kind] += 1
        log.warning("refused to dial %.300r port %s for %s: %s", host, port, purpose, reason)
        return DialRefused()


@functools.cache
def verified_context() -> ssl.SSLContext:
    """How a peer is judged unless told otherwise: the system's trust store, names, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def tls_name(host: str) -> str:
    """The name a certificate must have: A-labels without the trailing dot, or an IP address."""
    return str(read_host(host)).removesuffix(".")


def tls_text(error: OSError) -> str:
    """What went wrong in a TLS handshake, in one line without addresses."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate is not accepted: {error.verify_message or error.reason}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError) or (isinstance(error, ConnectionAbortedError) and not error.errno):
        return "TLS: no handshake in time"  # the second is asyncio's way to say so
    return f"TLS: {_os_text(error)}"


def _unmapped(address: IpAddress) -> IpAddress:
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return inner or address


def _alternate(addresses: Sequence[IpAddress]) -> tuple[IpAddress, ...]:
    # The resolver's own order within a family is kept: it knows about reachability (RFC 6724).
    first_family = type(addresses[0])
    first = [a for a in addresses if isinstance(a, first_family)]
    second = [a for a in addresses if not isinstance(a, first_family)]
    mixed: list[IpAddress] = []
    for index in range(max(len(first), len(second))):
        mixed += first[index : index + 1] + second[index : index + 1]
    return tuple(mixed)


async def _connect(address: IpAddress, port: int, timeout_s: float) -> socket.socket:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        if sock.getsockname() == sock.getpeername():
            # TCP lets a socket connect to itself when nobody listens on an ephemeral loopback port.
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        sock.close()
        raise
    return sock


def _os_text(error: OSError) -> str:
    # asyncio's own messages name the address; the number's text does not.
    if error.errno:
        with contextlib.suppress(ValueError, OverflowError):
            return os.strerror(error.errno).lower()
    if isinstance(error, ConnectionError):
        return "the connection was lost"
    return "failed"


async def _getaddrinfo(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(info[4][0]) for info in found]
