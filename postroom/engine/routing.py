"""Which connections may send a lane's mail: a pure function of facts, with a reason for every other one.

The connections chosen are ranked: mail goes to the first while it has free sessions, and to the next
when that is not enough. Rank: the one whose outcome was unknown (for what is sent again), then the one
with the most unused hourly room, then the lower id. The reasons are a closed list, one row each in
docs/explain.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from postroom.core.message import Form, Purpose
from postroom.ids import ConnectionId


class Reason(StrEnum):
    """Why a connection may not, or why it stands behind another."""

    CHOSEN = "chosen"  # first in rank
    ALSO_ELIGIBLE = "also_eligible"  # may send too; ranked behind, by room
    DELETED = "deleted"
    SWITCHED_OFF = "switched_off"  # by its owner
    FAILED = "failed"  # its login or its test failed, or it had no success for ten minutes
    DISABLED = "disabled"  # for its bounce rate
    PAUSED = "paused"  # by a person, until it is resumed
    SERVER_PAUSED = "server_paused"  # the mail's server is, so no connection may
    ALL_PAUSED = "all_paused"  # everything here is
    HELD = "held"  # ten equal refusals without a success inside a minute
    BACKING_OFF = "backing_off"  # trouble a moment ago; tried again by itself
    REFUSES_SENDER = "refuses_sender"  # the peer refused this From within the hour
    PURPOSE_NOT_ALLOWED = "purpose_not_allowed"  # not switched on for this purpose
    SENDER_NOT_PROVEN = "sender_not_proven"  # nobody vouched for this From
    NO_SENDER = "no_sender"  # the mail names no From and this connection has none of its own
    NO_TRANSPORT = "no_transport"  # its delivery method cannot be spoken here
    NEEDS_PARTS = "needs_parts"  # its API takes no finished message, and this mail is true only as one
    CANNOT_CARRY = "cannot_carry"  # its peer lacks what the message needs (SMTPUTF8, 8BITMIME, size)
    HOUR_FULL = "hour_full"  # no room in this hour's cap (or only what is kept back for transactional)
    DAY_FULL = "day_full"  # no room in today's cap
    QUOTA_FULL = "quota_full"  # the vendor's own quota is used up


class Paused(msgspec.Struct, frozen=True):
    """Who paused something, when (microseconds since 1970), and why in their words."""

    since: int
    by: str
    reason: str


class Candidate(msgspec.Struct, frozen=True):
    """What routing knows of one connection. Times are microseconds since 1970; None: no such trouble."""

    connection_id: int
    label: str
    deleted: bool = False
    enabled: bool = True
    failed_at: int | None = None
    disabled_at: int | None = None
    held_until: int | None = None
    backoff_until: int | None = None
    sender_refused_until: int | None = None
    purposes: tuple[str, ...] = ()
    has_transport: bool = True
    hour_room: int = 0  # for this lane's kind of mail
    day_room: int = 0
    full_until: int | None = None
    lacking_until: int | None = None  # found unable to carry what this lane's mail needs; forgotten then
    own_sender: str = ""  # it alone may write this address in From
    paused: Paused | None = None
    needs_parts: bool = False
    quota_full: bool = False


class Facts(msgspec.Struct, frozen=True):
    """Everything a decision depends on; stored with it, so that it can be replayed."""

    at: int
    purpose: str
    sender: str  # "": that of the connection
    sender_proven: bool
    preferred: int | None
    candidates: tuple[Candidate, ...]
    server_paused: Paused | None = None
    all_paused: Paused | None = None
    form: str = Form.PARTS.value
    needs: tuple[str, ...] = ()


class Judged(msgspec.Struct, frozen=True):
    """One candidate's verdict; `until` says when it ends by itself, `room` the sends it may still make."""

    connection_id: int
    reason: Reason
    until: int | None = None
    room: int | None = None


