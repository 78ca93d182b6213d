"""A connection's secrets between memory and the database: each sealed for its record and name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from postroom.actions import sealing
from postroom.actions.context import Context
from postroom.core.connection import Connection
from postroom.errors import Unavailable
from postroom.keyring import KeyringError
from postroom.storage.connections import KEPT, SECRETS_TABLE
from postroom.storage.interface import Work

T = TypeVar("T")


def seal(ctx: Context, uid: bytes, plain: Mapping[str, str]) -> Work[dict[str, bytes]]:
    """As they are stored, under the uid of their connection; in the unit of work that stores them."""
    encoded = {name: value.encode() for name, value in plain.items()}
    return (yield from sealing.seal(ctx.ring, uid, SECRETS_TABLE, encoded))


def opened(ctx: Context, connection: Connection, sealed: Mapping[str, bytes]) -> Connection:
    """The connection with its secrets. Raises Unavailable when the ring does not open one."""
    try:
        plain = {name: _open(ctx, connection, name, value) for name, value in sealed.items()}
    except KeyringError as error:
        raise Unavailable(f"connection {connection.connection_id}: {error}", retry_after_s=60) from error
    return replace(connection, secrets=plain)


def open_kept(ctx: Context, connection: Connection, sealed: Mapping[str, bytes]) -> dict[str, str]:
    """Secrets kept by a rotation, by their names in use. Raises Unavailable."""
    try:
        return {name: _open(ctx, connection, KEPT + name, value) for name, value in sealed.items()}
    except KeyringError as error:
        raise Unavailable(f"connection {connection.connection_id}: {error}", retry_after_s=60) from error


async def read_opened(ctx: Context, work: Callable[[], Work[T]]) -> T:
    """A reading unit that opens secrets; once more where a rotation of the key file ended between the two."""
    try:
        return await ctx.store.read(work)
    except Unavailable as error:
        if not isinstance(error.__cause__, KeyringError):
            raise
    return await ctx.store.read(work)


def differing(
    ctx: Context, connection: Connection, sealed: Mapping[str, bytes], wanted: Mapping[str, str]
) -> dict[str, str]:
    """Those of `wanted` that are not stored so; one that does not open differs, so it can be replaced."""
    return {
        name: value
        for name, value in wanted.items()
        if name not in sealed or not _is(ctx, connection, name, sealed[name], value)
    }


def _is(ctx: Context, connection: Connection, name: str, sealed: bytes, value: str) -> bool:
    try:
        return _open(ctx, connection, name, sealed) == value
    except KeyringError:
        return False


def _open(ctx: Context, connection: Connection, name: str, sealed: bytes) -> str:
    return sealing.unseal(ctx.ring, sealed, uid=connection.uid, table=SECRETS_TABLE, field=name).decode()
