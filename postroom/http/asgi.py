"""The shapes of ASGI 3 (asgi.readthedocs.io), by which servers and applications are joined."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

# Any: the values of these mappings are as the ASGI specification says, one type per name.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]


def header_values(headers: RawHeaders, name: bytes) -> list[str]:
    """The values of one header field in order; `name` in lower case. Bytes are read as ISO 8859-1."""
    return [value.decode("latin-1") for one, value in headers if one == name]


async def answer(
    send: Send, status: int, body: bytes, content_type: bytes, *more: tuple[bytes, bytes]
) -> None:
    """A whole response at once."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
