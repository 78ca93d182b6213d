"""Contents of messages as stored: packed, one for all recipients, deleted by retention."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.ids import AccountId
from postroom.storage.interface import Rows, Sql, Work

LOOK = "SELECT content_id, body FROM contents WHERE account_id = :account_id AND content_id = :content_id"


def bodies(wanted: Mapping[int, AccountId]) -> Work[dict[int, bytes]]:
    """The contents with these numbers, of these accounts; one that is gone is left out."""
    return bodies_of((yield look(wanted)))


def look(wanted: Mapping[int, AccountId]) -> Sql:
    """Asks for them; `bodies_of` takes what comes."""
    params = [
        {"account_id": account_id, "content_id": content_id} for content_id, account_id in wanted.items()
    ]
    return Sql(LOOK, params)


def bodies_of(rows: Rows) -> dict[int, bytes]:
    """By their numbers."""
    return {row[0]: row[1] for row in rows}
