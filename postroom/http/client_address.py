"""Who a request comes from, and whether it came by https, behind reverse proxies too.

X-Forwarded-For and X-Forwarded-Proto are text that anybody may send. They are believed only from peers of
`trusted_proxies`: each such proxy has appended whom it heard from, so the list is read from its right end up
to the first address that is no proxy of ours; whatever stands left of that is the client's own invention.
Everybody else is the address of the connection. RFC 7239's `Forwarded` is not read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from postroom.http.asgi import ASGIApp, RawHeaders, Receive, Scope, Send, header_values

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_HOPS = 32


def client_address(scope: Scope) -> str:
    """The client's IP address as text: an IPv4 address in its own form, never one inside IPv6.

    "" where the server did not say. Behind `ClientAddress` it is the client of the outermost proxy.
    """
    client = scope.get("client")
    return _canonical(client[0]) if client else ""


@lru_cache(maxsize=4096)  # each connection asks with every request
def _canonical(text: str) -> str:
    found = _address(text)
    return "" if found is None else str(found)


class ClientAddress:
    """An application around another, which then sees the real client and scheme in its scope."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        """trusted: the networks of the reverse proxies."""
        self._app, self._trusted = app, tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._trusted and scope["type"] == "http":
            scope = self._seen_through(scope)
        await self._app(scope, receive, send)

    def _seen_through(self, scope: Scope) -> Scope:
        peer = _address(client_address(scope))
        if peer is None or not self._is_trusted(peer):
            return scope
        seen = dict(scope)
        client = self._client(peer, scope["headers"])
        if client != peer:
            seen["client"] = (str(client), 0)  # its port nobody told
        schemes = ",".join(header_values(scope["headers"], b"x-forwarded-proto")).lower().split(",")
        if schemes[-1].strip() in ("http", "https"):
            seen["scheme"] = schemes[-1].strip()  # what the proxy next to us said
        return seen

    def _client(self, peer: _Address, headers: RawHeaders) -> _Address:
        """The last one that a proxy of ours reported; a word that is no address ends what is believed."""
        client = peer
        told = ",".join(header_values(headers, b"x-forwarded-for")).rsplit(",", _MOST_HOPS)
        for text in reversed(told[-_MOST_HOPS:]):
            found = _address(_without_port(text.strip()))
            if found is None:
                break
            client = found
            if not self._is_trusted(client):
                break
        return client

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _address(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found.scope_id is not None:  # a zone is a name of this host's, and means nothing elsewhere
            return ipaddress.IPv6Address(int(found))
    return found


def _without_port(text: str) -> str:
    """Some proxies write `192.0.2.1:5678` or `[2001:db8::1]:5678`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
