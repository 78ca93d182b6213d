"""Unknown ends by itself: when its wait is over without evidence, by the policy of its purpose."""

from __future__ import annotations

from postroom.core.message import DeliveryState, Purpose
from postroom.engine.retry import Policy
from postroom.engine.transitions import DeliveryFacts, after_unknown_wait
from postroom.ids import LaneId
from postroom.storage import hot, lanes
from postroom.storage.interface import TAKE, Sql, Work, now

_DUE = f"""
SELECT u.due, d.delivery_id, d.account_id, d.server_id, d.message_id, d.lane_id, d.tries, d.resends,
       d.crashes,
       d.state, m.created_at, m.purpose, a.connection_id, d.attempt_id
FROM (SELECT due, delivery_id, account_id FROM unknowns WHERE due <= :now ORDER BY due LIMIT :n {TAKE}) u
JOIN deliveries d ON d.account_id = u.account_id AND d.delivery_id = u.delivery_id
JOIN messages m ON m.account_id = d.account_id AND m.message_id = d.message_id
JOIN attempts a ON a.account_id = d.account_id AND a.attempt_id = d.attempt_id
ORDER BY u.due
"""  # noqa: S608 - our own text


def next_due() -> Work[int | None]:
    """When the next unknown ends, microseconds since 1970."""
    rows = yield Sql("SELECT due FROM unknowns ORDER BY due LIMIT 1")
    return rows[0][0] if rows else None


def end_due(policy: Policy, limit: int = 200) -> Work[dict[LaneId, list[int]]]:
    """End what is due. Returns the lanes on which something became ready, with due times.

    What is sent again goes into a lane that prefers the connection it was unknown on.
    """
    at_us = yield from now()
    rows = yield Sql(_DUE, {"now": at_us, "n": limit}, " FOR UPDATE OF d SKIP LOCKED")
    woken: dict[LaneId, list[int]] = {}
    for row in rows:
        due, delivery, account, server, message, lane_id, tries, resends, crashes = row[:9]
        state, accepted, purpose, connection, attempt = row[9:]
        which = {"account_id": account, "delivery_id": delivery}
        yield Sql(hot.DELETE_UNKNOWN, {**which, "due": due})
        if state != DeliveryState.UNKNOWN:
            continue
        facts = DeliveryFacts(delivery, Purpose(purpose), accepted, due, tries, resends, crashes)
        move = after_unknown_wait(facts, policy, at_us)
        if move.same_connection_first:
            lane_id = yield from lanes.preferring(lane_id, connection)
        yield Sql(
            hot.SETTLE_DELIVERY,
            {
                "state": move.state.value,
                "due": at_us,
                "tries": move.tries,
                "resends": move.resends,
                "crashes": move.crashes,
                "copies": 0,
                "lane_id": lane_id,
                "settled_at": None if move.state is DeliveryState.READY else at_us,
                "reason": move.reason,
                "account_id": account,
                "delivery_id": delivery,
            },
        )
        if move.state is DeliveryState.READY:
            yield Sql(hot.INSERT_READY, {**which, "lane_id": lane_id, "due": at_us})
            woken.setdefault(lane_id, []).append(at_us)
        if move.event is not None:
            yield Sql(
                hot.INSERT_EVENT,
                {
                    "account_id": account,
                    "server_id": server,
                    "message_id": message,
                    "delivery_id": delivery,
                    "connection_id": connection,
                    "kind": move.event.value,
                    "at": at_us,
                    "data": f'{{"attempt":{attempt}}}',
                },
            )
    return woken
