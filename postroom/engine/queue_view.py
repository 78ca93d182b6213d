"""What waits to be sent, lane by lane, with what it waits for and the room of the connections it may take.

Counts and decisions come from the database as it is now; what backs off, how many sessions are open and what
a full cap waits for, only the running engine knows. Without one the stored facts speak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from postroom.actions.context import Context
from postroom.actions.pauses import list_pauses, name_of
from postroom.clock import to_iso
from postroom.engine.dispatcher import Dispatcher, speaks
from postroom.engine.presence import somebody_delivers
from postroom.engine.reasons import next_steps, waits_for
from postroom.engine.router import FRESH, load_facts
from postroom.engine.routing import Facts, decide
from postroom.engine.status import ConnectionStatus, status_of
from postroom.errors import NotFound
from postroom.ids import AccountId, ConnectionId, ServerId
from postroom.storage import queue_counts, room, routes, servers
from postroom.storage.interface import Work, now
from postroom.storage.pauses import Pause
from postroom.storage.queue_counts import LaneCounts
from postroom.storage.routes import Route

MOST_LANES = 100


@dataclass(frozen=True)
class Wanted:
    """What is asked for; None: everything."""

    account_id: AccountId | None = None
    server_id: ServerId | None = None
    connection_id: ConnectionId | None = None


@dataclass(frozen=True)
class LaneTold:
    """One lane. `more`: there is more than was counted. connections: that may send it now, first in rank
    first. waits_for: in a sentence; empty when nothing waits in it. next_steps: commands by which a person
    can let it go on, where nothing may send it now."""

    lane: int
    account: int
    server: int
    purpose: str
    stream: str
    sender: str
    now: int
    later: int
    more: bool
    next_due_at: str | None
    oldest_at: str | None
    claimed: int
    unknown: int
    held: int
    connections: tuple[int, ...]
    waits_for: str
    next_steps: tuple[str, ...]


@dataclass(frozen=True)
class ConnectionTold:
    """One connection that these lanes may take. hour_left, day_left: room now (None: no such cap).

    state: in words, as why it is not used now; `sends` where nothing stands against it. sessions and
    claimed: of the running engine. trouble: what was said when it failed or began to back off.
    """

    connection: int
    label: str
    state: str
    hour_left: int | None
    hourly_cap: int | None
    day_left: int | None
    daily_cap: int | None
    room_comes_back_at: str | None
    sessions: int | None
    claimed: int | None
    backs_off_until: str | None
    trouble: str


@dataclass(frozen=True)
class QueueTold:
    """What waits. lanes_left_out: lanes with less in them that are not shown. `serving`: an engine runs."""

    at: str | None
    serving: bool
    pauses: tuple[Mapping[str, object], ...]
    lanes: tuple[LaneTold, ...]
    lanes_left_out: int
    connections: tuple[ConnectionTold, ...]

    def to_json(self) -> dict[str, object]:
        """As JSON values; times are RFC 3339 in UTC."""
        return asdict(self)


async def show_queue(ctx: Context, dispatcher: Dispatcher | None, wanted: Wanted) -> QueueTold:
    """What waits now. dispatcher: the running engine, if there is one.

    Raises NotFound(server, connection).
    """
    wanted = await ctx.store.read(partial(_narrowed, wanted))
    serving = await somebody_delivers(ctx, dispatcher)
    at_us, counted = await ctx.store.read(partial(_count, wanted))
    told: list[LaneTold] = []
    seen: set[ConnectionId] = set()
    left_out = 0
    for one in counted:
        if len(told) == MOST_LANES:
            left_out += 1
            continue
        facts = await ctx.store.read(partial(_facts, one, dispatcher))
        candidates = {ConnectionId(candidate.connection_id) for candidate in facts.candidates}
        if wanted.connection_id is None or wanted.connection_id in candidates:
            told.append(_lane(one, facts, serving=serving))
            seen |= candidates
    if wanted.connection_id is not None:
        seen = {wanted.connection_id}
    live = {} if dispatcher is None else {c.connection_id: c for c in status_of(dispatcher).connections}
    pauses = await list_pauses(ctx)
    connections = [
        await ctx.store.read(partial(_connection, number, live.get(number), pauses, at_us))
        for number in sorted(seen)
    ]
    return QueueTold(
        at=to_iso(at_us),
        serving=serving,
        pauses=tuple(_pause(one) for one in pauses),
        lanes=tuple(told),
        lanes_left_out=left_out,
        connections=tuple(one for one in connections if one is not None),
    )


def _narrowed(wanted: Wanted) -> Work[Wanted]:
    """To the owner of the connection that is asked for, so that nobody else's lanes are looked at."""
    if wanted.server_id is not None and (yield from servers.account_of(wanted.server_id)) is None:
        raise NotFound("server")
    if wanted.connection_id is not None:
        route = yield from routes.route(wanted.connection_id)
        if route is None or route.deleted:
            raise NotFound("connection")
        server_id = route.server_id if wanted.server_id is None else wanted.server_id
        return Wanted(route.account_id, server_id, wanted.connection_id)
    return wanted


