"""Generations: a number for each kind of thing that processes remember, raised in the unit that changes one.

Whoever remembers compares the number with the one from when it looked, and looks anew when it was raised.
"""

from __future__ import annotations

from postroom.storage.interface import Sql, Work

KEYS = "keys"  # revoked API keys
KEY_FILE = "key_file"  # which key of the key file seals

INBOUND_DOMAINS = "inbound_domains"  # remembered by nobody, given out one after the other
SIGNING = "signing"  # who signs which mail: DKIM keys, and domains that may appear in From


def read(name: str) -> Work[int]:
    """The generation now; 0 before the first change."""
    rows = yield Sql("SELECT n FROM generations WHERE name = :name", {"name": name})
    return rows[0][0] if rows else 0


def hold(name: str) -> Work[int]:
    """The generation now, and it stays so until this unit ends: `advance` waits for that."""
    rows = yield Sql("SELECT n FROM generations WHERE name = :name", {"name": name}, " FOR SHARE")
    return rows[0][0] if rows else 0


def begin(name: str) -> Work[None]:
    """Make the row that `hold` needs; what is there stays."""
    yield Sql(
        "INSERT INTO generations (name, n) VALUES (:name, 0) ON CONFLICT (name) DO NOTHING", {"name": name}
    )


def advance(name: str) -> Work[None]:
    """Whatever somebody remembers of this kind is to be looked at anew, once this unit is committed."""
    yield Sql(
        "INSERT INTO generations (name, n) VALUES (:name, 1)"
        " ON CONFLICT (name) DO UPDATE SET n = generations.n + 1",
        {"name": name},
    )
