"""The audit trail: who changed what, written in the same unit of work as the change. Never a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import insert, select

from postroom.core.actor import Actor
from postroom.ids import AccountId
from postroom.storage.interface import Work
from postroom.storage.tables import audit


@dataclass(frozen=True)
class AuditLine:
    """One change. `actor` like `key 12`, `action` like `connection.update`, `target` like `connection 7`.

    source: from where it came, such as an address; empty: from inside.
    """

    audit_id: int
    account_id: AccountId
    at_us: int
    actor: str
    source: str
    action: str
    target: str
    detail: Mapping[str, object]


def add(
    account_id: AccountId,
    at_us: int,
    actor: Actor,
    action: str,
    target: str,
    detail: Mapping[str, object] | None = None,
) -> Work[None]:
    """Write one line. `detail` is JSON values, such as `{"before": {…}, "after": {…}}`."""
    yield insert(audit).values(
        account_id=account_id,
        at=at_us,
        actor=actor.name,
        source=actor.source,
        action=action,
        target=target,
        detail=json.dumps(detail or {}),
    )


@dataclass(frozen=True)
class Wanted:
    """Which lines; None: whatever it is. account_id 0: those of the installation as a whole.

    action: one, or with a point at its end all that begin so, such as `connection.`. before_id: only older
    ones, to page on. from_us, to_us: when, both included.
    """

    account_id: AccountId | None = None
    target: str | None = None
    actor: str | None = None
    source: str | None = None
    action: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    before_id: int | None = None


def list_lines(wanted: Wanted, *, limit: int = 50) -> Work[list[AuditLine]]:
    """Those lines, newest first."""
    query = select(audit)
    for column in ("account_id", "target", "actor", "source"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(audit.c[column] == value)
    if wanted.action is not None:
        group = wanted.action.endswith(".")
        same = audit.c.action.startswith(wanted.action, autoescape=True)
        query = query.where(same if group else audit.c.action == wanted.action)
    if wanted.from_us is not None:
        query = query.where(audit.c.at >= wanted.from_us)
    if wanted.to_us is not None:
        query = query.where(audit.c.at <= wanted.to_us)
    if wanted.before_id is not None:
        query = query.where(audit.c.audit_id < wanted.before_id)
    rows = yield query.order_by(audit.c.audit_id.desc()).limit(limit)
    return [
        AuditLine(
            audit_id=row.audit_id,
            account_id=AccountId(row.account_id),
            at_us=row.at,
            actor=row.actor,
            source=row.source,
            action=row.action,
            target=row.target,
            detail=json.loads(row.detail),
        )
        for row in rows
    ]
