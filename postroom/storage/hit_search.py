"""Finding what people opened and followed of one server's mail, in slices that are each short.

One row for each delivery that was opened, and for each link of it that was followed: the first time a person
did. What only machines did is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from postroom.ids import AccountId, DeliveryId, MessageId, ServerId
from postroom.storage import looking
from postroom.storage.interface import Sql, Work
from postroom.storage.looking import Slice

Place: TypeAlias = tuple[int, DeliveryId, int]  # when, of which delivery, which link

_ROWS = """
SELECT h.person_at, h.delivery_id, h.link, h.user_agent, h.in_text, d.recipient, m.public_id, m.stream,
       m.content_id, m.options
"""
_WHOSE = """
JOIN deliveries d ON d.account_id = h.account_id AND d.delivery_id = h.delivery_id
JOIN messages m ON m.account_id = d.account_id AND m.message_id = d.message_id
"""


@dataclass(frozen=True)
class Wanted:
    """What is looked for; None and "" for anything. clicks: links that were followed, else what was opened.

    recipient: an address for comparing.
    """

    clicks: bool
    stream: str
    recipient: str = ""
    since_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True)
class FoundHit:
    """The first time of a person. link: the number of the target, -1 for the pixel. options: JSON."""

    at_us: int
    delivery_id: DeliveryId
    link: int
    user_agent: str
    in_text: bool
    recipient: str
    public_id: str
    stream: str
    content_id: int
    options: str


def look(
    account_id: AccountId, server_id: ServerId, wanted: Wanted, before: Place | None
) -> Work[Slice[FoundHit, Place]]:
    """What fits among the next SLICE hits older than `before`."""
    at, delivery, link = before or (0, 0, 0)
    params: dict[str, object] = {"account_id": account_id, "server_id": server_id, "most": looking.SLICE}
    params |= {"at": at, "delivery": delivery, "link": link, "last": looking.SLICE - 1}
    slice_of = "account_id = :account_id AND server_id = :server_id AND person_at IS NOT NULL"
    if before is not None:
        slice_of += " AND (person_at, delivery_id, link) < (:at, :delivery, :link)"
    if wanted.until_us is not None:
        slice_of += " AND person_at < :until"
        params["until"] = wanted.until_us
    if wanted.since_us is not None:
        slice_of += " AND person_at >= :since"
        params["since"] = wanted.since_us
    newest = f"FROM hits WHERE {slice_of} ORDER BY person_at DESC, delivery_id DESC, link DESC"
    rows = yield Sql(
        f"{_ROWS} FROM (SELECT * {newest} LIMIT :most) AS h {_WHOSE} WHERE {_fits(wanted, params)}",
        params,
    )
    ends = yield Sql(f"SELECT person_at, delivery_id, link {newest} LIMIT 1 OFFSET :last", params)
    last = (ends[0][0], DeliveryId(ends[0][1]), ends[0][2]) if ends else None
    return Slice(_newest_first(rows), last)


def of_message(
    account_id: AccountId, message_id: MessageId, *, clicks: bool, most: int
) -> Work[list[FoundHit]]:
    """Those of one message, newest first, at most so many."""
    rows = yield Sql(
        f"{_ROWS} FROM messages m JOIN deliveries d ON d.account_id = m.account_id"
        " AND d.message_id = m.message_id JOIN hits h ON h.account_id = d.account_id"
        " AND h.delivery_id = d.delivery_id WHERE m.account_id = :account_id AND m.message_id = :message_id"
        f" AND h.person_at IS NOT NULL AND {_kind(clicks)} LIMIT :most",
        {"account_id": account_id, "message_id": message_id, "most": most},
    )
    return _newest_first(rows)


def _fits(wanted: Wanted, params: dict[str, object]) -> str:
    conditions = [_kind(wanted.clicks), "m.stream = :stream"]
    params["stream"] = wanted.stream
    if wanted.recipient:
        conditions.append("d.address = :recipient")
        params["recipient"] = wanted.recipient
    return " AND ".join(conditions)


def _kind(clicks: bool) -> str:
    return "h.link > 0" if clicks else "h.link = 0"


def _newest_first(rows: Sequence[Sequence[object]]) -> list[FoundHit]:
    found = []
    for row in rows:
        at_us, delivery, link, user_agent, in_text, *rest = row
        assert isinstance(link, int)
        found.append(
            FoundHit(at_us, delivery, link - 1, user_agent, bool(in_text), *rest)  # type: ignore[arg-type]  # SQL's types
        )
    return sorted(found, key=lambda one: (one.at_us, one.delivery_id, one.link), reverse=True)
