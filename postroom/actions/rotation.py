"""Rotating a connection's secrets: the new one is tried, then takes the place of the old, which is kept.

Nothing changes unless the peer lets the new secret in. The old one stays, sealed beside it, until it is told
to go; going back needs no test and keeps the other one in turn. Both are the connection's and go with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from postroom.actions.checks import is_id
from postroom.actions.connection_draft import NO_RULES, ConnectionChanges, merge
from postroom.actions.connection_secrets import open_kept, opened, read_opened, seal
from postroom.actions.connections import KIND, get_connection
from postroom.actions.context import Actor, Context
from postroom.actions.trail import HIDDEN
from postroom.core.connection import Connection
from postroom.core.server import Owner
from postroom.errors import Conflict, FieldError, Invalid, NotFound
from postroom.ids import ConnectionId
from postroom.storage import accounts, audit, connections
from postroom.storage.connections import KEPT
from postroom.storage.interface import Work, now
from postroom.transports.interface import Outcome, Result

_CHANGED = "the connection was changed by somebody else; nothing was rotated"
_NONE_KEPT = "no secrets from before a rotation are kept"


@dataclass(frozen=True)
class Rotated:
    """How a rotation went. `switched` False: the peer did not let the new secret in, and nothing changed."""

    outcome: Outcome
    switched: bool
    names: tuple[str, ...]


async def rotate(
    ctx: Context, actor: Actor, owner: Owner, connection_id: ConnectionId, secrets: Mapping[str, object]
) -> Rotated:
    """Try these in place of the stored ones of the same names, and switch to them if they are let in.

    Raises NotFound, Invalid (none given, or of a name that is not stored), Conflict while those from before
    an earlier rotation are kept, or when somebody changed the connection meanwhile; Unavailable.
    """
    current = await get_connection(ctx, owner, connection_id, with_secrets=True)
    given = merge(
        current, frozenset(current.secrets), ConnectionChanges(secrets=secrets), NO_RULES
    ).set_secrets
    faults = [
        FieldError(name, "is not stored, so there is none to rotate")
        for name in given.keys() - current.secrets
    ]
    wanted = {name: value for name, value in given.items() if current.secrets.get(name) != value}
    if faults or not wanted:
        raise Invalid.of(
            faults or [FieldError("secrets", "must name at least one that is another than before")]
        )
    names = tuple(sorted(wanted))
    if await ctx.store.read(lambda: connections.kept_secrets(current)):
        raise Conflict("the secrets from before the last rotation are still kept; finish that, or go back")
    outcome = await ctx.prober.probe(replace(current, secrets={**current.secrets, **wanted}))
    if outcome.result is not Result.SENT:
        return Rotated(outcome, False, names)

    def work() -> Work[None]:
        yield from accounts.hold(owner.account_id)
        at = yield from now()
        old = {KEPT + name: current.secrets[name] for name in names}
        sealed = yield from seal(ctx, current.uid, {**wanted, **old})
        stored = yield from connections.change(current, current.version, at, sealed=sealed)
        if stored is None:
            raise Conflict(_CHANGED)
        if stored.enabled and stored.failed_at_us is not None:
            yield from connections.record_success(stored, at)
        yield from _audit(current, at, actor, "connection.rotate", names)

    await ctx.store.write(work)
    ctx.hearer.connection_changed(connection_id)
    return Rotated(outcome, True, names)


async def go_back(ctx: Context, actor: Actor, owner: Owner, connection_id: ConnectionId) -> tuple[str, ...]:
    """The kept secrets and those in use change places. Raises NotFound, Conflict, Unavailable."""

    def read() -> Work[tuple[Connection, dict[str, str]]]:
        found = yield from _owned(owner, connection_id)
        sealed = yield from connections.sealed_secrets(found.account_id, [connection_id])
        kept = yield from connections.kept_secrets(found)
        return opened(ctx, found, sealed.get(connection_id, {})), open_kept(ctx, found, kept)

    current, kept = await read_opened(ctx, read)
    if not kept:
        raise Conflict(_NONE_KEPT)
    names = tuple(sorted(kept))

    def work() -> Work[None]:
        yield from accounts.hold(owner.account_id)
        at = yield from now()
        used = {KEPT + name: current.secrets[name] for name in names if name in current.secrets}
        sealed = yield from seal(ctx, current.uid, {**kept, **used})
        cleared = frozenset(KEPT + name for name in names) - sealed.keys()
        stored = yield from connections.change(current, current.version, at, sealed=sealed, cleared=cleared)
        if stored is None:
            raise Conflict(_CHANGED)
        yield from _audit(current, at, actor, "connection.rotate_back", names)

    await ctx.store.write(work)
    ctx.hearer.connection_changed(connection_id)
    return names


async def finish(ctx: Context, actor: Actor, owner: Owner, connection_id: ConnectionId) -> tuple[str, ...]:
    """The kept secrets are destroyed. Raises NotFound, Conflict when there are none."""

    def work() -> Work[tuple[str, ...]]:
        yield from accounts.hold(owner.account_id)
        current = yield from _owned(owner, connection_id)
        kept = yield from connections.kept_secrets(current)
        if not kept:
            raise Conflict(_NONE_KEPT)
        at = yield from now()
        yield from connections.drop_kept_secrets(current)
        names = tuple(sorted(kept))
        yield from _audit(current, at, actor, "connection.rotate_finish", names)
        return names

    return await ctx.store.write(work)


async def kept_names(ctx: Context, owner: Owner, connection_id: ConnectionId) -> tuple[str, ...]:
    """Which secrets from before a rotation are kept. Raises NotFound."""

    def work() -> Work[tuple[str, ...]]:
        current = yield from _owned(owner, connection_id)
        return tuple(sorted((yield from connections.kept_secrets(current))))

    return await ctx.store.read(work)


def _owned(owner: Owner, connection_id: ConnectionId) -> Work[Connection]:
    found = (yield from connections.get_owned(owner, connection_id)) if is_id(connection_id) else None
    if found is None:
        raise NotFound(KIND)
    return found


def _audit(
    connection: Connection, at_us: int, actor: Actor, action: str, names: tuple[str, ...]
) -> Work[None]:
    hidden = dict.fromkeys(names, HIDDEN)
    detail = {"before": hidden, "after": hidden}
    target = f"{KIND} {connection.connection_id}"
    yield from audit.add(connection.account_id, at_us, actor, action, target, detail)
