"""The audit trail: what a line tells of a change (fields that differ, no secret), and reading it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from postroom.actions.context import Context
from postroom.storage import audit
from postroom.storage.audit import AuditLine, Wanted

MOST_LINES = 500
HIDDEN = "***"  # there is a secret; null: there is none

Shown: TypeAlias = Mapping[str, object]


async def list_lines(ctx: Context, wanted: Wanted, limit: int) -> list[AuditLine]:
    """Lines of any account, newest first: the operator's to read."""
    return await ctx.store.read(lambda: audit.list_lines(wanted, limit=limit))


def difference(before: Shown, after: Shown) -> dict[str, dict[str, object]] | None:
    """`{"before": {…}, "after": {…}}` of what differs, inside mappings too; None: nothing does.

    A name that only one side has counts as null on the other.
    """
    was: dict[str, object] = {}
    became: dict[str, object] = {}
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = difference(old, new)
            if inner is None:
                continue
            old, new = inner["before"], inner["after"]
        was[name], became[name] = old, new
    return {"before": was, "after": became} if was else None


def present(shown: Shown) -> dict[str, object]:
    """Without what is null: of a thing that was made or is gone, nobody asks what it never had."""
    return {name: value for name, value in shown.items() if value is not None}
