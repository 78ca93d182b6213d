"""Whether a key file opens everything that is sealed in a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from postroom.clock import Clock
from postroom.keyring import KeyRing
from postroom.storage import sealed, sqlite_files
from postroom.storage.interface import Work

_SLICE = 500


def require_opens(database: Path, ring: KeyRing, clock: Clock) -> int:
    """How many sealed values there are, if all open. Raises KeyringError for the first that does not."""

    def work() -> Work[int]:
        count = 0
        for one in sealed.COLUMNS:
            after: tuple[Any, ...] | None = None  # Any: integers and texts
            while rows := (yield from sealed.every(one, after, _SLICE)):
                for row in rows:
                    ring.open(row.sealed, uid=row.uid, table=one.table.name, field=row.field)
                count += len(rows)
                after = rows[-1].keys
        return count

    return sqlite_files.look(database, clock, work)
