"""The names in a data folder, and files there that outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path

DATABASE_NAME = "postroom.db"
DATABASE_BESIDE = (
    f"{DATABASE_NAME}-wal",
    f"{DATABASE_NAME}-shm",
)  # SQLite's own, while it is open or was killed
KEY_RING_NAME = "keys.ring"
JOURNALS_NAME = "journals"
INBOX_NAME = "inbox"
TLS_NAME = "tls"


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, outlive a power cut. Raises OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECTORY if path.is_dir() else 0)
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
