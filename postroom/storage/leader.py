"""What one process at a time does for all: whoever holds the lease of that name.

It spares work; nothing may depend on there being only one. When a clock is set or a process hangs there can
be two for a while, or none.
"""

from __future__ import annotations

from postroom.ids import WorkerId
from postroom.storage.interface import Sql, Work, now


def hold(name: str, worker_id: WorkerId, lease_s: float) -> Work[bool]:
    """Take or keep the lease of this name; whether it is ours now. To be called well within every lease.

    It is free again when it runs out, and at once when it is released, or when its worker ends or is taken
    for dead.
    """
    at_us = yield from now()
    rows = yield Sql(
        "INSERT INTO leases (name, worker_id, expires_at) VALUES (:name, :worker_id, :expires)"
        " ON CONFLICT (name) DO UPDATE SET worker_id = excluded.worker_id, expires_at = excluded.expires_at"
        " WHERE leases.worker_id = excluded.worker_id OR leases.expires_at < :now RETURNING worker_id",
        {"name": name, "worker_id": worker_id, "expires": at_us + int(lease_s * 1_000_000), "now": at_us},
    )
    return bool(rows)


def release(name: str, worker_id: WorkerId) -> Work[None]:
    """Give it back, if it is ours."""
    yield Sql(
        "DELETE FROM leases WHERE name = :name AND worker_id = :worker_id",
        {"name": name, "worker_id": worker_id},
    )
