"""Servers: made with their streams, changed, deleted with all that is theirs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from postroom.actions import server_secrets
from postroom.actions.changes import UNSET, Unset, given
from postroom.actions.checks import check_label, is_id, page, raise_any
from postroom.actions.context import Actor, Context
from postroom.actions.trail import difference, present
from postroom.core.connection import Connection
from postroom.core.key import KeyKind, new_key
from postroom.core.server import Owner, Server
from postroom.errors import Conflict, Denied, FieldError, Invalid, NotFound
from postroom.ids import AccountId, DeliveryId, ServerId
from postroom.mail.address import parse_domain, parse_mailbox
from postroom.storage import (
    accounts,
    audit,
    connections,
    dkim_keys,
    generations,
    identities,
    in_flight,
    keys,
    pauses,
    purge,
    queue,
    servers,
    streams,
)
from postroom.storage.interface import Work, now
from postroom.storage.pauses import PauseScope

KIND = "server"
MOST_OPTIONS_CHARACTERS = 64 << 10
_PURGED_AT_ONCE = 20  # slices


@dataclass(frozen=True)
class ServerChanges:
    """Fields to change; UNSET leaves one as it is. `options` replaces single entries; null removes one.

    hook_logins: by the hook's name `user:password` of its URL, which is kept sealed; null forgets it.
    """

    name: str | Unset = UNSET
    default_sender: str | Unset | None = UNSET
    sandbox: bool | Unset = UNSET
    smtp_enabled: bool | Unset = UNSET
    inbound_domain: str | Unset = UNSET
    options: Mapping[str, object] = field(default_factory=dict)
    hook_logins: Mapping[str, str | None] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ServerRules:
    """What one way in demands besides: that no other server of the account has the name; the account's plan;
    that it can show a key that works with the server."""

    unique_name: bool = False
    within_plan: bool = False
    with_token: bool = False


class NameTaken(Conflict):
    """Another server of the account has this name."""


class InboundDomainTaken(Conflict):
    """Another server has this inbound domain."""


class PlanLimit(Conflict):
    """The account's plan allows no more servers."""


class DeletionOff(Denied):
    """The account's keys may not delete servers."""


@dataclass(frozen=True)
class DeletedServer:
    """What deleting a server did: deliveries cancelled, and those that were past their final dot."""

    server_id: ServerId
    name: str
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
    smtp_enabled: bool = True,
    inbound_domain: str = "",
    options: Mapping[str, object] | None = None,
    hook_logins: Mapping[str, str | None] | None = None,
    rules: ServerRules | None = None,
) -> Server:
    """A new server with the streams outbound, inbound and broadcast.

    Raises Invalid; NotFound(account); NameTaken, InboundDomainTaken, PlanLimit.
    """
    rules = rules or ServerRules()
    fresh = _checked(
        ServerChanges(name, default_sender, sandbox, smtp_enabled, inbound_domain, options or {}), None
    )
    inbound_hash = secrets.token_hex(16)
    token = new_key(KeyKind.SERVER) if rules.with_token else None

    def work() -> Work[Server]:
        account = (yield from accounts.lock(account_id)) if is_id(account_id) else None
        if account is None:
            raise NotFound("account")
        if rules.within_plan and account.max_servers is not None:
            _, count = yield from servers.list_of(Owner(account_id), limit=0)
            if count >= account.max_servers:
                raise PlanLimit
        yield from _none_has(account_id, None, fresh.name if rules.unique_name else "", fresh.inbound_domain)
        at = yield from now()
        server = yield from servers.add(
            account_id,
            fresh.name,
            at,
            default_sender=fresh.default_sender,
            sandbox=fresh.sandbox,
            inbound_hash=inbound_hash,
            smtp_enabled=fresh.smtp_enabled,
            inbound_domain=fresh.inbound_domain,
            options=fresh.options,
        )
        yield from _audit(server, at, actor, "server.create", {"after": present(_shown(server))})
        yield from server_secrets.store_hooks(ctx, server, hook_logins or {})
        if token is not None:
            yield from server_secrets.store_token(ctx, actor, server, token, at)
        return server

    return await ctx.store.write(work)


