"""Lanes: one for each (server, purpose, stream, From, preferred connection, form, needs) of mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from postroom.core.message import Form, Purpose
from postroom.core.need import with_need
from postroom.ids import AccountId, ConnectionId, LaneId, ServerId
from postroom.storage.interface import Rows, Sql, Work


@dataclass(frozen=True)
class Lane:
    """What routing depends on; a decision is made for a lane, never for a row."""

    lane_id: LaneId
    account_id: AccountId
    server_id: ServerId
    purpose: Purpose
    stream: str
    sender: str
    preferred: ConnectionId | None
    form: Form = Form.PARTS
    needs: tuple[str, ...] = ()  # `core.need`


_COLUMNS = "lane_id, account_id, server_id, purpose, stream, sender, preferred_connection_id, form, needs"


def _lane(row: Sequence[object]) -> Lane:
    lane_id, account, server, purpose, stream, sender, preferred, form, needs = row
    assert isinstance(lane_id, int)
    assert isinstance(account, int)
    assert isinstance(server, int)
    assert isinstance(preferred, int)
    return Lane(
        LaneId(lane_id),
        AccountId(account),
        ServerId(server),
        Purpose(str(purpose)),
        str(stream),
        str(sender),
        ConnectionId(preferred) if preferred else None,
        Form(str(form)),
        tuple(str(needs).split()),
    )


def get(lane_id: LaneId) -> Work[Lane | None]:
    """One lane."""
    rows = yield Sql(f"SELECT {_COLUMNS} FROM lanes WHERE lane_id = :lane_id", {"lane_id": lane_id})  # noqa: S608
    return _lane(rows[0]) if rows else None


def with_mail() -> Work[list[tuple[Lane, int]]]:
    """Every lane that something waits in, with the due time of its first; one look-up a lane."""
    rows = yield Sql(
        f"SELECT {_COLUMNS}, (SELECT r.due FROM ready r WHERE r.account_id = lanes.account_id"  # noqa: S608
        " AND r.lane_id = lanes.lane_id ORDER BY r.due LIMIT 1) AS first_due FROM lanes"
    )
    return [(_lane(row[:9]), row[9]) for row in rows if row[9] is not None]


def ensure(
    account_id: AccountId,
    server_id: ServerId,
    purpose: Purpose,
    stream: str,
    sender: str,
    preferred: ConnectionId | None = None,
    form: Form = Form.PARTS,
    needs: tuple[str, ...] = (),
) -> Work[LaneId]:
    """The lane of this key, made when absent."""
    key = key_of(account_id, server_id, purpose, stream, sender, preferred, form, needs)
    return (yield from made(key, (yield look(key))))


Key = dict[str, object]


def key_of(
    account_id: AccountId,
    server_id: ServerId,
    purpose: Purpose,
    stream: str,
    sender: str,
    preferred: ConnectionId | None = None,
    form: Form = Form.PARTS,
    needs: tuple[str, ...] = (),
) -> Key:
    """What tells one lane from another."""
    return {
        "account_id": account_id,
        "server_id": server_id,
        "purpose": purpose.value,
        "stream": stream,
        "sender": sender,
        "preferred": preferred or 0,
        "form": form.value,
        "needs": " ".join(needs),
    }


def look(key: Key) -> Sql:
    """Asks for the lane of this key; `made` takes what comes."""
    return Sql(
        "SELECT lane_id FROM lanes WHERE account_id = :account_id AND server_id = :server_id"
        " AND purpose = :purpose AND stream = :stream AND sender = :sender"
        " AND preferred_connection_id = :preferred AND form = :form AND needs = :needs",
        key,
    )


def made(key: Key, rows: Rows) -> Work[LaneId]:
    """The lane that was looked for, made when absent."""
    if not rows:
        rows = yield Sql(
            "INSERT INTO lanes"
            " (account_id, server_id, purpose, stream, sender, preferred_connection_id, form, needs)"
            " VALUES (:account_id, :server_id, :purpose, :stream, :sender, :preferred, :form, :needs)"
            " ON CONFLICT"
            " (account_id, server_id, purpose, stream, sender, preferred_connection_id, form, needs)"
            " DO UPDATE SET stream = excluded.stream RETURNING lane_id",
            key,
        )
    lane_id: LaneId = rows[0][0]
    return lane_id


def sister(lane_id: LaneId, sender: str) -> Work[LaneId]:
    """The lane of the same mail with another From."""
    lane = yield from _known(lane_id)
    return (yield from _ensured(replace(lane, sender=sender)))


def preferring(lane_id: LaneId, connection_id: ConnectionId) -> Work[LaneId]:
    """The sister of a lane whose mail tries this connection first."""
    lane = yield from _known(lane_id)
    return (yield from _ensured(replace(lane, preferred=connection_id)))


def needing(lane_id: LaneId, need: str) -> Work[LaneId]:
    """The sister of a lane whose mail needs this too."""
    lane = yield from _known(lane_id)
    return (yield from _ensured(replace(lane, needs=with_need(lane.needs, need))))


def _known(lane_id: LaneId) -> Work[Lane]:
    lane = yield from get(lane_id)
    assert lane is not None
    return lane


def _ensured(lane: Lane) -> Work[LaneId]:
    found = yield from ensure(
        lane.account_id,
        lane.server_id,
        lane.purpose,
        lane.stream,
        lane.sender,
        lane.preferred,
        lane.form,
        lane.needs,
    )
    return found
