"""What routing must know of connections, in one look: theirs, their health, and their room."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from postroom.core.connection import SIGNS_MAIL_OPTION, SignsMail, Vendor
from postroom.core.message import Purpose
from postroom.ids import AccountId, ConnectionId, LaneId, ServerId
from postroom.mail.address import address_key, parse_mailbox
from postroom.mail.unsubscribe import DEFAULT_OFFER, Offer
from postroom.storage.interface import NewIds, Rows, Sql, Work


@dataclass(frozen=True)
class Route:
    """One connection as routing sees it. Times are microseconds since 1970."""

    account_id: AccountId
    connection_id: ConnectionId
    server_id: ServerId | None
    label: str
    delivery_method: str
    version: int
    enabled: bool
    failed_at: int | None
    disabled_at: int | None
    held_until: int | None
    deleted: bool
    purposes: frozenset[Purpose]
    hourly_cap: int | None
    daily_cap: int | None
    own_sender: str = ""  # the address, for comparing, that this connection alone may write in From
    failed_reason: str | None = None
    offer: Offer = DEFAULT_OFFER  # how its mail offers to unsubscribe
    vendor: Vendor = Vendor.OTHER
    signs_mail: SignsMail = SignsMail.AUTO


_COLUMNS = (
    "account_id, connection_id, server_id, label, delivery_method, version, enabled, connection_failed_at,"
    " disabled_at, held_until, deleted_at, for_transactional, for_broadcast, for_sequence, hourly_cap,"
    " daily_cap, sender, failed_reason, options, vendor"
)


def own_sender(mailbox: str | None) -> str:
    """A connection's sender as an address for comparing; "" for none."""
    return address_key(parse_mailbox(mailbox, "sender").address) if mailbox else ""


def senders_of(account_id: AccountId, server_id: ServerId, purpose: Purpose) -> Work[list[str]]:
    """The senders of the connections that may carry this server's mail of this purpose, for comparing."""
    found = yield from routes_of(account_id, server_id)
    return [one.own_sender for one in found if one.own_sender and purpose in one.purposes]


def _route(row: Sequence[object]) -> Route:
    options = json.loads(str(row[18]))
    flags = zip(row[11:14], (Purpose.TRANSACTIONAL, Purpose.BROADCAST, Purpose.SEQUENCE), strict=True)
    return Route(
        account_id=row[0],  # type: ignore[arg-type]  # SQL's types, as the schema has them
        connection_id=row[1],  # type: ignore[arg-type]
        server_id=row[2],  # type: ignore[arg-type]
        label=str(row[3]),
        delivery_method=str(row[4]),
        version=row[5],  # type: ignore[arg-type]
        enabled=bool(row[6]),
        failed_at=row[7],  # type: ignore[arg-type]
        disabled_at=row[8],  # type: ignore[arg-type]
        held_until=row[9],  # type: ignore[arg-type]
        deleted=row[10] is not None,
        purposes=frozenset(purpose for flag, purpose in flags if flag),
        hourly_cap=row[14],  # type: ignore[arg-type]
        daily_cap=row[15],  # type: ignore[arg-type]
        own_sender=own_sender(row[16]),  # type: ignore[arg-type]
        failed_reason=row[17],  # type: ignore[arg-type]
        offer=Offer.of(options),
        vendor=Vendor(str(row[19])),
        signs_mail=SignsMail(options.get(SIGNS_MAIL_OPTION) or SignsMail.AUTO),
    )


def all_routes() -> Work[list[Route]]:
    """Every connection that is not deleted, for a starting engine."""
    rows = yield Sql(f"SELECT {_COLUMNS} FROM connections WHERE deleted_at IS NULL")  # noqa: S608
    return [_route(row) for row in rows]


def routes_of(account_id: AccountId, server_id: ServerId) -> Work[list[Route]]:
    """The candidates of one server: its own and its account's shared ones."""
    return routes_in((yield look(account_id, server_id)))