async def get_server(ctx: Context, owner: Owner, server_id: ServerId) -> Server:
    """One server the owner sees. Raises NotFound, for a foreign one too."""
    return await ctx.store.read(lambda: owned(owner, server_id))


async def list_servers(
    ctx: Context, owner: Owner, *, containing: str = "", limit: int = 500, offset: int = 0
) -> tuple[list[Server], int]:
    """The servers the owner sees, oldest first, and their number without limit and offset.

    containing: only those with this text in their name.
    """
    limit, offset = page(limit, offset)
    return await ctx.store.read(
        lambda: servers.list_of(owner, containing=containing, limit=limit, offset=offset)
    )


async def update_server(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    server_id: ServerId,
    changes: ServerChanges,
    rules: ServerRules | None = None,
) -> Server:
    """Change some fields; what asks for no change changes nothing.

    Raises Invalid, NotFound, NameTaken, InboundDomainTaken.
    """
    rules = rules or ServerRules()

    def work() -> Work[Server]:
        yield from accounts.lock(owner.account_id)  # first, as in making one
        yield from _lock(owner, server_id)
        current = yield from owned(owner, server_id)
        merged = _checked(changes, current)
        renamed = merged.name if rules.unique_name and merged.name != current.name else ""
        moved = merged.inbound_domain if merged.inbound_domain != current.inbound_domain else ""
        yield from _none_has(owner.account_id, server_id, renamed, moved)
        at = yield from now()
        server = replace(merged, updated_at_us=at)
        logins = yield from server_secrets.store_hooks(ctx, current, changes.hook_logins)
        changed = difference({**_shown(current), **logins[0]}, {**_shown(server), **logins[1]})
        if changed is None:
            return current
        yield from servers.change(server, at)
        yield from _audit(server, at, actor, "server.update", changed)
        return server

    server = await ctx.store.write(work)
    ctx.hearer.facts_changed(owner.account_id)
    return server


def _none_has(account_id: AccountId, but: ServerId | None, name: str, inbound_domain: str) -> Work[None]:
    """No other server has these, where they are given. Raises NameTaken, InboundDomainTaken."""
    if name and (yield from servers.name_is_taken(account_id, name, but)):
        raise NameTaken
    if inbound_domain and (yield from servers.inbound_domain_is_taken(inbound_domain, but)):
        raise InboundDomainTaken


async def delete_server(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, rules: ServerRules | None = None
) -> DeletedServer:
    """The server is gone with all that is its own, and what waits is cancelled.

    What a worker holds is stopped before its final dot where that is possible; the rest is named in the
    answer and in the audit line. Of what it leaves behind, a small server's goes at once and a large one's in
    the background (`storage.purge`); counters of caps stay. Raises NotFound, DeletionOff.
    """
    rules = rules or ServerRules()

    def mark() -> Work[tuple[Server, list[Connection], int]]:
        yield from _lock(owner, server_id)
        server = yield from owned(owner, server_id)
        account_id = server.account_id
        account = yield from accounts.get(account_id)
        if rules.within_plan and account is not None and not account.may_delete_servers:
            raise DeletionOff
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
        yield from dkim_keys.remove_of_server(account_id, server_id)
        first = yield from queue.cancel_waiting(account_id, server_id)
        detail = {"before": present(_shown(server)), "connections": [one.connection_id for one in gone]}
        yield from _audit(server, at, actor, "server.delete", detail)
        return server, gone, first

    server, gone, cancelled = await ctx.store.write(mark)
    ctx.keys.forget_server(owner.account_id, server_id)
    for connection in gone:
        ctx.hearer.connection_changed(connection.connection_id)
    ctx.hearer.facts_changed(owner.account_id)
    more = cancelled
    while more:  # in slices, so that no transaction is long
        more = await ctx.store.write(lambda: queue.cancel_waiting(owner.account_id, server_id))
        cancelled += more
    held = await ctx.store.write(lambda: _held(owner.account_id, server_id))
    past_dot = await ctx.hearer.cancel_claims(held) if held else frozenset()
    if past_dot:
        await ctx.store.write(lambda: _note_past_dot(owner.account_id, server_id, actor, past_dot))
    for _ in range(_PURGED_AT_ONCE):
        purged = await ctx.store.write(lambda: purge.purge_slice(owner.account_id, server_id))
        if purged.done or purged.blocked:
            break
    return DeletedServer(server_id, server.name, cancelled, past_dot)


