"""Suppression lists in the database. Addresses are compare keys (`Address.key`) everywhere here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select

from postroom.core.suppression import ALL_STREAMS, Origin, Reason, Suppression
from postroom.ids import AccountId, ServerId
from postroom.storage.interface import Rows, Sql, Together, Work
from postroom.storage.tables import suppressions

_MOST_AT_ONCE = 512

_CHECK = """
SELECT address FROM suppressions
WHERE account_id = :account_id AND server_id = :server_id AND stream IN ('', :stream) AND address IN"""


def check(
    account_id: AccountId, server_id: ServerId, stream: str, addresses: Collection[str]
) -> Work[set[str]]:
    """Which of these get no mail on `stream`: those suppressed for it or for all streams."""
    return found((yield Together(looks(account_id, server_id, stream, addresses))))


def looks(
    account_id: AccountId, server_id: ServerId, stream: str, addresses: Collection[str]
) -> Sequence[Sql]:
    """Ask for the same; `found` reads what comes of them."""
    asked: list[Sql] = []
    every = sorted(set(addresses))
    for start in range(0, len(every), _MOST_AT_ONCE):
        part = every[start : start + _MOST_AT_ONCE]
        size = 1 << (len(part) - 1).bit_length()
        padded = part + part[-1:] * (size - len(part))
        params: dict[str, object] = {"account_id": account_id, "server_id": server_id, "stream": stream}
        asked.append(
            Sql(_check_text(size), params | {f"a{number}": address for number, address in enumerate(padded)})
        )
    return asked


def found(rows: Sequence[Rows]) -> set[str]:
    """The addresses in the rows of these looks."""
    return {row[0] for one in rows for row in one}


@lru_cache
def _check_text(size: int) -> str:
    """One statement per power of two, so that a database prepares ten of them and not five hundred."""
    names = ", ".join(f":a{number}" for number in range(size))
    return f"{_CHECK} ({names})"


def add(
    account_id: AccountId,
    server_id: ServerId,
    at_us: int,
    addresses: Sequence[str],
    *,
    reason: Reason,
    origin: Origin,
    stream: str = ALL_STREAMS,
) -> Work[set[str]]:
    """Suppress these; which of them are new. One that is on the list keeps its reason and time."""
    rows = yield Sql(
        "INSERT INTO suppressions (account_id, server_id, stream, address, reason, origin, created_at)"
        " VALUES (:account_id, :server_id, :stream, :address, :reason, :origin, :at)"
        " ON CONFLICT (account_id, server_id, stream, address) DO NOTHING RETURNING address",
        [
            {
                "account_id": account_id,
                "server_id": server_id,
                "stream": stream,
                "address": address,
                "reason": reason.value,
                "origin": origin.value,
                "at": at_us,
            }
            for address in sorted(set(addresses))  # in one order, so that two of these never wait in a circle
        ],
    )
    return {row[0] for row in rows}


def remove(
    account_id: AccountId, server_id: ServerId, addresses: Sequence[str], *, stream: str = ALL_STREAMS
) -> Work[set[str]]:
    """Take these off the list of `stream` (default: of all streams); which of them were on it."""
    gone: set[str] = set()
    asked = list(dict.fromkeys(addresses))
    for start in range(0, len(asked), _MOST_AT_ONCE):
        rows = yield (
            delete(suppressions)
            .where(
                suppressions.c.account_id == account_id,
                suppressions.c.server_id == server_id,
                suppressions.c.stream == stream,
                suppressions.c.address.in_(asked[start : start + _MOST_AT_ONCE]),
            )
            .returning(suppressions.c.address)
        )
        gone.update(row.address for row in rows)
    return gone


def get(
    account_id: AccountId, server_id: ServerId, address: str, *, stream: str = ALL_STREAMS
) -> Work[Suppression | None]:
    """The row of one address on the list of `stream` (default: of all streams)."""
    rows = yield select(suppressions).where(
        suppressions.c.account_id == account_id,
        suppressions.c.server_id == server_id,
        suppressions.c.stream == stream,
        suppressions.c.address == address,
    )
    return _suppression(rows[0]) if rows else None


def all_of(account_id: AccountId, server_id: ServerId, address: str) -> Work[list[Suppression]]:
    """Every row of one address on a server's lists, that of all streams first."""
    rows = yield (
        select(suppressions)
        .where(
            suppressions.c.account_id == account_id,
            suppressions.c.server_id == server_id,
            suppressions.c.address == address,
        )
        .order_by(suppressions.c.stream)
    )
    return [_suppression(row) for row in rows]


