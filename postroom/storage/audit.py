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


def list_lines(
    account_id: AccountId, *, limit: int = 50, before_id: int | None = None, target: str | None = None
) -> Work[list[AuditLine]]:
    """Newest first. `before_id`: only older lines, to page on; `target`: only of this thing."""
    query = select(audit).where(audit.c.account_id == account_id)
    if before_id is not None:
        query = query.where(audit.c.audit_id < before_id)
    if target is not None:
        query = query.where(audit.c.target == target)
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