def _held(account_id: AccountId, server_id: ServerId) -> Work[list[DeliveryId]]:
    """What workers hold, those included whose claim was being committed at the deletion."""
    yield from in_flight.after_claims()
    return (yield from servers.claimed(account_id, server_id))


def _note_past_dot(
    account_id: AccountId, server_id: ServerId, actor: Actor, past_dot: frozenset[DeliveryId]
) -> Work[None]:
    at = yield from now()
    detail = {"past_dot": sorted(past_dot)}
    yield from audit.add(account_id, at, actor, "server.delete_late", f"{KIND} {server_id}", detail)


def _lock(owner: Owner, server_id: ServerId) -> Work[None]:
    """Others that change the server or its streams wait until this unit ends. Raises NotFound."""
    if not is_id(server_id) or not (yield from streams.lock(owner.account_id, server_id)):
        raise NotFound(KIND)


def locked(owner: Owner, server_id: ServerId) -> Work[AccountId]:
    """Nobody else changes the server, or what is the server's own, until this unit ends. Raises NotFound."""
    yield from _lock(owner, server_id)
    return (yield from owned(owner, server_id)).account_id


def owned(owner: Owner, server_id: ServerId) -> Work[Server]:
    """The server, if the owner sees it. Raises NotFound."""
    known = is_id(server_id) and owner.sees_server(server_id)
    found = (yield from servers.get(owner.account_id, server_id)) if known else None
    if found is None:
        raise NotFound(KIND)
    return found


def _checked(changes: ServerChanges, current: Server | None) -> Server:
    """The server as the changes make it; of a new one the ids and times are to come. Raises Invalid."""
    was = current or _BLANK
    errors: list[FieldError] = []
    name = check_label(given(changes.name, was.name), "name", errors)
    sender = (given(changes.default_sender, was.default_sender) or "").strip() or None
    if sender is not None:
        try:
            parse_mailbox(sender, "default_sender")
        except Invalid as error:
            errors.extend(error.errors)
    options = {one: value for one, value in {**was.options, **changes.options}.items() if value is not None}
    if len(json.dumps(options)) > MOST_OPTIONS_CHARACTERS:
        errors.append(
            FieldError("options", f"are too long (maximum is {MOST_OPTIONS_CHARACTERS} characters)")
        )
    domain = given(changes.inbound_domain, was.inbound_domain)
    if domain and not isinstance(changes.inbound_domain, Unset):
        try:
            wild = "*." if domain.startswith("*.") else ""
            domain = wild + parse_domain(domain.removeprefix("*."), "inbound_domain")
        except Invalid as error:
            errors.extend(error.errors)
    raise_any(errors)
    return replace(
        was,
        name=name,
        default_sender=sender,
        sandbox=given(changes.sandbox, was.sandbox),
        smtp_enabled=given(changes.smtp_enabled, was.smtp_enabled),
        inbound_domain=domain,
        options=options,
    )


_BLANK = Server(AccountId(0), ServerId(0), "", None, False, False, 0, 0)


def _shown(server: Server) -> dict[str, object]:
    return {
        "name": server.name,
        "default_sender": server.default_sender,
        "sandbox": server.sandbox,
        "smtp_enabled": server.smtp_enabled,
        "inbound_domain": server.inbound_domain or None,
        "options": dict(server.options),
    }


def _audit(server: Server, at_us: int, actor: Actor, action: str, detail: Mapping[str, object]) -> Work[None]:
    target = f"{KIND} {server.server_id}"
    yield from audit.add(server.account_id, at_us, actor, action, target, detail)
