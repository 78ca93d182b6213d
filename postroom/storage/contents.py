"""Contents of messages as stored: packed, one for all recipients, deleted by retention."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.ids import AccountId
from postroom.storage.interface import Sql, Work


def bodies(wanted: Mapping[int, AccountId]) -> Work[dict[int, bytes]]:
    """The contents with these numbers, of these accounts; one that is gone is left out."""
    found: dict[int, bytes] = {}
    for content_id, account_id in wanted.items():
        rows = yield Sql(
            "SELECT body FROM contents WHERE account_id = :account_id AND content_id = :content_id",
            {"account_id": account_id, "content_id": content_id},
        )
        if rows:
            found[content_id] = rows[0][0]
    return found
