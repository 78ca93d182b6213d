"""Servers: made with their streams, changed, deleted with all that is theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from postroom.actions.changes import UNSET, Unset, given
from postroom.actions.checks import check_label, is_id, page, raise_any
from postroom.actions.context import Actor, Context
from postroom.actions.trail import difference, present
from postroom.core.connection import Connection
from postroom.core.server import Owner, Server
from postroom.core.stream import Stream
from postroom.errors import FieldError, Invalid, NotFound
from postroom.ids import AccountId, DeliveryId, ServerId
from postroom.mail.address import parse_mailbox
from postroom.storage import (
    accounts,
    audit,
    connections,
    generations,
    identities,
    keys,
    pauses,
    queue,
    servers,
)
from postroom.storage.interface import Work, now
from postroom.storage.pauses import PauseScope

KIND = "server"
MOST_OPTIONS_CHARACTERS = 64 << 10


@dataclass(frozen=True)
class ServerChanges:
    """Fields to change; UNSET leaves one as it is. `options` replaces single entries; null removes one."""

    name: str | Unset = UNSET
    default_sender: str | Unset | None = UNSET
    sandbox: bool | Unset = UNSET
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class DeletedServer:
    """What deleting a server did: deliveries cancelled, and those that were past their final dot."""

    server_id: ServerId
    cancelled: int
    past_dot: frozenset[DeliveryId]


async def create_server(
    ctx: Context,
    actor: Actor,
    account_id: AccountId,
    name: str,
    *,
    default_sender: str | None = None,
    sandbox: bool = False,
    options: Mapping[str, object] | None = None,
) -> Server:
    """A new server with the streams outbound, inbound and broadcast. Raises Invalid; NotFound(account)."""
    fresh = _checked(name, default_sender, sandbox, {}, options or {})

    def work() -> Work[Server]:
        if not is_id(account_id) or (yield from accounts.get(account_id)) is None:
            raise NotFound("account")
        at = yield from now()
        server = yield from servers.add(
            account_id,
            fresh.name,
            at,
            default_sender=fresh.default_sender,
            sandbox=fresh.sandbox,
            options=fresh.options,
        )
        yield from _audit(server, at, actor, "server.create", {"after": present(_shown(server))})
        return server

    return await ctx.store.write(work)


async def get_server(ctx: Context, owner: Owner, server_id: ServerId) -> Server:
    """One server the owner sees. Raises NotFound, for a foreign one too."""
    return await ctx.store.read(lambda: _owned(owner, server_id))


async def list_servers(
    ctx: Context, owner: Owner, *, limit: int = 500, offset: int = 0
) -> tuple[list[Server], int]:
    """The servers the owner sees, oldest first, and their number without limit and offset."""
    limit, offset = page(limit, offset)
    return await ctx.store.read(lambda: servers.list_of(owner, limit=limit, offset=offset))


async def list_streams(ctx: Context, owner: Owner, server_id: ServerId) -> list[Stream]:
    """The streams of one server, by name. Raises NotFound."""

    def work() -> Work[list[Stream]]:
        server = yield from _owned(owner, server_id)
        return (yield from servers.list_streams(server.account_id, server.server_id))

    return await ctx.store.read(work)


async def update_server(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, changes: ServerChanges
) -> Server:
    """Change some fields; what asks for no change changes nothing. Raises Invalid, NotFound."""

    def work() -> Work[Server]:
        current = yield from _owned(owner, server_id)
        merged = _checked(
            given(changes.name, current.name),
            given(changes.default_sender, current.default_sender),
            given(changes.sandbox, current.sandbox),
            current.options,
            changes.options,
        )
        at = yield from now()
        server = replace(
            current,
            name=merged.name,
            default_sender=merged.default_sender,
            sandbox=merged.sandbox,
            options=merged.options,
            updated_at_us=at,
        )
        changed = difference(_shown(current), _shown(server))
        if changed is None:
            return current
        yield from servers.change(server, at)
        yield from _audit(server, at, actor, "server.update", changed)
        return server

    server = await ctx.store.write(work)
    ctx.hearer.facts_changed(owner.account_id)
    return server


async def delete_server(ctx: Context, actor: Actor, owner: Owner, server_id: ServerId) -> DeletedServer:
    """The server is gone with its connections, keys and identities, and what waits is cancelled.

    What a worker holds is stopped before its final dot where that is possible; the rest is named in the
    answer and in the audit line. Messages, events and counters stay. Raises NotFound.
    """

    def mark() -> Work[tuple[list[Connection], list[DeliveryId], int]]:
        server = yield from _owned(owner, server_id)
        account_id = server.account_id
        at = yield from now()
        yield from servers.mark_deleted(account_id, server_id, at)
        gone = yield from connections.list_of_server(account_id, server_id)
        yield from pauses.remove(account_id, PauseScope.SERVER, server_id)
        for connection in gone:
            yield from connections.mark_deleted(connection, at)
            yield from pauses.remove(account_id, PauseScope.CONNECTION, connection.connection_id)
        yield from keys.revoke_of_server(account_id, server_id, at)
        yield from generations.advance(generations.KEYS)
        yield from identities.remove_of_server(account_id, server_id)
        first = yield from queue.cancel_waiting(account_id, server_id)
        held = yield from servers.claimed(account_id, server_id)
        detail = {"before": present(_shown(server)), "connections": [one.connection_id for one in gone]}
        yield from _audit(server, at, actor, "server.delete", detail)
        return gone, held, first

    gone, held, cancelled = await ctx.store.write(mark)
    ctx.keys.forget_server(owner.account_id, server_id)
    for connection in gone:
        ctx.hearer.connection_changed(connection.connection_id)
    ctx.hearer.facts_changed(owner.account_id)
    more = cancelled
    while more:  # in slices, so that no transaction is long
        more = await ctx.store.write(lambda: queue.cancel_waiting(owner.account_id, server_id))
        cancelled += more
    past_dot = await ctx.hearer.cancel_claims(held) if held else frozenset()
    if past_dot:
        await ctx.store.write(lambda: _note_past_dot(owner.account_id, server_id, actor, past_dot))
    return DeletedServer(server_id, cancelled, past_dot)


def _note_past_dot(
    account_id: AccountId, server_id: ServerId, actor: Actor, past_dot: frozenset[DeliveryId]
) -> Work[None]:
    at = yield from now()
    detail = {"past_dot": sorted(past_dot)}
    yield from audit.add(account_id, at, actor, "server.delete_late", f"{KIND} {server_id}", detail)


def _owned(owner: Owner, server_id: ServerId) -> Work[Server]:
    known = is_id(server_id) and owner.sees_server(server_id)
    found = (yield from servers.get(owner.account_id, server_id)) if known else None
    if found is None:
        raise NotFound(KIND)
    return found


@dataclass(frozen=True)
class _Fields:
    name: str
    default_sender: str | None
    sandbox: bool
    options: Mapping[str, object]


def _checked(
    name: str,
    default_sender: str | None,
    sandbox: bool,
    stored: Mapping[str, object],
    changed: Mapping[str, object],
) -> _Fields:
    errors: list[FieldError] = []
    name = check_label(name, "name", errors)
    sender = (default_sender or "").strip() or None
    if sender is not None:
        try:
            parse_mailbox(sender, "default_sender")
        except Invalid as error:
            errors.extend(error.errors)
    options = {one: value for one, value in {**stored, **changed}.items() if value is not None}
    if len(json.dumps(options)) > MOST_OPTIONS_CHARACTERS:
        errors.append(
            FieldError("options", f"are too long (maximum is {MOST_OPTIONS_CHARACTERS} characters)")
        )
    raise_any(errors)
    return _Fields(name, sender, sandbox, options)


def _shown(server: Server) -> dict[str, object]:
    return {
        "name": server.name,
        "default_sender": server.default_sender,
        "sandbox": server.sandbox,
        "options": dict(server.options),
    }


def _audit(server: Server, at_us: int, actor: Actor, action: str, detail: Mapping[str, object]) -> Work[None]:
    target = f"{KIND} {server.server_id}"
    yield from audit.add(server.account_id, at_us, actor, action, target, detail)
