"""What vendors themselves allow an account, as they said it last, and what was granted since.

`granted` starts with what was under way when the quota was read, so nothing is counted twice for long and
nothing is forgotten; the vendor has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.ids import AccountId, ConnectionId
from postroom.storage import hot, room
from postroom.storage.interface import Sql, Work, now


@dataclass(frozen=True)
class VendorQuota:
    """per_day: in any 24 hours, None for no limit. used: of it, as the vendor counted, whoever sent.
    granted: by us since. per_second: the vendor's rate. read_at_us: when it said so."""

    read_at_us: int
    per_day: int | None
    used: int
    granted: int
    per_second: float | None

    @property
    def left(self) -> int | None:
        """Sends it still permits; None: no limit."""
        return None if self.per_day is None else max(0, self.per_day - self.used - self.granted)


@dataclass(frozen=True)
class Mark:
    """How things stood when the vendor was asked: granted by us until then, and of it not settled yet."""

    granted: int
    under_way: int


def mark(account_id: AccountId, connection_id: ConnectionId) -> Work[Mark]:
    """To be taken right before asking, and given to `save` with the answer."""
    at_us = yield from now()
    known = yield from get(account_id, connection_id)
    counted = yield from room.counted(account_id, connection_id, at_us)
    return Mark(0 if known is None else known.granted, counted.under_way)


def save(
    account_id: AccountId,
    connection_id: ConnectionId,
    per_day: int | None,
    used: int,
    per_second: float | None,
    asked: Mark | None = None,
) -> Work[None]:
    """The vendor said so. asked: the mark taken before; without one nothing was granted in between."""
    at_us = yield from now()
    mine = {"account_id": account_id, "connection_id": connection_id}
    yield Sql(hot.LOCK_CAP, mine)  # claims wait, which grant of it
    since = yield from mark(account_id, connection_id)
    granted = since.under_way if asked is None else asked.under_way + max(0, since.granted - asked.granted)
    yield Sql(
        "INSERT INTO vendor_quotas"
        " (account_id, connection_id, read_at, per_day, used, granted, per_1000_s)"
        " VALUES (:account_id, :connection_id, :at, :per_day, :used, :granted, :rate)"
        " ON CONFLICT (account_id, connection_id)"
        " DO UPDATE SET read_at = excluded.read_at, per_day = excluded.per_day,"
        " used = excluded.used, granted = excluded.granted, per_1000_s = excluded.per_1000_s",
        {
            **mine,
            "at": at_us,
            "per_day": per_day,
            "used": used,
            "granted": granted,
            "rate": None if per_second is None else round(per_second * 1000),
        },
    )


def get(account_id: AccountId, connection_id: ConnectionId) -> Work[VendorQuota | None]:
    """What the vendor said last; None: nothing yet."""
    rows = yield Sql(
        "SELECT read_at, per_day, used, granted, per_1000_s FROM vendor_quotas"
        " WHERE account_id = :account_id AND connection_id = :connection_id",
        {"account_id": account_id, "connection_id": connection_id},
    )
    if not rows:
        return None
    read_at, per_day, used, granted, rate = rows[0]
    return VendorQuota(read_at, per_day, used, granted, None if rate is None else rate / 1000)


def grant(account_id: AccountId, connection_id: ConnectionId, n: int) -> Work[None]:
    """So many were granted, in the commit that claims them."""
    yield Sql(
        "UPDATE vendor_quotas SET granted = granted + :n"
        " WHERE account_id = :account_id AND connection_id = :connection_id",
        {"account_id": account_id, "connection_id": connection_id, "n": n},
    )
