"""Reading the audit trail in tests, and secrets that must never stand in it."""

from __future__ import annotations

import json

from postroom.actions.context import Context
from postroom.core.connection import SECRET_FIELDS
from postroom.storage import audit
from postroom.storage.audit import AuditLine, Wanted

CANARIES = {name: f"canary-{number}-{name}" for number, name in enumerate(sorted(SECRET_FIELDS))}
MORE_CANARIES = {name: f"{value}-later" for name, value in CANARIES.items()}


async def lines(ctx: Context, wanted: Wanted | None = None) -> list[AuditLine]:
    """Oldest first."""
    found = await ctx.store.read(lambda: audit.list_lines(wanted or Wanted(), limit=10_000))
    return found[::-1]


class Trail:
    """Tells what was written since it was asked last."""

    def __init__(self, ctx: Context) -> None:
        self._ctx, self._seen = ctx, 0

    async def new(self) -> list[AuditLine]:
        """The new lines, oldest first, after what runs beside a request has ended."""
        await self._ctx.keys.close()
        found = [one for one in await lines(self._ctx) if one.audit_id > self._seen]
        self._seen = max((one.audit_id for one in found), default=self._seen)
        return found


async def secrets_in(ctx: Context, *more: str) -> list[str]:
    """Canaries and keys that stand in the trail, in whatever field."""
    told = [(one.actor, one.source, one.action, one.target, one.detail) for one in await lines(ctx)]
    text = json.dumps(told, ensure_ascii=False)
    return [secret for secret in (*CANARIES.values(), *more) if secret in text]
