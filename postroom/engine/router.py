"""Decisions of the running engine: facts gathered in memory, judged by `routing`, stored when they change.

A lane's decision is made again when a fact changes: a connection is made, changed, fails, recovers, backs
off, runs out of room or gets room back; an identity comes or goes; a From is refused. Never per message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from postroom.core.connection import DeliveryMethod
from postroom.core.message import Purpose
from postroom.core.need import stands_against
from postroom.engine.caps import UNCAPPED, CapState
from postroom.engine.lanes import LaneState
from postroom.engine.routing import Candidate, Decision, Facts, Paused, decide, purposes_of
from postroom.ids import AccountId, ConnectionId
from postroom.storage import identities, lacks, pauses, routes
from postroom.storage.interface import Now, Store, Together, Work
from postroom.storage.lacks import Lack
from postroom.storage.lanes import Lane
from postroom.storage.pauses import Pause, PauseScope
from postroom.storage.routes import Route
from postroom.transports.vendors import vendor_row


@dataclass(frozen=True)
class Health:
    """What only the running engine knows of a connection. Microseconds since 1970."""

    backoff_until: int | None = None
    cap: CapState | None = None  # as of the last claim
    blocked_bulk_until: int | None = None
    blocked_all_until: int | None = None
    day_full: bool = False  # of what blocks: today's cap, not the hour's
    next_probe: int | None = None  # while it has failed
    quota_full: bool = False  # of what blocks: the vendor's own quota, none of our caps
    trouble: str = ""  # what made it back off


FRESH = Health()


def candidate(
    route: Route,
    health: Health,
    purpose: Purpose,
    refused_until: int | None,
    now_us: int,
    has_transport: bool,
    paused: Paused | None = None,
    lacking_until: int | None = None,
) -> Candidate:
    """One connection as `routing` looks at it, for this kind of mail."""
    transactional = purpose is Purpose.TRANSACTIONAL
    until = health.blocked_all_until
    if not transactional and health.blocked_bulk_until is not None:
        until = max(health.blocked_bulk_until, until or 0)
    blocked = until is not None and until > now_us
    hour_room = UNCAPPED if route.hourly_cap is None else route.hourly_cap
    day_room = UNCAPPED if route.daily_cap is None else route.daily_cap
    if health.cap is not None:
        hour_room = min(hour_room, max(1, health.cap.hour_room))
        day_room = min(day_room, max(1, health.cap.quota_room))
    day_full = blocked and health.day_full
    quota_full = blocked and health.quota_full
    if blocked and not quota_full:
        hour_room, day_room = (hour_room, 0) if day_full else (0, day_room)
    return Candidate(
        connection_id=route.connection_id,
        label=route.label,
        deleted=route.deleted,
        enabled=route.enabled,
        failed_at=route.failed_at,
        disabled_at=route.disabled_at,
        held_until=route.held_until,
        backoff_until=health.backoff_until,
        sender_refused_until=refused_until,
        purposes=purposes_of(tuple(route.purposes)),
        has_transport=has_transport,
        hour_room=hour_room,
        day_room=day_room,
        full_until=until if blocked else None,
        own_sender=route.own_sender,
        paused=paused,
        needs_parts=needs_parts(route),
        lacking_until=lacking_until,
        quota_full=quota_full,
    )


def needs_parts(route: Route) -> bool:
    """Whether its API takes no finished message."""
    return route.delivery_method == DeliveryMethod.API and vendor_row(route.vendor).needs_parts


def gather(
    lane: Lane,
    candidates: Iterable[Route],
    proven: bool,
    refusals: Mapping[ConnectionId, int],
    health: Callable[[ConnectionId], Health],
    has_transport: Callable[[Route], bool],
    now_us: int,
    paused: Iterable[Pause] = (),
    lacks: Iterable[Lack] = (),
) -> Facts:
    """All that a decision for this lane depends on."""
    lacking: dict[ConnectionId, int] = {}
    for lack in lacks:
        if stands_against(lack.need, lane.needs):
            lacking[lack.connection_id] = max(lack.until_us, lacking.get(lack.connection_id, 0))
    stopped = {(one.scope, one.target_id): _told(one) for one in paused}
    return Facts(
        at=now_us,
        purpose=lane.purpose.value,
        sender=lane.sender,
        sender_proven=proven,
        preferred=lane.preferred,
        candidates=tuple(
            candidate(
                route,
                health(route.connection_id),
                lane.purpose,
                refusals.get(route.connection_id),
                now_us,
                has_transport(route),
                stopped.get((PauseScope.CONNECTION, route.connection_id)),
                lacking.get(route.connection_id),
            )
            for route in candidates
            if route.server_id in (None, lane.server_id) and route.account_id == lane.account_id
        ),
        server_paused=stopped.get((PauseScope.SERVER, lane.server_id)),
        all_paused=stopped.get((PauseScope.ALL, 0)),
        form=lane.form.value,
        needs=lane.needs,
    )


def _told(pause: Pause) -> Paused:
    return Paused(pause.created_at_us, pause.actor, pause.reason)


def load_facts(
    lane: Lane, health: Callable[[ConnectionId], Health], has_transport: Callable[[Route], bool]
) -> Work[Facts]:
    """The facts as the database has them now, for explaining and for a lane's first decision."""
    account_id, server_id = lane.account_id, lane.server_id
    times, theirs, vouched, refused, stopping = yield Together(
        [
            Now(),
            routes.look(account_id, server_id),
            identities.look_proven(account_id, server_id, lane.sender),
            routes.look_refused(account_id),
            pauses.look_concerning(account_id, server_id),
        ]
    )
    at_us: int = times[0][0]
    found = routes.routes_in(theirs)
    proven = "@" in lane.sender and bool(vouched)
    refusals = routes.refusals_in(refused, lane.sender, found, at_us)
    stopped = pauses.pauses_in(stopping)
    known: list[Lack] = []
    if lane.needs:
        known = yield from lacks.of_account(lane.account_id, at_us)
    return gather(lane, found, proven, refusals, health, has_transport, at_us, stopped, known)


