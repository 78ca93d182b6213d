"""What every search over many rows of one server needs: slices that are each short, and how far one came.

Each slice is a range of an index, newest first, so that no reading is long however much there is and however
little of it fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from postroom.ids import AccountId, ServerId
from postroom.storage.interface import Sql, Work

Found = TypeVar("Found")
Place = TypeVar("Place")
SLICE = 2000


@dataclass(frozen=True)
class Slice(Generic[Found, Place]):
    """What fits of a slice, newest first. last: the oldest that was looked at; None: there is no older."""

    found: Sequence[Found]
    last: Place | None


def place_of(
    table: str, number: str, time: str, account_id: AccountId, server_id: ServerId, at_us: int
) -> Work[int | None]:
    """A number that rows made at this moment or later have, and older ones do not; None: none later.

    table, number, time: names of ours. Found by halving: the numbers of a server's rows grow with time.
    """
    whose = "account_id = :account_id AND server_id = :server_id"
    # Two queries in one: SQLite looks up a MIN or a MAX, and goes through all for both.
    rows = yield Sql(
        f"SELECT (SELECT MIN({number}) FROM {table} WHERE {whose}),"  # noqa: S608 - our own names
        f" (SELECT MAX({number}) FROM {table} WHERE {whose})",
        {"account_id": account_id, "server_id": server_id},
    )
    if rows[0][0] is None:
        return None
    low, high = rows[0][0], rows[0][1] + 1
    while low < high:
        middle = (low + high) // 2
        found = yield Sql(
            f"SELECT {number}, {time} FROM {table} WHERE {whose}"  # noqa: S608 - our own names
            f" AND {number} >= :middle ORDER BY {number} LIMIT 1",
            {"account_id": account_id, "server_id": server_id, "middle": middle},
        )
        if found[0][1] >= at_us if found else True:
            high = middle
        else:
            low = found[0][0] + 1
    return int(low)


def literally(text: str) -> str:
    """A part of a LIKE pattern, with `!` to escape, that means itself."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
