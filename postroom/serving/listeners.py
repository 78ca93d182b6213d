"""The sockets of one `serve`: bound once, by the process itself or by a supervisor whose children share them.

Everybody who shares a socket accepts on it. Nothing here knows a protocol, so a supervisor that only binds
stays small.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from postroom.accepting import Share, Shares
from postroom.config import Endpoint, Settings
from postroom.errors import Conflict, Unavailable
from postroom.inbound.loopback import open_socket

_BACKLOG = 512
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what somebody may have set
_WHAT = {
    "http": "it listens",
    "smtp": "SMTP is taken",
    "smtps": "SMTP with TLS is taken",
    "operations": "operations are answered",
}
ANY = "any"
# Which role needs which socket; the names are those of the settings.
LISTENERS = {"http": "http", "smtp": "smtp", "smtps": "smtp", "inbox": "inbound", "operations": ANY}


@dataclass
class Listeners:
    """By the name of their setting; what the roles do not need is absent. notes: for the operator.

    shares: how many connections each of the processes has that have the same sockets.
    """

    sockets: dict[str, socket.socket] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shares: Shares | None = None

    @classmethod
    def adopt(cls, descriptors: Mapping[str, int], shares: Shares) -> Listeners:
        """Sockets that another process bound and left to this one."""
        found = cls(shares=shares)
        for name, descriptor in descriptors.items():
            found.sockets[name] = listener = socket.socket(fileno=descriptor)
            listener.setblocking(False)
            listener.set_inheritable(False)
        return found

    def get(self, name: str) -> socket.socket | None:
        """The socket, or None where this `serve` has none of that name."""
        return self.sockets.get(name)

    def share(self, name: str) -> Share | None:
        """How to take turns at this one; None where there is nobody to take turns with."""
        return None if self.shares is None else Share(self.shares, list(LISTENERS).index(name))

    def submission(self) -> Iterator[tuple[str, int]]:
        """Host and port of where programs hand in mail: what we send must not come back there."""
        for name in ("smtp", "smtps"):
            if (listener := self.get(name)) is not None:
                host, port = listener.getsockname()[:2]
                yield host, port

    def close(self) -> None:
        """Close all of them here; whoever shares one keeps it."""
        for listener in self.sockets.values():
            listener.close()


def bind_all(settings: Settings, *, first_run: bool) -> Listeners:
    """Every socket that the roles need. Raises Unavailable, Invalid.

    An address that is taken is an error where somebody asked for it; where nobody did, or somebody tries it
    out (first_run), another port is taken, and a note says so.
    """
    found = Listeners()
    try:
        for name, role in LISTENERS.items():
            wanted: Endpoint | None = getattr(settings, name)
            if wanted is not None and role in (ANY, *settings.roles):
                bound = _bind_inbox if name == "inbox" else _bind_or_another
                found.sockets[name] = bound(found, settings, name, wanted, first_run)
    except BaseException:
        found.close()
        raise
    return found


def shown(listener: socket.socket) -> str:
    """Its address as host:port."""
    host, port = listener.getsockname()[:2]
    return str(Endpoint(host, port))


def url_of(listener: socket.socket) -> str:
    """How this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{Endpoint(_WILDCARDS.get(host, host), port)}"


def _bind_or_another(
    found: Listeners, settings: Settings, name: str, wanted: Endpoint, first_run: bool
) -> socket.socket:
    try:
        return _bind(wanted.host, wanted.port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise Unavailable(f"cannot listen on {wanted}: {error.strerror}") from error
        _require_no_wish(settings, name, wanted, first_run, error)
        listener = _bind(wanted.host, 0)
        found.notes.append(f"{wanted} was taken, so {_WHAT[name]} on port {listener.getsockname()[1]}.")
        return listener


def _bind_inbox(
    found: Listeners, settings: Settings, name: str, wanted: Endpoint, first_run: bool
) -> socket.socket:
    try:
        listener = open_socket(wanted.host, wanted.port)
        with contextlib.suppress(OSError):
            listener.listen(_BACKLOG)
            return listener
        listener.close()  # bound by two and listened on by the other: taken all the same
    except Conflict as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRINUSE:
            raise
    _require_no_wish(settings, name, wanted, first_run, None)
    listener = open_socket(wanted.host, 0)
    port = listener.getsockname()[1]
    found.notes.append(f"{wanted} was taken, so the test inbox listens on port {port}.")
    return listener


def _require_no_wish(
    settings: Settings, name: str, wanted: Endpoint, first_run: bool, cause: Exception | None
) -> None:
    if name in settings.sources and not first_run:
        raise Unavailable(
            f"cannot listen on {wanted}: another program listens there; end it, or choose another address"
            f" with --{name}"
        ) from cause


def _bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # now, so that a taken port is known before anything else starts
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
