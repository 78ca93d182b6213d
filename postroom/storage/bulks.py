"""Bulks in the database. The row of a slice is the right to make its messages: whoever deletes it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from postroom.core.bulk import Bulk, BulkSlice
from postroom.ids import AccountId, BulkId, KeyId, ServerId
from postroom.storage.interface import Sql, Work

_COLUMNS = (
    "account_id, bulk_id, server_id, public_id, key_id, origin, stream, subject, total, released, failed,"
    " created_at, completed_at"
)


def add(bulk: Bulk, shared: bytes, slices: Sequence[BulkSlice]) -> Work[BulkId]:
    """Store a new one with all its slices; its number is still to come."""
    rows = yield Sql(
        "INSERT INTO bulks (account_id, server_id, public_id, key_id, origin, stream, subject, total,"
        " created_at, shared) VALUES (:account_id, :server_id, :public_id, :key_id, :origin, :stream,"
        " :subject, :total, :at, :shared) RETURNING bulk_id",
        {
            "account_id": bulk.account_id,
            "server_id": bulk.server_id,
            "public_id": bulk.public_id,
            "key_id": bulk.key_id,
            "origin": bulk.origin,
            "stream": bulk.stream,
            "subject": bulk.subject,
            "total": bulk.total,
            "at": bulk.created_at_us,
            "shared": shared,
        },
    )
    bulk_id = BulkId(rows[0][0])
    yield Sql(
        "INSERT INTO bulk_slices (account_id, bulk_id, first, server_id, count, body)"
        " VALUES (:account_id, :bulk_id, :first, :server_id, :count, :body)",
        [
            {
                "account_id": bulk.account_id,
                "bulk_id": bulk_id,
                "first": one.first,
                "server_id": bulk.server_id,
                "count": one.count,
                "body": one.body,
            }
            for one in slices
        ],
    )
    return bulk_id


def get(account_id: AccountId, server_id: ServerId, public_id: str) -> Work[Bulk | None]:
    """One of a server, or None."""
    rows = yield Sql(
        f"SELECT {_COLUMNS} FROM bulks WHERE public_id = :public_id"  # noqa: S608 - our own names
        " AND account_id = :account_id AND server_id = :server_id",
        {"public_id": public_id, "account_id": account_id, "server_id": server_id},
    )
    return _bulk(rows[0]) if rows else None


def list_of(
    account_id: AccountId, server_id: ServerId, *, before: BulkId | None, limit: int
) -> Work[list[Bulk]]:
    """Those of a server, newest first; before: only older ones than this."""
    rows = yield Sql(
        f"SELECT {_COLUMNS} FROM bulks WHERE account_id = :account_id AND server_id = :server_id"  # noqa: S608
        " AND bulk_id < :before ORDER BY bulk_id DESC LIMIT :limit",
        {
            "account_id": account_id,
            "server_id": server_id,
            "before": 2**63 - 1 if before is None else before,
            "limit": limit,
        },
    )
    return [_bulk(row) for row in rows]


def open_ones(after: int, limit: int) -> Work[list[Bulk]]:
    """Those that are not made into messages yet, of every account, oldest first, after this one."""
    rows = yield Sql(
        f"SELECT {_COLUMNS} FROM bulks WHERE completed_at IS NULL AND bulk_id > :after"  # noqa: S608
        " ORDER BY bulk_id LIMIT :limit",
        {"after": after, "limit": limit},
    )
    return [_bulk(row) for row in rows]


def next_slice(bulk: Bulk) -> Work[tuple[bytes, BulkSlice] | None]:
    """What all its messages share, and its first slice that is left; None where none is."""
    rows = yield Sql(
        "SELECT b.shared, s.first, s.count, s.body FROM bulk_slices s"
        " JOIN bulks b ON b.account_id = s.account_id AND b.bulk_id = s.bulk_id"
        " WHERE s.account_id = :account_id AND s.bulk_id = :bulk_id ORDER BY s.first LIMIT 1",
        {"account_id": bulk.account_id, "bulk_id": bulk.bulk_id},
    )
    if not rows:
        return None
    shared, first, count, body = rows[0]
    return bytes(shared), BulkSlice(first, count, bytes(body))


def take(bulk: Bulk, first: int) -> Work[bool]:
    """Take a slice: its messages are made in this same unit, or its row stays. False: somebody did."""
    rows = yield Sql(
        "DELETE FROM bulk_slices WHERE account_id = :account_id AND bulk_id = :bulk_id AND first = :first"
        " RETURNING first",
        {"account_id": bulk.account_id, "bulk_id": bulk.bulk_id, "first": first},
    )
    return bool(rows)


def advance(bulk: Bulk, released: int, failed: int, at_us: int) -> Work[None]:
    """So many more are done; with the last one what all shared is needed no more."""
    rows = yield Sql(
        "UPDATE bulks SET released = released + :released, failed = failed + :failed"
        " WHERE account_id = :account_id AND bulk_id = :bulk_id RETURNING total - released - failed",
        {
            "account_id": bulk.account_id,
            "bulk_id": bulk.bulk_id,
            "released": released,
            "failed": failed,
        },
    )
    if rows and rows[0][0] <= 0:
        yield Sql(
            "UPDATE bulks SET completed_at = :at, shared = :nothing"
            " WHERE account_id = :account_id AND bulk_id = :bulk_id",
            {"account_id": bulk.account_id, "bulk_id": bulk.bulk_id, "at": at_us, "nothing": b""},
        )


def _bulk(row: Any) -> Bulk:  # Any: a driver's row carries no types
    return Bulk(
        AccountId(row[0]),
        BulkId(row[1]),
        ServerId(row[2]),
        row[3],
        None if row[4] is None else KeyId(row[4]),
        *row[5:],
    )