class Router:
    """Keeps each lane's decision in force."""

    def __init__(
        self,
        store: Store,
        health: Callable[[ConnectionId], Health],
        has_transport: Callable[[Route], bool],
    ) -> None:
        self._store, self._health, self._has_transport = store, health, has_transport

    async def decide(self, states: Sequence[LaneState]) -> list[Decision]:
        """Decide these lanes anew from fresh facts: for each who may send it, the best first.

        A decision is stored when it says something else. Raises Unavailable.
        """
        for state in states:
            state.stale = False
        found = await self._store.read_each(
            [partial(load_facts, state.lane, self._health, self._has_transport) for state in states]
        )
        made = [(state, facts, decide(facts)) for state, facts in zip(states, found, strict=True)]
        news = [one for one in made if one[2].same_as != one[0].decided]
        if news:
            new = [_new_decision(state.lane, facts, decision) for state, facts, decision in news]
            numbers = await self._store.write(lambda: routes.add_decisions(new))
            for (state, _, decision), number in zip(news, numbers, strict=True):
                state.decision_id, state.decided = number, decision.same_as
        for state, facts, decision in made:
            ends = [one.until for one in decision.judged if one.until is not None and one.until > facts.at]
            state.until_us = min(ends, default=None)
            state.reasons = frozenset(one.reason.value for one in decision.judged)
        return [decision for _, _, decision in made]


def _new_decision(lane: Lane, facts: Facts, decision: Decision) -> routes.NewDecision:
    return routes.NewDecision(
        lane.account_id,
        lane.lane_id,
        msgspec.json.encode(facts).decode(),
        msgspec.json.encode(decision).decode(),
        hashlib.blake2b(repr(decision.same_as).encode(), digest_size=16).hexdigest(),
        facts.at,
    )


def load_decision(account_id: AccountId, decision_id: int) -> Work[tuple[Facts, Decision] | None]:
    """A stored decision; `decide` on its facts gives the same answer."""
    found = yield from routes.get_decision(account_id, decision_id)
    if found is None:
        return None
    facts, decision = found
    return msgspec.json.decode(facts, type=Facts), msgspec.json.decode(decision, type=Decision)
