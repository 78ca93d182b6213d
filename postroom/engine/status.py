"""What the running engine is doing at this moment, as plain values: for metrics, notices and `postroom top`.

Everything here is read out of memory, costs nothing while nobody asks, and says nothing of the database;
`engine.figures` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.engine.dispatcher import Dispatcher
from postroom.engine.lanes import LaneState
from postroom.engine.runner import Runner
from postroom.ids import AccountId, ConnectionId, ServerId


class Off(StrEnum):
    """Why a connection is not used now; several may stand at once."""

    SWITCHED_OFF = "switched_off"  # by its owner
    FAILED = "failed"
    DISABLED = "disabled"  # for its bounce rate
    HELD = "held"  # ten equal refusals
    BACKING_OFF = "backing_off"
    PAUSED = "paused"  # by a person


@dataclass(frozen=True)
class ConnectionStatus:
    """One connection. full_until_us: its cap lets nothing of some kind of mail through until then."""

    connection_id: ConnectionId
    account_id: AccountId
    server_id: ServerId | None
    label: str
    off: tuple[Off, ...]
    busy: int
    idle: int
    opening: int
    claimed: int  # deliveries claimed and not yet settled
    hourly_cap: int | None
    daily_cap: int | None
    full_until_us: int | None
    backoff_until_us: int | None
    trouble: str  # what it backs off for


@dataclass(frozen=True)
class EngineStatus:
    """The engine of this process."""

    running: bool
    fenced: bool
    epoch: int
    unsettled: int
    journal_bytes: int
    grants_pause_s: float
    lanes_waiting: int  # with something due and nothing that may send it
    connections: tuple[ConnectionStatus, ...]


def status_of(engine: Dispatcher) -> EngineStatus:
    """As it is now."""
    now_us = engine.clock.now_us()
    return EngineStatus(
        running=engine.running,
        fenced=engine.fenced,
        epoch=engine.epoch,
        unsettled=engine.open_attempts,
        journal_bytes=engine.journal_bytes,
        grants_pause_s=engine.grants_pause_s,
        lanes_waiting=sum(bool(waits_for(lane, now_us)) for lane in engine.lanes.values()),
        connections=tuple(
            _connection(runner, now_us)
            for _, runner in sorted(engine.runners.items())
            if not runner.route.deleted
        ),
    )


def _connection(runner: Runner, now_us: int) -> ConnectionStatus:
    route = runner.route
    full = [one for one in (runner.room.bulk_until, runner.room.all_until) if one and one > now_us]
    return ConnectionStatus(
        connection_id=route.connection_id,
        account_id=route.account_id,
        server_id=route.server_id,
        label=route.label,
        off=kinds_of_off(runner, now_us),
        busy=runner.sessions.busy,
        idle=len(runner.sessions) - runner.sessions.busy,
        opening=runner.opening,
        claimed=runner.outstanding,
        hourly_cap=route.hourly_cap,
        daily_cap=route.daily_cap,
        full_until_us=max(full, default=None),
        backoff_until_us=runner.troubles.backoff_until_us if runner.troubles.backing_off else None,
        trouble=runner.troubles.last_text if runner.troubles.backing_off else "",
    )


def kinds_of_off(runner: Runner, now_us: int) -> tuple[Off, ...]:
    """Everything that stands against a connection now."""
    route = runner.route
    stands = {
        Off.SWITCHED_OFF: not route.enabled,
        Off.FAILED: route.failed_at is not None,
        Off.DISABLED: route.disabled_at is not None,
        Off.HELD: route.held_until is not None and route.held_until > now_us,
        Off.BACKING_OFF: runner.troubles.backing_off,
        Off.PAUSED: runner.paused,
    }
    return tuple(kind for kind, does in stands.items() if does)


def waits_for(lane: LaneState, now_us: int) -> tuple[str, ...]:
    """Why a lane's mail does not go: reasons of routing; empty: something may send it, or nothing is due."""
    if lane.paused:
        return ("paused",)
    if not lane.has_work(now_us) or lane.chosen:
        return ()
    if lane.stale and lane.decided is None:
        return ("being decided",)
    return tuple(sorted(lane.reasons)) or ("no_connection",)
