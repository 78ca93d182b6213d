"""Which processes use this database, and which keys of the key file each of them has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.storage.interface import Sql, Work


@dataclass(frozen=True)
class Process:
    """One `serve` process. process_id: a random name. ring_keys: ids of the key file's keys it has."""

    process_id: str
    host: str
    pid: int
    roles: tuple[str, ...]
    version: str
    started_at_us: int
    ring_keys: frozenset[str]

    @property
    def told(self) -> str:
        """For people."""
        return f"process {self.pid} on {self.host}"


def report(process: Process) -> Work[None]:
    """Store what it says of itself, in place of what it said before."""
    yield Sql(
        "INSERT INTO processes (process_id, host, pid, roles, version, started_at, ring_keys)"
        " VALUES (:process_id, :host, :pid, :roles, :version, :started_at, :ring_keys)"
        " ON CONFLICT (process_id) DO UPDATE SET ring_keys = excluded.ring_keys",
        {
            "process_id": process.process_id,
            "host": process.host,
            "pid": process.pid,
            "roles": " ".join(process.roles),
            "version": process.version,
            "started_at": process.started_at_us,
            "ring_keys": " ".join(sorted(process.ring_keys)),
        },
    )


def listed() -> Work[list[Process]]:
    """All that reported and did not say goodbye, the dead among them; oldest first."""
    rows = yield Sql(
        "SELECT process_id, host, pid, roles, version, started_at, ring_keys FROM processes"
        " ORDER BY started_at, process_id"
    )
    return [
        Process(row[0], row[1], row[2], tuple(row[3].split()), row[4], row[5], frozenset(row[6].split()))
        for row in rows
    ]


def remove(process_ids: Sequence[str]) -> Work[None]:
    """They are gone."""
    yield Sql(
        "DELETE FROM processes WHERE process_id = :process_id",
        [{"process_id": one} for one in sorted(process_ids)],
    )