class Decision(msgspec.Struct, frozen=True):
    """The chosen in order of rank, and a verdict for every candidate."""

    chosen: tuple[int, ...]
    judged: tuple[Judged, ...]

    def reason_for(self, connection_id: int) -> Reason | None:
        """The verdict on one connection, or None when it was no candidate."""
        return next((one.reason for one in self.judged if one.connection_id == connection_id), None)

    @property
    def same_as(self) -> tuple[object, ...]:
        """Two decisions that agree in this need not both be stored."""
        return self.chosen, tuple((one.connection_id, one.reason, one.until) for one in self.judged)


def decide(facts: Facts) -> Decision:
    """Route a lane."""
    judged = {candidate.connection_id: _judge(candidate, facts) for candidate in facts.candidates}
    able = [c for c in facts.candidates if judged[c.connection_id].reason is Reason.ALSO_ELIGIBLE]
    ranked = sorted(able, key=lambda c: (c.connection_id != facts.preferred, -_room(c), c.connection_id))
    if ranked:
        first = ranked[0].connection_id
        judged[first] = Judged(first, Reason.CHOSEN, room=judged[first].room)
    return Decision(tuple(c.connection_id for c in ranked), tuple(judged.values()))


def _room(candidate: Candidate) -> int:
    return min(candidate.hour_room, candidate.day_room)


def _judge(c: Candidate, facts: Facts) -> Judged:
    """The first thing that stands against it; what lasts longest is asked first."""
    now = facts.at
    checks: Sequence[tuple[bool, Reason, int | None]] = (
        (c.deleted, Reason.DELETED, None),
        (facts.purpose not in c.purposes, Reason.PURPOSE_NOT_ALLOWED, None),
        (not facts.sender and not c.own_sender, Reason.NO_SENDER, None),
        (not _may_write(c, facts), Reason.SENDER_NOT_PROVEN, None),
        (not c.has_transport, Reason.NO_TRANSPORT, None),
        (c.needs_parts and facts.form != Form.PARTS, Reason.NEEDS_PARTS, None),
        (_later(c.lacking_until, now), Reason.CANNOT_CARRY, c.lacking_until),
        (not c.enabled, Reason.SWITCHED_OFF, None),
        (c.disabled_at is not None, Reason.DISABLED, None),
        (facts.all_paused is not None, Reason.ALL_PAUSED, None),
        (facts.server_paused is not None, Reason.SERVER_PAUSED, None),
        (c.paused is not None, Reason.PAUSED, None),
        (c.failed_at is not None, Reason.FAILED, None),
        (_later(c.held_until, now), Reason.HELD, c.held_until),
        (_later(c.sender_refused_until, now), Reason.REFUSES_SENDER, c.sender_refused_until),
        (_later(c.backoff_until, now), Reason.BACKING_OFF, c.backoff_until),
        (c.quota_full, Reason.QUOTA_FULL, c.full_until),
        (c.day_room <= 0, Reason.DAY_FULL, c.full_until),
        (c.hour_room <= 0, Reason.HOUR_FULL, c.full_until),
    )
    for stands, reason, until in checks:
        if stands:
            return Judged(c.connection_id, reason, until)
    return Judged(c.connection_id, Reason.ALSO_ELIGIBLE, room=_room(c))


def _may_write(c: Candidate, facts: Facts) -> bool:
    """Whether it may write the From: proven for its server, or its own."""
    return facts.sender_proven or (bool(c.own_sender) and facts.sender in ("", c.own_sender))


def _later(until: int | None, now: int) -> bool:
    return until is not None and until > now


def purposes_of(values: Sequence[Purpose]) -> tuple[str, ...]:
    """In a fixed order, so that equal facts are equal bytes."""
    return tuple(sorted(value.value for value in values))


PAUSES = frozenset({Reason.PAUSED, Reason.SERVER_PAUSED, Reason.ALL_PAUSED})


def connection_ids(decision: Decision) -> tuple[ConnectionId, ...]:
    """The chosen, in order of rank."""
    return tuple(ConnectionId(one) for one in decision.chosen)