def remove_own(
    account_id: AccountId, server_id: ServerId, address: str, streams: Sequence[str]
) -> Work[bool]:
    """Take back what the recipient's own unsubscribing put on these streams; whether there was any."""
    rows = yield (
        delete(suppressions)
        .where(
            *_of_address(account_id, server_id, address, streams),
            suppressions.c.reason == Reason.UNSUBSCRIBE.value,
            suppressions.c.origin == Origin.RECIPIENT.value,
        )
        .returning(suppressions.c.stream)
    )
    return bool(rows)


def of_address(
    account_id: AccountId, server_id: ServerId, address: str, streams: Sequence[str]
) -> Work[dict[str, tuple[Reason, Origin]]]:
    """Why a server sends nothing to an address on these streams, by stream; "" is for all streams."""
    rows = yield select(suppressions).where(*_of_address(account_id, server_id, address, streams))
    return {row.stream: (Reason(row.reason), Origin(row.origin)) for row in rows}


def _of_address(
    account_id: AccountId, server_id: ServerId, address: str, streams: Sequence[str]
) -> tuple[ColumnElement[bool], ...]:
    """The streams are named because the key leads with them: without, a whole list would be read."""
    return (
        suppressions.c.account_id == account_id,
        suppressions.c.server_id == server_id,
        suppressions.c.stream.in_(streams),
        suppressions.c.address == address,
    )


@dataclass(frozen=True)
class Wanted:
    """Which rows of a list: of these reasons and origins, of one address, from `since_us` until before
    `until_us`; None: of any."""

    reasons: Sequence[Reason] = tuple(Reason)
    origins: Sequence[Origin] = tuple(Origin)
    address: str | None = None
    since_us: int | None = None
    until_us: int | None = None


def page_of(
    account_id: AccountId, server_id: ServerId, stream: str, wanted: Wanted, *, after: str, limit: int
) -> Work[list[Suppression]]:
    """The next rows of one stream's own list, by address, behind the address `after`."""
    query = select(suppressions).where(
        suppressions.c.account_id == account_id,
        suppressions.c.server_id == server_id,
        suppressions.c.stream == stream,
        suppressions.c.address > after,
        suppressions.c.reason.in_([one.value for one in wanted.reasons]),
        suppressions.c.origin.in_([one.value for one in wanted.origins]),
    )
    if wanted.address is not None:
        query = query.where(suppressions.c.address == wanted.address)
    if wanted.since_us is not None:
        query = query.where(suppressions.c.created_at >= wanted.since_us)
    if wanted.until_us is not None:
        query = query.where(suppressions.c.created_at < wanted.until_us)
    rows = yield query.order_by(suppressions.c.address).limit(limit)
    return [_suppression(row) for row in rows]


def of_addresses(
    account_id: AccountId, server_id: ServerId, streams: Sequence[str], addresses: Sequence[str]
) -> Work[list[Suppression]]:
    """The rows of these addresses on these lists; nobody changes them until a unit that writes ends."""
    rows = yield (
        select(suppressions)
        .where(
            suppressions.c.account_id == account_id,
            suppressions.c.server_id == server_id,
            suppressions.c.stream.in_(streams),
            suppressions.c.address.in_(addresses),
        )
        .order_by(suppressions.c.address, suppressions.c.stream)
        .with_for_update()
    )
    return [_suppression(row) for row in rows]


def list_of(
    account_id: AccountId,
    server_id: ServerId,
    *,
    stream: str | None = None,
    containing: str = "",
    limit: int,
    offset: int = 0,
) -> Work[tuple[list[Suppression], int]]:
    """By stream and address: one stream's rows or (None) all; and their number without limit.

    containing: only addresses with this text in them, a text and no pattern; in lower case, as they are.
    """
    wanted = [suppressions.c.account_id == account_id, suppressions.c.server_id == server_id]
    if stream is not None:
        wanted.append(suppressions.c.stream == stream)
    if containing:
        wanted.append(suppressions.c.address.contains(containing, autoescape=True))
    counted = yield select(func.count()).select_from(suppressions).where(*wanted)
    rows = yield (
        select(suppressions)
        .where(*wanted)
        .order_by(suppressions.c.stream, suppressions.c.address)
        .limit(limit)
        .offset(offset)
    )
    return [_suppression(row) for row in rows], counted[0][0]


def count(account_id: AccountId, server_id: ServerId) -> Work[int]:
    """How many rows a server's lists have."""
    rows = yield Sql(
        "SELECT COUNT(*) FROM suppressions WHERE account_id = :account_id AND server_id = :server_id",
        {"account_id": account_id, "server_id": server_id},
    )
    total: int = rows[0][0]
    return total


def _suppression(row: Any) -> Suppression:  # Any: a driver's row carries no types
    return Suppression(
        suppression_id=row.suppression_id,
        account_id=AccountId(row.account_id),
        server_id=ServerId(row.server_id),
        stream=row.stream,
        address=row.address,
        reason=Reason(row.reason),
        origin=Origin(row.origin),
        created_at_us=row.created_at,
    )
