"""What a restored database has to be told before anything is sent out of it.

It is another life of the installation: a name of its own, so that no journal of the former one is ever
replayed into it; numbers far above those the outside may have seen in mail that was lost with the former
database; and a pause of everything, because what waits in it may have left since the backup was made.

SQLite only, and only on a file that nobody serves.
"""

from __future__ import annotations

import json
import uuid

from postroom.core.actor import Actor
from postroom.core.event import EventKind
from postroom.core.message import DeliveryState
from postroom.ids import AccountId, DeliveryId, WorkerId
from postroom.storage import audit, pauses
from postroom.storage.interface import Sql, Work, now
from postroom.storage.pauses import EVERYTHING, Pause, PauseScope
from postroom.storage.tables import metadata

REASON = "restored"
# Numbers that people and programs were given one by one; everything else counts up with the mail.
_GIVEN_BY_HAND = {"accounts", "servers", "keys", "identities", "connections"}
_MARGIN_BY_HAND = 1_000
_MARGIN = 1_000_000
_MARGIN_EACH_SECOND = 10_000  # more than one machine can accept


def new_life(taken_at_us: int, actor: Actor, backup: str) -> Work[str]:
    """Name, worker epochs, numbers, pause and audit line; the new instance id.

    taken_at_us: when the backup was made: the longer ago, the further the numbers move.
    """
    at_us = yield from now()
    instance = str(uuid.uuid4())
    rows = yield Sql("SELECT value FROM instance WHERE name = 'id'")
    yield Sql(
        "INSERT INTO instance (name, value) VALUES ('id', :id)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        {"id": instance},
    )
    yield Sql("UPDATE workers SET epoch = epoch + 1")
    yield from raise_numbers(max(0, at_us - taken_at_us) // 1_000_000)
    yield from pauses.add(Pause(EVERYTHING, PauseScope.ALL, 0, at_us, actor.name, REASON))
    detail = {"backup": backup, "taken_at_us": taken_at_us, "former_instance": rows[0][0] if rows else ""}
    yield from audit.add(AccountId(0), at_us, actor, "instance.restore", f"instance {instance}", detail)
    return instance


def raise_numbers(elapsed_s: int) -> Work[None]:
    """No number given out since the backup, such as one in an unsubscribe link, is given out again."""
    far = _MARGIN + _MARGIN_EACH_SECOND * elapsed_s
    for table in metadata.sorted_tables:
        if not table.dialect_options["sqlite"]["autoincrement"]:
            continue
        name = {"name": table.name}
        yield Sql(
            "INSERT INTO sqlite_sequence (name, seq) SELECT :name, 0"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name)",
            name,
        )
        margin = _MARGIN_BY_HAND if table.name in _GIVEN_BY_HAND else far
        yield Sql(
            "UPDATE sqlite_sequence SET seq = seq + :margin WHERE name = :name", {**name, "margin": margin}
        )


def workers() -> Work[list[WorkerId]]:
    """Every worker there ever was."""
    rows = yield Sql("SELECT worker_id FROM workers ORDER BY worker_id")
    return [WorkerId(row[0]) for row in rows]


def claimed() -> Work[list[DeliveryId]]:
    """What was on its way when the backup was made."""
    rows = yield Sql("SELECT delivery_id FROM deliveries WHERE state = :state", _state(DeliveryState.CLAIMED))
    return [DeliveryId(row[0]) for row in rows]


def mark_unverified(actor: Actor) -> Work[int]:
    """Everything that waits, or whose outcome is unknown, counts as sent and is not sent again; how many."""
    at_us = yield from now()
    where = "state IN ('ready', 'unknown')"
    detail = json.dumps({"restored": True, "by": actor.name})
    values = {"at": at_us, "data": detail, "kind": EventKind.UNVERIFIED.value}
    yield Sql(
        "INSERT INTO events (account_id, server_id, message_id, delivery_id, kind, at, data)"  # noqa: S608 - our own text
        " SELECT account_id, server_id, message_id, delivery_id, :kind, :at, :data FROM deliveries"
        f" WHERE {where}",
        values,
    )
    rows = yield Sql(
        "UPDATE deliveries SET state = 'unverified', settled_at = :at, worker_id = NULL, epoch = NULL,"  # noqa: S608
        f" reason = 'restored from a backup; it may have gone out since' WHERE {where} RETURNING 1",
        {"at": at_us},
    )
    yield Sql("DELETE FROM ready")
    yield Sql("DELETE FROM unknowns")
    return len(rows)


def mark_ready(was_claimed: list[DeliveryId], actor: Actor) -> Work[int]:
    """What was on its way or unknown when the backup was made waits to be sent again; how many.

    was_claimed: those that were on their way, whatever became of them since.
    """
    at_us = yield from now()
    rows = yield Sql("SELECT delivery_id FROM deliveries WHERE state = :state", _state(DeliveryState.UNKNOWN))
    wanted = sorted({*was_claimed, *(row[0] for row in rows)})
    detail = json.dumps({"restored": True, "by": actor.name})
    values = [{"id": one, "at": at_us, "data": detail, "kind": EventKind.RESENT.value} for one in wanted]
    yield Sql(
        "UPDATE deliveries SET state = 'ready', due = :at, settled_at = NULL, worker_id = NULL, epoch = NULL,"
        " resends = resends + 1, reason = 'sent again after a restore'"
        " WHERE delivery_id = :id AND state IN ('unknown', 'unverified')",
        [{"id": one["id"], "at": at_us} for one in values],
    )
    done = yield Sql(
        "INSERT INTO ready (account_id, lane_id, due, delivery_id)"
        " SELECT account_id, lane_id, due, delivery_id FROM deliveries d"
        " WHERE d.delivery_id = :id AND d.state = 'ready'"
        " AND NOT EXISTS (SELECT 1 FROM ready r WHERE r.account_id = d.account_id AND r.lane_id = d.lane_id"
        " AND r.due = d.due AND r.delivery_id = d.delivery_id) RETURNING 1",
        [{"id": one["id"]} for one in values],
    )
    yield Sql(
        "INSERT INTO events (account_id, server_id, message_id, delivery_id, kind, at, data)"
        " SELECT account_id, server_id, message_id, delivery_id, :kind, :at, :data FROM deliveries"
        " WHERE delivery_id = :id AND state = 'ready'",
        values,
    )
    yield Sql("DELETE FROM unknowns")
    return len(done)


def waiting() -> Work[dict[str, int]]:
    """How many deliveries are in each state."""
    rows = yield Sql("SELECT state, COUNT(*) FROM deliveries GROUP BY state")
    return dict(rows)


def _state(state: DeliveryState) -> dict[str, object]:
    return {"state": state.value}