def _count(wanted: Wanted) -> Work[tuple[int, list[LaneCounts]]]:
    at_us = yield from now()
    found = yield from queue_counts.count(at_us, account_id=wanted.account_id, server_id=wanted.server_id)
    return at_us, found


def _facts(one: LaneCounts, dispatcher: Dispatcher | None) -> Work[Facts]:
    health = dispatcher.health_of if dispatcher is not None else lambda _: FRESH
    return load_facts(one.lane, health, speaks)


def _lane(one: LaneCounts, facts: Facts, *, serving: bool) -> LaneTold:
    decision = decide(facts)
    lane = one.lane
    waits = "" if one.first_due_us is None else waits_for(one.first_due_us, facts, decision, serving=serving)
    return LaneTold(
        lane=lane.lane_id,
        account=lane.account_id,
        server=lane.server_id,
        purpose=lane.purpose.value,
        stream=lane.stream,
        sender=lane.sender,
        now=one.now,
        later=one.later,
        more=max(one.now, one.later) >= one.most,
        next_due_at=to_iso(one.first_due_us),
        oldest_at=to_iso(one.oldest_us),
        claimed=one.claimed,
        unknown=one.unknown,
        held=one.held,
        connections=decision.chosen,
        waits_for=waits,
        next_steps=next_steps(facts, decision, lane.server_id) if waits else (),
    )


def _connection(
    number: ConnectionId, live: ConnectionStatus | None, pauses: list[Pause], at_us: int
) -> Work[ConnectionTold | None]:
    route = yield from routes.route(number)
    if route is None or route.deleted:
        return None
    counted = yield from room.counted(route.account_id, number, at_us)
    full = route.hourly_cap is not None and counted.hour >= route.hourly_cap
    return ConnectionTold(
        connection=number,
        label=route.label,
        state=_state(route, live, pauses, at_us),
        hour_left=_left(route.hourly_cap, counted.hour),
        hourly_cap=route.hourly_cap,
        day_left=_left(route.daily_cap, counted.day),
        daily_cap=route.daily_cap,
        room_comes_back_at=to_iso(counted.next_release_us) if full else None,
        sessions=None if live is None else live.busy + live.idle,
        claimed=None if live is None else live.claimed,
        backs_off_until=None if live is None else to_iso(live.backoff_until_us),
        trouble=route.failed_reason or ("" if live is None else live.trouble),
    )


def _left(cap: int | None, used: int) -> int | None:
    return None if cap is None else max(0, cap - used)


def _state(route: Route, live: ConnectionStatus | None, pauses: list[Pause], at_us: int) -> str:
    """All that stands against it, in words."""
    mine = f"connection {route.connection_id}"
    words = [
        ("switched off", not route.enabled),
        ("disabled for its bounces", route.disabled_at is not None),
        ("paused", any(name_of(one) == mine for one in pauses)),
        ("failed", route.failed_at is not None),
        ("held", route.held_until is not None and route.held_until > at_us),
        ("backing off", live is not None and (live.backoff_until_us or 0) > at_us),
    ]
    return ", ".join(word for word, stands in words if stands) or "sends"


def _pause(one: Pause) -> Mapping[str, object]:
    return {
        "what": name_of(one),
        "since": to_iso(one.created_at_us),
        "by": one.actor,
        "reason": one.reason,
    }
