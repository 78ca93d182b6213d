"""Finding one server's bounces, in slices that are each short, and counting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from postroom.core.bounce import Bounce, BounceKind
from postroom.core.suppression import Reason
from postroom.ids import AccountId, BounceId, ServerId
from postroom.storage import looking
from postroom.storage.interface import Sql, Work
from postroom.storage.looking import Slice, literally

_MOST_TAGS = 1000
_TAGGED = 50_000  # of the newest bounces, so many are asked for their tag

# Of a kind that stops mail to the address, and nobody took it off the list since.
_STOPS = (BounceKind.HARD, BounceKind.COMPLAINT)
_INACTIVE = (
    f"(b.kind IN ({', '.join(repr(one.value) for one in _STOPS)}) AND EXISTS ("  # noqa: S608 - our own words
    "SELECT 1 FROM suppressions s WHERE s.account_id = b.account_id AND s.server_id = b.server_id"
    " AND s.stream IN ('', b.stream) AND s.address = b.address AND s.created_at <= b.at"
    f" AND s.reason IN ('{Reason.HARD_BOUNCE.value}', '{Reason.COMPLAINT.value}')))"
)
_COLUMNS = (
    "b.bounce_id, b.account_id, b.server_id, b.delivery_id, b.public_id, b.stream, b.kind, b.recipient,"
    f" b.address, b.sender, b.subject, b.tag, b.text, b.report, b.at, {_INACTIVE}"
)
Numbers: TypeAlias = Slice[BounceId, int]


@dataclass(frozen=True)
class Wanted:
    """What is looked for; None and "" for anything.

    containing: a part of the recipient's address. inactive: whether its address gets nothing because of it.
    """

    stream: str
    kind: BounceKind | None = None
    inactive: bool | None = None
    containing: str = ""
    tag: str = ""
    public_id: str = ""
    since_us: int | None = None
    until_us: int | None = None


def look(account_id: AccountId, server_id: ServerId, wanted: Wanted, before: int | None) -> Work[Numbers]:
    """What fits among the next SLICE bounces older than `before`."""
    params: dict[str, object] = {"account_id": account_id, "server_id": server_id, "before": before}
    params |= {"most": looking.SLICE, "last": looking.SLICE - 1}
    if wanted.public_id:
        return (yield from _of_one_message(wanted, params))
    slice_of = "account_id = :account_id AND server_id = :server_id"
    if before is not None:
        slice_of += " AND bounce_id < :before"
    newest = f"FROM bounces WHERE {slice_of} ORDER BY bounce_id DESC"
    rows = yield Sql(
        f"SELECT b.bounce_id FROM (SELECT * {newest} LIMIT :most) AS b"  # noqa: S608 - our own text
        f" WHERE {_fits(wanted, params)}",
        params,
    )
    ends = yield Sql(f"SELECT bounce_id, at {newest} LIMIT 1 OFFSET :last", params)
    past = not ends or (wanted.since_us is not None and ends[0][1] < wanted.since_us)
    return Slice(sorted((BounceId(row[0]) for row in rows), reverse=True), None if past else ends[0][0])


def _of_one_message(wanted: Wanted, params: dict[str, object]) -> Work[Numbers]:
    """A message has so few that no slice is needed: the index of messages finds them."""
    rows = yield Sql(
        "SELECT b.bounce_id FROM bounces b WHERE b.account_id = :account_id"  # noqa: S608 - our own text
        f" AND b.public_id = :public_id AND b.server_id = :server_id AND {_fits(wanted, params)}",
        {**params, "public_id": wanted.public_id},
    )
    return Slice(sorted((BounceId(row[0]) for row in rows), reverse=True), None)


def place_of(account_id: AccountId, server_id: ServerId, at_us: int) -> Work[int | None]:
    """Below which number bounces were made before this moment; None: all of them."""
    return looking.place_of("bounces", "bounce_id", "at", account_id, server_id, at_us)


def get_many(account_id: AccountId, server_id: ServerId, numbers: Sequence[BounceId]) -> Work[list[Bounce]]:
    """Bounces of a server by their numbers, in that order; what is not there is left out."""
    rows = yield Sql(
        f"SELECT {_COLUMNS} FROM bounces b WHERE b.account_id = :account_id"  # noqa: S608 - our own text
        " AND b.server_id = :server_id AND b.bounce_id = :bounce_id",
        [{"account_id": account_id, "server_id": server_id, "bounce_id": one} for one in numbers],
    )
    return [_bounce(row) for row in rows]


def of_message(account_id: AccountId, server_id: ServerId, public_id: str, most: int) -> Work[list[Bounce]]:
    """Those of one message, oldest first, the first `most`."""
    rows = yield Sql(
        f"SELECT {_COLUMNS} FROM bounces b WHERE b.account_id = :account_id"  # noqa: S608 - our own text
        " AND b.server_id = :server_id AND b.public_id = :public_id ORDER BY b.bounce_id LIMIT :most",
        {"account_id": account_id, "server_id": server_id, "public_id": public_id, "most": most},
    )
    return [_bounce(row) for row in rows]


def counts(account_id: AccountId, server_id: ServerId) -> Work[dict[BounceKind, int]]:
    """How many bounces of each kind a server has."""
    rows = yield Sql(
        "SELECT kind, COUNT(*) FROM bounces WHERE account_id = :account_id AND server_id = :server_id"
        " GROUP BY kind",
        {"account_id": account_id, "server_id": server_id},
    )
    return {BounceKind(row[0]): row[1] for row in rows}


def tags(account_id: AccountId, server_id: ServerId) -> Work[list[str]]:
    """The tags of a server's newest bounces, by name."""
    rows = yield Sql(
        "SELECT DISTINCT b.tag FROM (SELECT tag FROM bounces WHERE account_id = :account_id"
        " AND server_id = :server_id ORDER BY bounce_id DESC LIMIT :of) AS b WHERE b.tag <> '' LIMIT :most",
        {"account_id": account_id, "server_id": server_id, "of": _TAGGED, "most": _MOST_TAGS},
    )
    return sorted(row[0] for row in rows)


def _fits(wanted: Wanted, params: dict[str, object]) -> str:
    """The condition on `b`; adds its values to `params`."""
    conditions = ["b.stream = :stream"]
    params["stream"] = wanted.stream
    for name, column, value in (("kind", "b.kind =", wanted.kind), ("tag", "b.tag =", wanted.tag)):
        if value:
            conditions.append(f"{column} :{name}")
            params[name] = str(value)
    if wanted.since_us is not None:
        conditions.append("b.at >= :since")
        params["since"] = wanted.since_us
    if wanted.until_us is not None:
        conditions.append("b.at < :until")
        params["until"] = wanted.until_us
    if wanted.containing:
        conditions.append(
            "(b.address LIKE :containing ESCAPE '!' OR LOWER(b.recipient) LIKE :containing ESCAPE '!')"
        )
        params["containing"] = f"%{literally(wanted.containing.lower())}%"
    if wanted.inactive is not None:
        conditions.append(_INACTIVE if wanted.inactive else f"NOT {_INACTIVE}")
    return " AND ".join(conditions)


def _bounce(row: Sequence[object]) -> Bounce:
    values = list(row)
    values[6], values[-1] = BounceKind(str(row[6])), bool(row[-1])
    return Bounce(*values)  # type: ignore[arg-type]  # the columns are the fields, in SQL's types
