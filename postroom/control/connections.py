"""Operations on connections. No answer holds a secret; `secrets` names those that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from postroom.actions import connections, pauses, rotation, windows
from postroom.actions.connection_draft import ConnectionChanges, ConnectionDraft
from postroom.actions.vendor_defaults import with_vendor_defaults
from postroom.clock import to_iso
from postroom.control.desk import Desk, account_of, maker_of, owner_of
from postroom.control.queue import shown_pause
from postroom.core.connection import Connection
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.errors import Invalid
from postroom.ids import ConnectionId
from postroom.storage.pauses import Pause, PauseScope
from postroom.storage.quotas import VendorQuota

FIELDS = (
    "label",
    "vendor",
    "delivery_method",
    "enabled",
    "for_broadcast",
    "for_sequence",
    "for_transactional",
    "hourly_cap",
    "daily_cap",
    "host",
    "port",
    "security",
    "auth",
    "sender",
)


async def create(
    desk: Desk,
    *,
    fields: dict[str, object],
    secrets: dict[str, str] | None = None,
    options: dict[str, object] | None = None,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """A new connection of a server, or with none shared by the account."""
    owner = await maker_of(desk, account, server)
    draft = ConnectionDraft(**_fields(fields), secrets=secrets or {}, options=options or {})
    made = await connections.create_connection(desk.ctx, desk.actor, owner, with_vendor_defaults(draft))
    return shown_connection(made)


async def list_all(
    desk: Desk, *, account: int | None = None, server: int | None = None, limit: int = 500, offset: int = 0
) -> dict[str, object]:
    """The connections of a server, or of the whole account, and how many there are."""
    owner = await owner_of(desk, account, server)
    found, total = await connections.list_connections(desk.ctx, owner, limit=limit, offset=offset)
    stopped = await pauses.list_pauses(desk.ctx)
    return {"data": [_with_pause(one, stopped) for one in found], "total": total}


async def show(desk: Desk, *, connection: int, account: int | None = None) -> dict[str, object]:
    """One connection, with the names of its stored secrets."""
    owner = await _owner(desk, account)
    found = await connections.get_connection(desk.ctx, owner, ConnectionId(connection), with_secrets=True)
    stopped = await pauses.list_pauses(desk.ctx)
    quota = await connections.vendor_quota(desk.ctx, owner, found.connection_id)
    return {
        **_with_pause(found, stopped),
        "secrets": sorted(found.secrets),
        "kept_secrets": list(await rotation.kept_names(desk.ctx, owner, found.connection_id)),
        "vendor_quota": None if quota is None else _shown_quota(quota),
    }


def _with_pause(connection: Connection, stopped: Sequence[Pause]) -> dict[str, object]:
    """As `shown_connection`, with the pause of this connection itself, if there is one."""
    mine = (PauseScope.CONNECTION, connection.connection_id)
    paused = [shown_pause(one) for one in stopped if (one.scope, one.target_id) == mine]
    return {**shown_connection(connection), "paused": paused[0] if paused else None}


def _shown_quota(quota: VendorQuota) -> dict[str, object]:
    return {
        "per_24_hours": quota.per_day,
        "used": quota.used + quota.granted,
        "left": quota.left,
        "per_second": quota.per_second,
        "read_at": to_iso(quota.read_at_us),
    }


async def update(
    desk: Desk,
    *,
    connection: int,
    fields: dict[str, object],
    secrets: dict[str, str] | None = None,
    options: dict[str, object] | None = None,
    account: int | None = None,
) -> dict[str, object]:
    """Change some settings; null or an empty text clears what may be empty."""
    owner = await _owner(desk, account)
    changes = ConnectionChanges(**_fields(fields), secrets=secrets or {}, options=options or {})
    changed = await connections.update_connection(
        desk.ctx, desk.actor, owner, ConnectionId(connection), changes
    )
    return {**shown_connection(changed), "secrets": sorted(changed.secrets)}


async def delete(desk: Desk, *, connection: int, account: int | None = None) -> dict[str, object]:
    """The connection is gone and its secrets are destroyed; `past_dot`: what is on its way still."""
    owner = await _owner(desk, account)
    late = await connections.delete_connection(desk.ctx, desk.actor, owner, ConnectionId(connection))
    return {"connection_id": connection, "deleted": True, "past_dot": sorted(late)}


async def probe(desk: Desk, *, connection: int, account: int | None = None) -> dict[str, object]:
    """Log in and out again; what the peer said is in the answer."""
    owner = await _owner(desk, account)
    probed = await connections.test_connection(desk.ctx, desk.actor, owner, ConnectionId(connection))
    outcome = probed.outcome
    return {
        "connection_id": connection,
        "passed": probed.passed,
        "recorded": probed.recorded,
        "phase": outcome.phase.value,
        "fault": outcome.fault.value,
        "code": outcome.code,
        "text": outcome.text,
    }


async def rotate(
    desk: Desk, *, connection: int, secrets: dict[str, str], account: int | None = None
) -> dict[str, object]:
    """Try new secrets and switch to them if they are let in; the old ones are kept."""
    owner = await _owner(desk, account)
    done = await rotation.rotate(desk.ctx, desk.actor, owner, ConnectionId(connection), secrets)
    return {
        "connection_id": connection,
        "switched": done.switched,
        "secrets": list(done.names),
        "phase": done.outcome.phase.value,
        "fault": done.outcome.fault.value,
        "code": done.outcome.code,
        "text": done.outcome.text,
    }


async def rotate_back(desk: Desk, *, connection: int, account: int | None = None) -> dict[str, object]:
    """The kept secrets and those in use change places."""
    owner = await _owner(desk, account)
    names = await rotation.go_back(desk.ctx, desk.actor, owner, ConnectionId(connection))
    return {"connection_id": connection, "secrets": list(names)}


async def rotate_finish(desk: Desk, *, connection: int, account: int | None = None) -> dict[str, object]:
    """The kept secrets are destroyed."""
    owner = await _owner(desk, account)
    names = await rotation.finish(desk.ctx, desk.actor, owner, ConnectionId(connection))
    return {"connection_id": connection, "secrets": list(names)}


async def reset_window(desk: Desk, *, connection: int, account: int | None = None) -> dict[str, object]:
    """Forget what was counted in this hour and on this day; `before`: what that was."""
    owner = await _owner(desk, account)
    done = await windows.reset_window(desk.ctx, desk.actor, owner, ConnectionId(connection))
    return {
        "connection_id": connection,
        "before": {"hour": done.before.hour, "day": done.before.day},
        "under_way": done.before.under_way,
        "hourly_cap": done.hourly_cap,
        "daily_cap": done.daily_cap,
    }


async def _owner(desk: Desk, account: int | None) -> Owner:
    return Owner((await account_of(desk, account)).account_id, whole_account=True)


def _fields(given: Mapping[str, object]) -> dict[str, Any]:  # Any: each field is checked by the action
    for name in given:
        if name not in FIELDS:
            raise Invalid(name[:60], "is not a setting of a connection")
    return dict(given)


def shown_connection(connection: Connection) -> dict[str, object]:
    """A connection as JSON values, without secrets."""
    return {
        "connection_id": connection.connection_id,
        "account_id": connection.account_id,
        "server_id": connection.server_id,
        "label": connection.label,
        "vendor": connection.vendor.value,
        "delivery_method": connection.delivery_method.value,
        "enabled": connection.enabled,
        "active": connection.active,
        "failed_at": to_iso(connection.failed_at_us),
        "failed_reason": connection.failed_reason,
        "disabled_at": to_iso(connection.disabled_at_us),
        "held_until": to_iso(connection.held_until_us),
        "for_broadcast": Purpose.BROADCAST in connection.purposes,
        "for_sequence": Purpose.SEQUENCE in connection.purposes,
        "for_transactional": Purpose.TRANSACTIONAL in connection.purposes,
        "hourly_cap": connection.hourly_cap,
        "daily_cap": connection.daily_cap,
        "host": connection.host,
        "port": connection.port,
        "security": connection.security.value,
        "auth": connection.auth,
        "sender": connection.sender,
        "options": dict(connection.options),
        "created_at": to_iso(connection.created_at_us),
        "updated_at": to_iso(connection.updated_at_us),
    }
