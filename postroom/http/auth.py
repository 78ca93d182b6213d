"""Which key of ours a request carries, wherever its dialect wants it written."""

from __future__ import annotations

from postroom.actions import keys
from postroom.actions.context import Context
from postroom.core.key import Key
from postroom.errors import Unauthenticated
from postroom.http.asgi import RawHeaders, Scope, header_values
from postroom.http.client_address import client_address


def key_text(headers: RawHeaders, *, bearer: bool = True, named: tuple[bytes, ...] = ()) -> str:
    """The key as written: in `Authorization: Bearer` (RFC 6750 2.1), or alone in a header of `named`.

    named: lower-case names, such as `x-api-key`. Raises Unauthenticated when there is none, and when a
    request carries two that differ: nobody knows which one it means.
    """
    found: set[str] = set()
    if bearer:
        for value in header_values(headers, b"authorization"):
            scheme, _, token = value.strip().partition(" ")
            found.add(token.strip() if scheme.lower() == "bearer" else "")
    for name in named:
        found.update(value.strip() for value in header_values(headers, name))
    if len(found) != 1:
        raise Unauthenticated
    return found.pop()


async def authenticate(
    ctx: Context, scope: Scope, *, bearer: bool = True, named: tuple[bytes, ...] = ()
) -> Key:
    """The key of a request. Raises Unauthenticated; Unavailable."""
    text = key_text(scope["headers"], bearer=bearer, named=named)
    return await keys.authenticate(ctx, text, client_address(scope))