def look(account_id: AccountId, server_id: ServerId) -> Sql:
    """A row for each of `routes_of`."""
    return Sql(
        f"SELECT {_COLUMNS} FROM connections WHERE account_id = :account_id"  # noqa: S608
        " AND (server_id = :server_id OR server_id IS NULL) AND campaign_id IS NULL"
        " AND deleted_at IS NULL ORDER BY connection_id",
        {"account_id": account_id, "server_id": server_id},
    )


def routes_in(rows: Rows) -> list[Route]:
    """Of the rows of `look`."""
    return [_route(row) for row in rows]


def route(connection_id: ConnectionId) -> Work[Route | None]:
    """One connection, deleted or not."""
    rows = yield Sql(
        f"SELECT {_COLUMNS} FROM connections WHERE connection_id = :connection_id",  # noqa: S608
        {"connection_id": connection_id},
    )
    return _route(rows[0]) if rows else None


def look_refused(account_id: AccountId) -> Sql:
    """A row for each From that one of the account's connections refused not long ago, for `refusals_in`."""
    return Sql(
        "SELECT connection_id, sender, until FROM refused_senders WHERE account_id = :account_id",
        {"account_id": account_id},
    )


def refusals_in(rows: Rows, sender: str, candidates: Sequence[Route], at_us: int) -> dict[ConnectionId, int]:
    """Which of these refuse this From at the moment, and until when; with "" each its own sender."""
    wanted = {(one.connection_id, sender or one.own_sender) for one in candidates}
    return {row[0]: row[2] for row in rows if row[2] > at_us and (row[0], row[1]) in wanted}


class NewDecision(msgspec.Struct, frozen=True):
    """A routing decision with the facts it was made on. digest: the same for all that say the same."""

    account_id: AccountId
    lane_id: LaneId
    facts: str
    decision: str
    digest: str
    at_us: int


def add_decisions(made: Sequence[NewDecision]) -> Work[list[int]]:
    """Store decisions, of each lane one; returns their ids.

    Where a lane's newest says the same, by its digest, another process has stored it already.
    """
    # Who decides the same lanes elsewhere locks them in this order, too.
    lanes = [{"account_id": one.account_id, "lane_id": one.lane_id} for one in made]
    lanes.sort(key=lambda one: one["lane_id"])
    yield Sql("SELECT lane_id FROM lanes WHERE lane_id = :lane_id", lanes, " FOR UPDATE")
    newest = yield Sql(
        "SELECT lane_id, decision_id, digest FROM decisions WHERE account_id = :account_id"
        " AND lane_id = :lane_id ORDER BY decision_id DESC LIMIT 1",
        lanes,
    )
    known = {(row[0], row[2]): row[1] for row in newest}
    missing = [one for one in made if (one.lane_id, one.digest) not in known]
    if missing:
        (numbers,) = yield NewIds((("decisions", len(missing)),))
        yield Sql(
            "INSERT INTO decisions (account_id, decision_id, lane_id, facts, decision, digest, created_at)"
            " VALUES (:account_id, :decision_id, :lane_id, :facts, :decision, :digest, :at)",
            [
                {
                    "account_id": one.account_id,
                    "decision_id": number,
                    "lane_id": one.lane_id,
                    "facts": one.facts,
                    "decision": one.decision,
                    "digest": one.digest,
                    "at": one.at_us,
                }
                for number, one in zip(numbers, missing, strict=True)
            ],
        )
        known |= {(one.lane_id, one.digest): number for number, one in zip(numbers, missing, strict=True)}
    return [known[one.lane_id, one.digest] for one in made]


def get_decision(account_id: AccountId, decision_id: int) -> Work[tuple[str, str] | None]:
    """The facts and the decision of this id, as stored."""
    rows = yield Sql(
        "SELECT facts, decision FROM decisions WHERE account_id = :account_id AND decision_id = :decision_id",
        {"account_id": account_id, "decision_id": decision_id},
    )
    return (rows[0][0], rows[0][1]) if rows else None
