"""The page /metrics: who may read it, and how it is sent. What stands on it is given.

It says how much mail goes where and how well, so it is not for everybody: without a token only for programs
on this machine. Elsewhere it does not exist (404) while no token is set, and asks for one (401) where one is.
A request that a proxy forwarded is never from this machine, whoever the proxy is: a proxy that is not in
`trusted_proxies` would else lend its own loopback address to the whole world.
"""

from __future__ import annotations

import gzip
import hmac
import re
from collections.abc import Awaitable, Callable

from postroom.http.asgi import RawHeaders, Receive, Scope, Send, answer, header_values
from postroom.http.client_address import client_address
from postroom.peers import is_loopback
from postroom.secret import Secret

PATH = "/metrics"
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")
_GZIP_LEVEL = 3
_NOTHING = re.compile(r"q=0(\.0*)?")
_TEXT = b"text/plain; charset=utf-8"


class MetricsPage:
    """An ASGI application for one path."""

    def __init__(self, render: Callable[[str], Awaitable[tuple[bytes, str]]], token: Secret) -> None:
        """render: given the Accept header, the body and its content type. token: empty for none."""
        self._render, self._token = render, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: RawHeaders = scope["headers"]
        if not self._may_read(scope):
            if not self._token:
                await answer(send, 404, b'{"error":"Not Found"}', b"application/json")
                return
            challenge = (b"www-authenticate", b'Bearer realm="metrics"')
            await answer(send, 401, b"a valid metrics_token is needed\n", _TEXT, challenge)
            return
        if scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, b"only GET and HEAD\n", _TEXT, (b"allow", b"GET, HEAD"))
            return
        body, content_type = await self._render(",".join(header_values(headers, b"accept")))
        more = [(b"cache-control", b"no-store"), (b"vary", b"accept, accept-encoding")]
        if _takes_gzip(headers):
            body = gzip.compress(body, _GZIP_LEVEL)
            more.append((b"content-encoding", b"gzip"))
        await answer(send, 200, body, content_type.encode(), *more)

    def _may_read(self, scope: Scope) -> bool:
        headers: RawHeaders = scope["headers"]
        if is_loopback(client_address(scope)) and not any(name in _FORWARDED for name, _ in headers):
            return True
        given = header_values(headers, b"authorization")
        if not self._token or len(given) != 1:
            return False
        scheme, _, token = given[0].partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            token.strip().encode("latin-1"), self._token.reveal().encode()
        )


def _takes_gzip(headers: RawHeaders) -> bool:
    """Whether Accept-Encoding names gzip with a weight that is not 0 (RFC 9110 12.5.3)."""
    for part in ",".join(header_values(headers, b"accept-encoding")).lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return not _NOTHING.fullmatch(weight.replace(" ", ""))
    return False
