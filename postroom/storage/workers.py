"""Workers: the processes that deliver, each with a lease it renews, and what becomes of those that do not.

A worker lives while its row's `renewals` count on. Its *epoch* stands in all it claims; who takes its claims
from it raises the epoch first, and that waits for claims which are being committed.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.ids import WorkerId
from postroom.storage.interface import Sql, Work, now


@dataclass(frozen=True)
class Identity:
    """Which process it is. boot: of its host. roles: separated by spaces."""

    host: str
    pid: int
    boot: str
    roles: str
    version: str


@dataclass(frozen=True)
class Member:
    """A worker that has not ended, as its row stands."""

    worker_id: WorkerId
    epoch: int
    renewals: int
    host: str
    roles: str


def register(identity: Identity, lease_us: int) -> Work[WorkerId]:
    """A new worker with a fresh lease, in its first epoch."""
    at_us = yield from now()
    rows = yield Sql(
        "INSERT INTO workers (epoch, expires_at, host, pid, boot, roles, version, started_at)"
        " VALUES (1, :expires, :host, :pid, :boot, :roles, :version, :now) RETURNING worker_id",
        {
            "expires": at_us + lease_us,
            "now": at_us,
            "host": identity.host,
            "pid": identity.pid,
            "boot": identity.boot,
            "roles": identity.roles,
            "version": identity.version,
        },
    )
    return WorkerId(rows[0][0])


def renew(worker_id: WorkerId, epoch: int, lease_us: int) -> Work[int | None]:
    """A living worker's lease begins anew; the database's time, or None when it was taken for dead."""
    at_us = yield from now()
    rows = yield Sql(
        "UPDATE workers SET expires_at = :expires, renewals = renewals + 1"
        " WHERE worker_id = :worker_id AND epoch = :epoch AND ended_at IS NULL RETURNING worker_id",
        {"expires": at_us + lease_us, "worker_id": worker_id, "epoch": epoch},
    )
    return at_us if rows else None


def members() -> Work[list[Member]]:
    """Those that have not ended, dead ones included."""
    rows = yield Sql(
        "SELECT worker_id, epoch, renewals, host, roles FROM workers WHERE ended_at IS NULL"
        " ORDER BY worker_id"
    )
    return [Member(*row) for row in rows]


def epoch_of(worker_id: WorkerId) -> Work[tuple[int, bool] | None]:
    """A worker's epoch, and whether it has ended; None: no such worker."""
    rows = yield Sql(
        "SELECT epoch, ended_at FROM workers WHERE worker_id = :worker_id", {"worker_id": worker_id}
    )
    return (rows[0][0], rows[0][1] is not None) if rows else None


def take(worker_id: WorkerId, epoch: int, renewals: int | None = None) -> Work[bool]:
    """Raise the epoch of a dead worker: from now on it claims nothing and what it writes changes no delivery.

    renewals: as they were all the time it was watched; None: it is dead for certain. False when somebody
    was quicker, or it lives.
    """
    which = {"worker_id": worker_id}
    # The strongest lock there is: it waits for claims, which hold the weakest, as a renewal does not.
    rows = yield Sql(
        "SELECT epoch, renewals FROM workers WHERE worker_id = :worker_id AND ended_at IS NULL",
        which,
        " FOR UPDATE",
    )
    if not rows or rows[0][0] != epoch or (renewals is not None and rows[0][1] != renewals):
        return False
    yield Sql("UPDATE workers SET epoch = epoch + 1 WHERE worker_id = :worker_id", which)
    yield from free(worker_id)
    return True


def end(worker_id: WorkerId) -> Work[bool]:
    """It is over: its session slots and what it led are free. False while something it claimed is open."""
    which = {"worker_id": worker_id}
    yield Sql("SELECT epoch FROM workers WHERE worker_id = :worker_id", which, " FOR UPDATE")
    left = yield Sql("SELECT 1 FROM attempts WHERE worker_id = :worker_id AND result IS NULL LIMIT 1", which)
    if left:
        return False
    at_us = yield from now()
    yield Sql(
        "UPDATE workers SET ended_at = :now, epoch = epoch + 1 WHERE worker_id = :worker_id"
        " AND ended_at IS NULL",
        {**which, "now": at_us},
    )
    yield from free(worker_id)
    return True


def free(worker_id: WorkerId) -> Work[None]:
    """Give back its session slots and what it led."""
    which = {"worker_id": worker_id}
    yield Sql("DELETE FROM slots WHERE worker_id = :worker_id", which)
    yield Sql("DELETE FROM leases WHERE worker_id = :worker_id", which)


def forget(ended_before_us: int) -> Work[None]:
    """Rows of workers that ended long ago go; slots that nobody living holds, too."""
    yield Sql("DELETE FROM workers WHERE ended_at < :before", {"before": ended_before_us})
    yield Sql(
        "DELETE FROM slots WHERE NOT EXISTS"
        " (SELECT 1 FROM workers w WHERE w.worker_id = slots.worker_id AND w.ended_at IS NULL)"
    )
