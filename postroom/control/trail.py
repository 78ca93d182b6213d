"""The operation that reads the audit trail."""

from __future__ import annotations

from postroom.actions import trail
from postroom.clock import moment_us, to_iso
from postroom.control.desk import Desk
from postroom.core.identity import EVERYBODY
from postroom.errors import Invalid
from postroom.ids import AccountId
from postroom.storage.audit import AuditLine, Wanted


async def list_all(
    desk: Desk,
    *,
    account: int | None = None,
    target: str | None = None,
    actor: str | None = None,
    source: str | None = None,
    action: str | None = None,
    since: str | None = None,
    until: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> dict[str, object]:
    """Lines of the audit trail, newest first, of all accounts unless one is named (0: the installation's).

    before: only older ones than this line's number; `next`: what to say there for the next page, or null.
    """
    wanted = Wanted(
        account_id=None if account is None else AccountId(account),
        target=target,
        actor=actor,
        source=source,
        action=action,
        from_us=_moment(desk, "since", since),
        to_us=_moment(desk, "until", until),
        before_id=before,
    )
    limit = max(1, min(limit, trail.MOST_LINES))
    found = await trail.list_lines(desk.ctx, wanted, limit + 1)
    more = len(found) > limit
    found = found[:limit]
    return {"data": [shown_line(one) for one in found], "next": found[-1].audit_id if more else None}


def _moment(desk: Desk, field: str, text: str | None) -> int | None:
    try:
        return None if text is None else moment_us(text, desk.ctx.clock.now_us())
    except (ValueError, OverflowError) as error:
        raise Invalid(field, "must be a date, a time, or an age like 90m, 2h or 3d") from error


def shown_line(line: AuditLine) -> dict[str, object]:
    """A line as JSON values; account_id null: the installation's."""
    return {
        "audit_id": line.audit_id,
        "at": to_iso(line.at_us),
        "account_id": None if line.account_id == EVERYBODY else line.account_id,
        "actor": line.actor,
        "source": line.source,
        "action": line.action,
        "target": line.target,
        "detail": dict(line.detail),
    }
