"""Connections: made, changed, tested, switched and deleted, by whoever owns them.

Secrets go in sealed and come out only with `with_secrets`, in memory, for those who log in or mask. A
test acts on the settings it read: its result is written only if they are still the stored ones.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from postroom.actions.checks import is_id, page
from postroom.actions.connection_draft import (
    NO_RULES,
    ConnectionChanges,
    ConnectionDraft,
    ConnectionRules,
    merge,
)
from postroom.actions.connection_secrets import differing, opened, read_opened, seal
from postroom.actions.context import Actor, Context
from postroom.actions.trail import HIDDEN, difference, present
from postroom.core.connection import Connection, DeliveryMethod, Security, Vendor
from postroom.core.event import EventKind
from postroom.core.server import Owner
from postroom.errors import Conflict, FieldError, Invalid, NotFound, Unavailable
from postroom.ids import AccountId, ConnectionId, DeliveryId
from postroom.storage import accounts, audit, connections, pauses, quotas, servers, streams
from postroom.storage.interface import Work, now
from postroom.storage.pauses import PauseScope
from postroom.storage.quotas import VendorQuota
from postroom.transports.interface import Fault, Outcome, Result

KIND = "connection"


class LastEnabled(Conflict):
    """Where one connection has to stay enabled, the last one was to be switched off or deleted."""

    def __init__(self) -> None:
        super().__init__("The only enabled connection can be neither switched off nor deleted")


@dataclass(frozen=True)
class Probed:
    """How a connection test ended. `recorded` False: its settings changed while it ran, or we stopped it."""

    outcome: Outcome
    connection: Connection
    recorded: bool

    @property
    def passed(self) -> bool:
        """Whether the peer let us in."""
        return self.outcome.result is Result.SENT


async def create_connection(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    draft: ConnectionDraft,
    rules: ConnectionRules = NO_RULES,
) -> Connection:
    """Make a connection of the owner's: one server's, or shared by the account.

    It comes back with its secrets. Raises Invalid with all field errors; NotFound(server or account).
    """
    uid = secrets.token_bytes(16)
    merged = merge(_blank(owner, uid), frozenset(), draft, rules)

    def work() -> Work[Connection]:
        yield from accounts.hold(owner.account_id)
        yield from _require_owner(owner)
        at = yield from now()
        sealed = yield from seal(ctx, uid, merged.set_secrets)
        fresh = replace(merged.connection, created_at_us=at, updated_at_us=at)
        stored = yield from connections.add(fresh, sealed)
        after = {**present(_shown(stored)), **dict.fromkeys(sorted(sealed), HIDDEN)}
        yield from _audit(stored, at, actor, "connection.create", {"after": after})
        yield from _end_capture(actor, owner, at)
        return stored

    stored = await ctx.store.write(work)
    ctx.hearer.connection_changed(stored.connection_id)
    return replace(stored, secrets=dict(merged.set_secrets))


async def update_connection(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    connection_id: ConnectionId,
    changes: ConnectionChanges,
    rules: ConnectionRules = NO_RULES,
    *,
    expected_version: int | None = None,
) -> Connection:
    """Change some settings; the merged record must keep every rule. It comes back with its secrets.

    What asks for no change, a secret stored already among it, changes nothing. expected_version: the
    version the caller looked at; Conflict when it is another by now. Raises NotFound, Invalid.
    """

    def work() -> Work[tuple[Connection, dict[str, bytes]]]:
        current = yield from _owned(owner, connection_id, lock=True)
        if expected_version is not None and current.version != expected_version:
            raise Conflict("the connection was changed by somebody else")
        kept = yield from connections.sealed_secrets(current.account_id, [connection_id])
        had = kept.get(connection_id, {})
        merged = merge(current, frozenset(had), changes, rules)
        if rules.keep_one_enabled and current.enabled and not merged.connection.enabled:
            yield from _require_another_enabled(owner, connection_id)
        fresh = differing(ctx, current, had, merged.set_secrets)
        cleared = merged.cleared_secrets & had.keys()
        detail = difference(_shown(current), _shown(merged.connection))
        if detail is None and not fresh and not cleared:
            return current, had
        detail = detail or {"before": {}, "after": {}}
        for name in sorted({*fresh, *cleared}):
            detail["before"][name] = HIDDEN if name in had else None
            detail["after"][name] = HIDDEN if name in fresh else None
        at = yield from now()
        sealed = yield from seal(ctx, current.uid, fresh)
        stored = yield from connections.change(
            merged.connection, current.version, at, sealed=sealed, cleared=cleared
        )
        if stored is None:
            raise Conflict("the connection was changed by somebody else")
        yield from _audit(stored, at, actor, "connection.update", detail)
        return stored, {name: value for name, value in {**had, **sealed}.items() if name not in cleared}

    stored, all_sealed = await ctx.store.write(work)
    ctx.hearer.connection_changed(connection_id)
    try:
        return opened(ctx, stored, all_sealed)
    except Unavailable:  # the key file was rotated since, perhaps
        return await get_connection(ctx, owner, connection_id, with_secrets=True)


def faults(
    owner: Owner, current: Connection | None, changes: ConnectionChanges, rules: ConnectionRules = NO_RULES
) -> Sequence[FieldError]:
    """What is wrong with a draft, or with changes to `current` (with its secrets), writing nothing."""
    base = _blank(owner, b"") if current is None else current
    try:
        merge(base, frozenset(base.secrets), changes, rules)
    except Invalid as error:
        return error.errors
    return ()


async def get_connection(
    ctx: Context, owner: Owner, connection_id: ConnectionId, *, with_secrets: bool = False
) -> Connection:
    """One connection of the owner's. Raises NotFound, for a foreign one too."""

    def work() -> Work[Connection]:
        current = yield from _owned(owner, connection_id)
        if not with_secrets:
            return current
        sealed = yield from connections.sealed_secrets(current.account_id, [connection_id])
        return opened(ctx, current, sealed.get(connection_id, {}))

    return await read_opened(ctx, work)


