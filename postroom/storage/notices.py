"""Notices as stored: one row for each trouble the operator was told of, with its end once it has one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from postroom.ids import AccountId
from postroom.storage.interface import Sql, Work
from postroom.storage.tables import notices


@dataclass(frozen=True)
class StoredNotice:
    """One trouble. account_id: 0 for the whole installation. about: `connection 7`, `disk`."""

    notice_id: int
    account_id: AccountId
    kind: str
    about: str
    text: str
    data: Mapping[str, object]
    began_at_us: int
    ended_at_us: int | None


_INSERT = """
INSERT INTO notices (account_id, kind, about, text, data, began_at, ended_at)
VALUES (:account_id, :kind, :about, :text, :data, :began_at, :ended_at)
ON CONFLICT (kind, about) WHERE ended_at IS NULL DO UPDATE SET text = excluded.text
RETURNING notice_id
"""


def add(
    account_id: AccountId,
    kind: str,
    about: str,
    text: str,
    data: Mapping[str, object],
    began_at_us: int,
    ended_at_us: int | None,
) -> Work[int]:
    """Store one; an open one of the same kind about the same thing stays the one it is. Returns its id."""
    rows = yield Sql(
        _INSERT,
        {
            "account_id": account_id,
            "kind": kind,
            "about": about,
            "text": text,
            "data": json.dumps(dict(data), separators=(",", ":")),
            "began_at": began_at_us,
            "ended_at": ended_at_us,
        },
    )
    notice_id: int = rows[0][0]
    return notice_id


def end(account_id: AccountId, notice_id: int, at_us: int) -> Work[None]:
    """It is over."""
    yield (
        update(notices)
        .where(
            notices.c.account_id == account_id,
            notices.c.notice_id == notice_id,
            notices.c.ended_at.is_(None),
        )
        .values(ended_at=at_us)
    )


def newest(limit: int, *, only_open: bool = False) -> Work[list[StoredNotice]]:
    """The newest first, of all accounts: notices are the operator's."""
    query = select(notices).order_by(notices.c.notice_id.desc()).limit(limit)
    if only_open:
        query = query.where(notices.c.ended_at.is_(None))
    rows = yield query
    return [_notice(row) for row in rows]


def _notice(row: Sequence[object]) -> StoredNotice:
    account_id, notice_id, kind, about, text, data, began_at, ended_at = row
    return StoredNotice(
        notice_id=notice_id,  # type: ignore[arg-type]  # SQL's types, as the schema has them
        account_id=account_id,  # type: ignore[arg-type]
        kind=str(kind),
        about=str(about),
        text=str(text),
        data=json.loads(str(data)),
        began_at_us=began_at,  # type: ignore[arg-type]
        ended_at_us=ended_at,  # type: ignore[arg-type]
    )
