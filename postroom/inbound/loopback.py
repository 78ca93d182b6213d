"""Sockets that only this machine can reach: the test inbox listens on no other."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from postroom.errors import Conflict, Invalid


def open_socket(host: str, port: int) -> socket.socket:
    """A bound TCP socket for `Inbox.start`; port 0 takes any free one.

    Raises Invalid when `host` is not loopback or not known, Conflict when the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Invalid("inbox", f"cannot listen on {host}: {error.strerror}") from error
    family, kind, protocol, _, address = found[0]
    require_loopback(str(address[0]))
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def require_loopback(host: str) -> None:
    """Raises Invalid for any other address."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            return
    raise Invalid("inbox", f"must listen on a loopback address such as 127.0.0.1, not {host}")