async def vendor_quota(ctx: Context, owner: Owner, connection_id: ConnectionId) -> VendorQuota | None:
    """What the vendor itself allows, as it said last; None where it says nothing. Raises NotFound."""

    def work() -> Work[VendorQuota | None]:
        yield from _owned(owner, connection_id)
        found = yield from quotas.get(owner.account_id, connection_id)
        return found

    return await ctx.store.read(work)


async def list_connections(
    ctx: Context, owner: Owner, *, limit: int, offset: int = 0, with_secrets: bool = False
) -> tuple[list[Connection], int]:
    """The owner's connections in the order they were made, and their number without limit and offset.

    Negative numbers count as 0.
    """
    limit, offset = page(limit, offset)

    def work() -> Work[tuple[list[Connection], int]]:
        rows, total = yield from connections.list_of(owner, limit=limit, offset=offset)
        if not with_secrets:
            return rows, total
        ids = [row.connection_id for row in rows]
        sealed = yield from connections.sealed_secrets(owner.account_id, ids)
        return [opened(ctx, row, sealed.get(row.connection_id, {})) for row in rows], total

    return await read_opened(ctx, work)


async def load_connection(
    ctx: Context, account_id: AccountId, connection_id: ConnectionId, *, with_secrets: bool = True
) -> Connection:
    """Any connection of the account, for those who send through it. Raises NotFound, Unavailable."""
    owner = Owner(account_id, whole_account=True)
    return await get_connection(ctx, owner, connection_id, with_secrets=with_secrets)


async def delete_connection(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    connection_id: ConnectionId,
    rules: ConnectionRules = NO_RULES,
) -> frozenset[DeliveryId]:
    """The connection is gone and its secrets are destroyed; counters and history stay.

    What it held and had not begun has gone back when this returns. Returns what was on its way still, after
    half a minute at most; that ends by itself.

    Raises NotFound; Conflict where `rules` keep the last enabled one.
    """

    def work() -> Work[None]:
        current = yield from _owned(owner, connection_id, lock=True)
        if rules.keep_one_enabled and current.enabled:
            yield from _require_another_enabled(owner, connection_id)
        at = yield from now()
        yield from connections.mark_deleted(current, at)
        yield from pauses.remove(current.account_id, PauseScope.CONNECTION, connection_id)
        yield from _audit(current, at, actor, "connection.delete", {"before": present(_shown(current))})

    await ctx.store.write(work)
    late = await ctx.hearer.let_go(connection_id)
    if late:
        await ctx.store.write(lambda: _note_late(owner.account_id, connection_id, actor, late))
    return late


def _note_late(
    account_id: AccountId, connection_id: ConnectionId, actor: Actor, late: frozenset[DeliveryId]
) -> Work[None]:
    at = yield from now()
    detail = {"past_dot": sorted(late)}
    yield from audit.add(account_id, at, actor, "connection.delete", f"{KIND} {connection_id}", detail)


async def try_connection(ctx: Context, owner: Owner, connection_id: ConnectionId) -> Outcome:
    """Log in and out as `test_connection` does, and write nothing down. Raises NotFound, Unavailable."""
    return await ctx.prober.probe(await get_connection(ctx, owner, connection_id, with_secrets=True))


