"""Whether a key file opens everything that is sealed in a database."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from postroom.clock import Clock
from postroom.keyring import KeyRing
from postroom.storage import sealed, sqlite_files


def require_opens(database: Path, ring: KeyRing, clock: Clock) -> int:
    """How many sealed values there are, if all open. Raises KeyringError for the first that does not."""

    return sqlite_files.look(database, clock, partial(sealed.opens, ring))
