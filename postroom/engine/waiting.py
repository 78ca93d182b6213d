"""Mail that nothing may send now: after a minute, one event says so and why."""

from __future__ import annotations

import json
from collections.abc import Sequence

from postroom.core.event import EventKind
from postroom.engine.lanes import LaneState
from postroom.engine.routing import PAUSES
from postroom.storage import hot
from postroom.storage.interface import Sql, Work, now
from postroom.storage.lanes import Lane

TOLD_AFTER_US = 60 * 1_000_000


def notice(state: LaneState, now_us: int) -> bool:
    """Whether this lane's wait is to be told now: it has work, no connection, and a minute has gone.

    A connection that is tried again ends no wait, only mail that moves does: backing off and probing by
    turns, it would else be a new wait each time. What a person paused is no trouble: it goes on when they
    resume it.
    """
    if not state.has_work(now_us) or not PAUSES.isdisjoint(state.reasons):
        state.moved()
        return False
    if state.stale or state.chosen:
        return False
    if state.waiting_since_us is None:
        state.waiting_since_us = now_us
    if state.waiting_told or now_us - state.waiting_since_us < TOLD_AFTER_US:
        return False
    state.waiting_told = True
    return True


def moved(state: LaneState | None) -> None:
    """Something of this lane came further, or has nothing to wait for: its wait is over."""
    if state is not None:
        state.moved()


def tell(lane: Lane, reasons: Sequence[str]) -> Work[None]:
    """One event, on the first delivery that waits in the lane."""
    at_us = yield from now()
    rows = yield Sql(
        "SELECT d.delivery_id, d.message_id FROM (SELECT account_id, delivery_id FROM ready"
        " WHERE account_id = :account_id AND lane_id = :lane_id AND due <= :now ORDER BY due LIMIT 1) r"
        " JOIN deliveries d ON d.account_id = r.account_id AND d.delivery_id = r.delivery_id",
        {"account_id": lane.account_id, "lane_id": lane.lane_id, "now": at_us},
    )
    if rows:
        yield Sql(
            hot.INSERT_EVENT,
            {
                "account_id": lane.account_id,
                "server_id": lane.server_id,
                "message_id": rows[0][1],
                "delivery_id": rows[0][0],
                "connection_id": None,
                "kind": EventKind.WAITING.value,
                "at": at_us,
                "data": json.dumps({"reasons": sorted(reasons), "lane": lane.lane_id}),
            },
        )