async def test_connection(ctx: Context, actor: Actor, owner: Owner, connection_id: ConnectionId) -> Probed:
    """Log in and out again with the stored settings, sending nothing.

    Success switches the connection on and clears its failure; failure marks it failed, with the reason.
    Raises NotFound, Unavailable; what the peer does is in the outcome.
    """
    tested = await get_connection(ctx, owner, connection_id, with_secrets=True)
    outcome = await ctx.prober.probe(tested)

    def work() -> Work[Connection | None]:
        yield from accounts.hold(owner.account_id)
        at = yield from now()
        current = yield from connections.get_owned(owner, connection_id)
        stored: Connection | None = None
        if current is None or current.version != tested.version:
            pass  # what was tested is not what is stored any more
        elif outcome.result is Result.SENT:
            stored = current
            if not (current.enabled and current.failed_at_us is None and current.held_until_us is None):
                stored = yield from connections.record_success(current, at)
        elif outcome.fault is not Fault.OURS:  # what we broke off says nothing about the connection
            reason = outcome.text or f"failed at {outcome.phase}"
            stored = yield from connections.record_failure(current, at, reason)
        detail: dict[str, object] = {
            "passed": outcome.result is Result.SENT,
            "phase": outcome.phase.value,
            "fault": outcome.fault.value,
            "code": outcome.code,
            "text": outcome.text,
            "recorded": stored is not None,
        }
        yield from connections.add_event(tested, EventKind.CONNECTION_TESTED, at, detail)
        changed = None if current is None or stored is None else difference(_shown(current), _shown(stored))
        if changed is not None:
            yield from _audit(tested, at, actor, "connection.test", {**detail, **changed})
        return stored

    stored = await ctx.store.write(work)
    if stored is None:
        return Probed(outcome, tested, recorded=False)
    ctx.hearer.connection_changed(connection_id)
    return Probed(outcome, replace(stored, secrets=tested.secrets), recorded=True)


def _require_another_enabled(owner: Owner, connection_id: ConnectionId) -> Work[None]:
    if not (yield from connections.has_other_enabled(owner, connection_id)):
        raise LastEnabled


def _owned(owner: Owner, connection_id: ConnectionId, *, lock: bool = False) -> Work[Connection]:
    """lock: others that change connections of the account wait until this unit ends."""
    if lock:
        yield from accounts.hold(owner.account_id)
    found = (yield from connections.get_owned(owner, connection_id)) if is_id(connection_id) else None
    if found is None:
        raise NotFound(KIND)
    return found


def _require_owner(owner: Owner) -> Work[None]:
    if owner.server_id is not None:  # which nobody may delete meanwhile
        if not (yield from streams.lock(owner.account_id, owner.server_id)):
            raise NotFound("server")
    elif (yield from accounts.get(owner.account_id)) is None:
        raise NotFound("account")


def _end_capture(actor: Actor, owner: Owner, at_us: int) -> Work[None]:
    """With its first connection a server's, or an account's, mail is captured no more, for ever."""
    if owner.server_id is None:
        ends = yield from accounts.mark_had_connection(owner.account_id)
        target = f"account {owner.account_id}"
    else:
        ends = yield from servers.mark_had_connection(owner.account_id, owner.server_id)
        target = f"server {owner.server_id}"
    if ends:
        yield from audit.add(owner.account_id, at_us, actor, "capture.end", target)


def _blank(owner: Owner, uid: bytes) -> Connection:
    """What a draft starts from."""
    return Connection(
        account_id=owner.account_id,
        connection_id=ConnectionId(0),
        server_id=owner.server_id,
        uid=uid,
        label="",
        vendor=Vendor.OTHER,
        delivery_method=DeliveryMethod.SMTP,
        enabled=True,
        failed_at_us=None,
        failed_reason=None,
        disabled_at_us=None,
        held_until_us=None,
        purposes=frozenset(),
        hourly_cap=None,
        daily_cap=None,
        host="",
        port=0,
        security=Security.AUTO,
        auth="",
        sender=None,
        options={},
        version=1,
        created_at_us=0,
        updated_at_us=0,
        deleted_at_us=None,
    )


def _audit(
    connection: Connection, at_us: int, actor: Actor, action: str, detail: Mapping[str, object] | None
) -> Work[None]:
    target = f"{KIND} {connection.connection_id}"
    yield from audit.add(connection.account_id, at_us, actor, action, target, detail)


def _shown(connection: Connection) -> dict[str, object]:
    """What the audit trail may tell of a connection; no secret is in it."""
    return {
        "server_id": connection.server_id,
        "label": connection.label,
        "vendor": connection.vendor.value,
        "delivery_method": connection.delivery_method.value,
        "enabled": connection.enabled,
        "failed_at_us": connection.failed_at_us,
        "failed_reason": connection.failed_reason,
        "held_until_us": connection.held_until_us,
        "purposes": sorted(connection.purposes),
        "hourly_cap": connection.hourly_cap,
        "daily_cap": connection.daily_cap,
        "host": connection.host,
        "port": connection.port,
        "security": connection.security.value,
        "auth": connection.auth,
        "sender": connection.sender,
        "options": dict(connection.options),
    }
