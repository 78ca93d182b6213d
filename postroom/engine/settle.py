"""Settling: outcomes become states, room, events and suppressions, many in one commit.

An outcome is always written to its attempt. Its delivery changes only if this attempt still holds the
claim, or if the news is good: a late *sent* ends a delivery that already waits for another try.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from postroom.core.actor import ENGINE
from postroom.core.event import EventKind
from postroom.core.message import DeliveryState, Form, Purpose
from postroom.core.need import stands_against
from postroom.core.suppression import Origin, Reason
from postroom.engine import caps, evidence
from postroom.engine.refusals import bounced, classify
from postroom.engine.retry import Policy
from postroom.engine.router import needs_parts
from postroom.engine.transitions import (
    DeliveryFacts,
    Transition,
    after,
    after_cancel,
    after_crash,
    after_overtaken,
    takes_a_step,
    uses_room,
)
from postroom.ids import AccountId, AttemptId, ConnectionId, DeliveryId, LaneId, ServerId
from postroom.storage import audit, bounces, clock_steps, hot, lacks, lanes, routes, suppressions
from postroom.storage.interface import Now, Sql, Together, Work
from postroom.storage.lacks import Lack
from postroom.transports.interface import Fault, Outcome, Result

_WOULD_WAIT = frozenset({Result.RETURNED, Result.DEFERRED, Result.UNKNOWN})


class Ended(msgspec.Struct, frozen=True):
    """One attempt that ended, of this account; None: whose it was is only in the database.

    crashed: its worker died with composing begun and no final dot. cancelled: it was stopped because
    its message was cancelled, so if it did not go out, or nobody knows, it does not wait again. overtaken:
    it was stopped because an earlier try of its delivery was sent after all.
    """

    attempt_id: AttemptId
    outcome: Outcome
    account_id: AccountId | None = None
    crashed: bool = False
    cancelled: bool = False
    overtaken: bool = False


def unrecordable(ended: Ended, error: Exception) -> Ended:
    """What to write down instead where the database refuses an outcome: *sent* without its words, and
    anything else as held for a person, with its room used or returned as before."""
    outcome = ended.outcome
    if outcome.result is Result.SENT:
        return replace(ended, outcome=replace(outcome, text="", enhanced="", remote_id=""))
    text = f"its outcome could not be recorded ({type(error).__name__})"
    held = Outcome(Result.HELD, Fault.OURS, outcome.phase, outcome.code, text=text, begun=uses_room(outcome))
    return replace(ended, outcome=held)


@dataclass(frozen=True)
class HeldDelivery:
    """A delivery that waits for a person from now on."""

    account_id: AccountId
    server_id: ServerId
    message_id: int
    delivery_id: DeliveryId
    reason: str


@dataclass
class Settled:
    """What a settle did, for who must know."""

    woken: dict[LaneId, list[int]] = field(default_factory=dict)  # due times of what became ready
    moved: set[LaneId] = field(default_factory=set)  # where something came further than back to its place
    unknown: int = 0
    sender_refused: set[tuple[ConnectionId, str]] = field(default_factory=set)
    held: list[HeldDelivery] = field(default_factory=list)
    lacking: set[tuple[ConnectionId, LaneId]] = field(default_factory=set)  # cannot carry this lane's mail
    unexpected: list[AttemptId] = field(default_factory=list)  # not open: settled before, or never there
    overtaken: set[AttemptId] = field(default_factory=set)  # second tries of what was sent after all

    def add(self, other: Settled) -> None:
        """Join what another settle did."""
        for lane_id, dues in other.woken.items():
            self.woken.setdefault(lane_id, []).extend(dues)
        self.moved |= other.moved
        self.unknown += other.unknown
        self.sender_refused |= other.sender_refused
        self.lacking |= other.lacking
        self.held += other.held
        self.unexpected += other.unexpected
        self.overtaken |= other.overtaken


class _Attempt(msgspec.Struct, frozen=True):
    """A row of hot.OPEN_ATTEMPT."""

    attempt_id: AttemptId
    account_id: AccountId
    delivery_id: DeliveryId
    connection_id: ConnectionId
    day: int
    worker_id: int
    epoch: int
    server_id: ServerId
    message_id: int
    state: str
    newest_attempt_id: AttemptId
    holder_id: int | None
    holder_epoch: int | None
    lane_id: LaneId
    address: str
    tries: int
    resends: int
    crashes: int
    due_us: int
    accepted_us: int
    purpose: str
    sender: str
    copies: int

    @property
    def holds_claim(self) -> bool:
        return (
            self.state == DeliveryState.CLAIMED
            and self.newest_attempt_id == self.attempt_id
            and (self.holder_id, self.holder_epoch) == (self.worker_id, self.epoch)
        )

    @property
    def gave_up(self) -> bool:
        """Its delivery waits for evidence of this very attempt, or was given up for want of it."""
        unsure = self.state in (DeliveryState.UNKNOWN, DeliveryState.UNVERIFIED)
        return unsure and self.newest_attempt_id == self.attempt_id

    @property
    def facts(self) -> DeliveryFacts:
        return DeliveryFacts(
            self.delivery_id,
            Purpose(self.purpose),
            self.accepted_us,
            self.due_us,
            self.tries,
            self.resends,
            self.crashes,
            self.copies,
        )


def settle(ended: Sequence[Ended], policy: Policy) -> Work[Settled]:
    """Write these outcomes down. Safe to run again: what is settled already is left as it is."""
    settled = Settled()
    # Who locks several does so in one order.
    ended = sorted(ended, key=lambda one: one.attempt_id)
    which = yield from _named(ended)
    ((at_us,),), rows = yield Together((Now(), Sql(hot.OPEN_ATTEMPT, which, hot.LOCK_ATTEMPT)))
    batch = _Batch(policy, at_us, settled)
    found = {row[0]: row for row in rows}
    missing = [one for one in which if one["attempt_id"] not in found]
    late: dict[int, Any] = {}
    if missing:
        rows = yield Sql(hot.LOST_ATTEMPT, missing, hot.LOCK_ATTEMPT)
        late = {row[0]: row for row in rows}
    for one in ended:
        if one.attempt_id in found:
            yield from batch.add(one, _Attempt(*found[one.attempt_id]))
        elif one.attempt_id in late:
            yield from batch.add_late(one, _Attempt(*late[one.attempt_id]))
        else:
            settled.unexpected.append(one.attempt_id)
    yield from batch.write()
    return settled


def _named(ended: Sequence[Ended]) -> Work[list[dict[str, int]]]:
    """The attempts by account and number, in that order; none for what is no attempt."""
    accounts: dict[int, int] = {one.attempt_id: one.account_id for one in ended if one.account_id is not None}
    unnamed = [{"attempt_id": one.attempt_id} for one in ended if one.account_id is None]
    if unnamed:
        rows = yield Sql(hot.ACCOUNT_OF_ATTEMPT, unnamed)
        accounts |= {row[0]: row[1] for row in rows}
    return [
        {"account_id": accounts[one.attempt_id], "attempt_id": one.attempt_id}
        for one in ended
        if one.attempt_id in accounts
    ]


class _Batch:
    """Collects what the statements need, so that each runs once for all outcomes."""

    def __init__(self, policy: Policy, at_us: int, settled: Settled) -> None:
        self._policy, self._at_us, self._settled = policy, at_us, settled
        self._usage = caps.Usage()
        self._attempts: list[dict[str, object]] = []
        self._deliveries: list[dict[str, object]] = []
        self._ready: list[dict[str, object]] = []
        self._unknowns: list[dict[str, object]] = []
        self._events: list[dict[str, object]] = []
        self._bounced: list[bounces.Bounced] = []

    def add(self, one: Ended, row: _Attempt) -> Work[None]:
        """One outcome; the rare cases write at once."""
        outcome = one.outcome
        if outcome.lacks and row.holds_claim and not one.cancelled:
            row, outcome = yield from self._carried_by_another(row, outcome)
        transactional = row.purpose == Purpose.TRANSACTIONAL
        self._usage.add(
            row.account_id, row.connection_id, row.day, used=uses_room(outcome), transactional=transactional
        )
        self._attempts.append(_attempt_values(row, outcome, self._at_us))
        if row.holds_claim:
            if one.crashed and outcome.result is Result.RETURNED:
                move = after_crash(row.facts)
            elif one.cancelled and outcome.result in _WOULD_WAIT:
                move = after_cancel(row.facts, unsure=outcome.result is Result.UNKNOWN)
            elif one.overtaken and outcome.result is Result.RETURNED:
                move = after_overtaken(row.facts)
            else:
                facts = row.facts
                if takes_a_step(outcome):  # the only one that asks for its age
                    steps = yield from clock_steps.forward_steps()
                    facts = replace(facts, accepted_us=clock_steps.without_steps(steps, facts.accepted_us))
                can_tell = False
                if outcome.result is Result.UNKNOWN:
                    can_tell = yield from evidence.can_tell(row.account_id, row.connection_id)
                move = after(outcome, facts, self._policy, self._at_us, row.attempt_id, can_tell=can_tell)
            self._move(row, move, outcome)
            if outcome.fault is Fault.SENDER:
                yield from self._refuse_sender(row, outcome)
            if outcome.result is Result.BOUNCED:
                yield from self._suppress(row, outcome)
        elif outcome.result is Result.SENT:
            yield from self._late_sent(row, outcome)

    def add_late(self, one: Ended, row: _Attempt) -> Work[None]:
        """What became of an attempt that was given up as unknown when its worker seemed dead.

        Its room stays used. Known to have been sent, its delivery was; known not to have been, it goes on
        from where it was given up, unless something was done with it since.
        """
        outcome = one.outcome
        if outcome.result is Result.UNKNOWN:
            return
        self._attempts.append(_attempt_values(row, outcome, self._at_us))
        if outcome.result is Result.SENT:
            yield from self._late_sent(row, outcome)
        elif row.gave_up:
            where = {"account_id": row.account_id, "delivery_id": row.delivery_id}
            yield Sql(hot.DELETE_UNKNOWN, {**where, "due": row.due_us})
            if one.cancelled:
                move = after_cancel(row.facts)
            else:
                move = after(outcome, row.facts, self._policy, self._at_us, row.attempt_id)
            self._move(row, move, outcome)

    def _move(self, row: _Attempt, move: Transition, outcome: Outcome) -> None:
        sent = outcome.result is Result.SENT
        if outcome.result is not Result.RETURNED:
            self._settled.moved.add(row.lane_id)
        final = move.state not in (DeliveryState.READY, DeliveryState.UNKNOWN)
        due = self._at_us if move.due_us is None else move.due_us
        if outcome.result is Result.RETURNED:
            due = min(due, self._at_us)  # it was due when it was claimed; the clock may have been set back
        self._deliveries.append(
            {
                "state": move.state.value,
                "due": due,
                "tries": move.tries,
                "resends": move.resends,
                "crashes": move.crashes,
                "copies": int(sent),
                "lane_id": row.lane_id,
                "settled_at": self._at_us if final else None,
                "reason": move.reason,
                "account_id": row.account_id,
                "delivery_id": row.delivery_id,
            }
        )
        if move.state is DeliveryState.READY:
            waiting = {"lane_id": row.lane_id, "due": due, "delivery_id": row.delivery_id}
            self._ready.append({"account_id": row.account_id, **waiting})
            self._settled.woken.setdefault(row.lane_id, []).append(due)
        elif move.state is DeliveryState.UNKNOWN:
            self._settled.unknown += 1
            self._unknowns.append({"due": due, "delivery_id": row.delivery_id, "account_id": row.account_id})
        elif move.state is DeliveryState.HELD:
            self._settled.held.append(
                HeldDelivery(row.account_id, row.server_id, row.message_id, row.delivery_id, move.reason)
            )
        if move.event is not None:
            self._event(row, move.event, outcome)
        if move.event is EventKind.BOUNCED:
            self._bounced.append(bounced(row.account_id, row.delivery_id, outcome))

    def _event(self, row: _Attempt, kind: EventKind, outcome: Outcome) -> None:
        data: dict[str, object] = {"attempt": row.attempt_id}
        if kind is not EventKind.SENT:
            data |= {"phase": outcome.phase.value, "code": outcome.code, "text": outcome.text}
        if kind is EventKind.BOUNCED and outcome.code:
            data["class"] = classify(outcome).bounce_class.value
        self._events.append(
            {
                "account_id": row.account_id,
                "server_id": row.server_id,
                "message_id": row.message_id,
                "delivery_id": row.delivery_id,
                "connection_id": row.connection_id,
                "kind": kind.value,
                "at": self._at_us,
                "data": json.dumps(data, separators=(",", ":")),
            }
        )

    def _late_sent(self, row: _Attempt, outcome: Outcome) -> Work[None]:
        """The first attempt was sent after all: a second one not yet claimed is not needed; one that
        is on its way goes on, and the delivery then shows two copies."""
        where = {"account_id": row.account_id, "delivery_id": row.delivery_id}
        if row.state == DeliveryState.CLAIMED:
            self._settled.overtaken.add(row.newest_attempt_id)
        if row.state in (DeliveryState.CLAIMED, DeliveryState.SENT):
            yield Sql(
                "UPDATE deliveries SET copies = copies + 1"
                " WHERE account_id = :account_id AND delivery_id = :delivery_id",
                where,
            )
            return
        which = {**where, "lane_id": row.lane_id, "due": row.due_us}
        yield Sql(hot.DELETE_READY, which)
        yield Sql(hot.DELETE_UNKNOWN, which)
        self._move(
            row,
            Transition(
                DeliveryState.SENT, outcome.text, None, row.tries, row.resends, row.crashes, EventKind.SENT
            ),
            outcome,
        )

    def _carried_by_another(self, row: _Attempt, outcome: Outcome) -> Work[tuple[_Attempt, Outcome]]:
        """Remember what the peer lacks; where another connection may have it the mail goes there."""
        until = self._at_us + int(self._policy.sender_refusal_s * 1_000_000)
        lack = Lack(row.connection_id, outcome.lacks, until)
        yield from lacks.record(row.account_id, lack, outcome.text)
        lane_id = yield from lanes.needing(row.lane_id, outcome.lacks)
        lane = yield from lanes.get(lane_id)
        assert lane is not None
        known = yield from lacks.of_account(row.account_id, self._at_us)
        without = {one.connection_id for one in known if stands_against(one.need, lane.needs)}
        others = [
            route
            for route in (yield from routes.routes_of(row.account_id, row.server_id))
            if route.connection_id not in without and route.enabled and route.disabled_at is None
            if lane.form is Form.PARTS or not needs_parts(route)
        ]
        self._settled.lacking.add((row.connection_id, lane_id))
        if not any(lane.purpose in route.purposes for route in others):
            return row, outcome
        return replace(row, lane_id=lane_id), replace(outcome, result=Result.RETURNED)

    def _refuse_sender(self, row: _Attempt, outcome: Outcome) -> Work[None]:
        """This connection refuses this From: the pair is set aside for an hour or until something changes."""
        until = self._at_us + int(self._policy.sender_refusal_s * 1_000_000)
        yield Sql(
            "INSERT INTO refused_senders (account_id, connection_id, sender, until, reply)"
            " VALUES (:account_id, :connection_id, :sender, :until, :reply)"
            " ON CONFLICT (connection_id, sender)"
            " DO UPDATE SET until = excluded.until, reply = excluded.reply",
            {
                "account_id": row.account_id,
                "connection_id": row.connection_id,
                "sender": row.sender,
                "until": until,
                "reply": outcome.text,
            },
        )
        self._settled.sender_refused.add((row.connection_id, row.sender))

    def _suppress(self, row: _Attempt, outcome: Outcome) -> Work[None]:
        """A refusal of the recipient of a hard class earns a suppression on all streams of its server."""
        if outcome.fault is not Fault.RECIPIENT or not classify(outcome).suppresses:
            return
        new = yield from suppressions.add(
            row.account_id,
            row.server_id,
            self._at_us,
            [row.address],
            reason=Reason.HARD_BOUNCE,
            origin=Origin.RECIPIENT,
        )
        if new:
            detail = {
                "stream": "all",
                "count": 1,
                "addresses": [row.address],
                "delivery": row.delivery_id,
                "code": outcome.code,
                "text": outcome.text,
            }
            target = f"server {row.server_id}"
            yield from audit.add(row.account_id, self._at_us, ENGINE, "suppression.add", target, detail)

    def write(self) -> Work[None]:
        """Everything that was collected."""
        yield Together(
            (
                Sql(hot.END_ATTEMPT, self._attempts),
                Sql(hot.SETTLE_DELIVERY, self._deliveries),
                Sql(hot.INSERT_READY, self._ready),
                Sql(hot.INSERT_UNKNOWN, self._unknowns),
                Sql(hot.INSERT_EVENT, self._events),
                *caps.settle(self._usage, self._at_us),
            )
        )
        if self._bounced:
            yield from bounces.add_bounced(self._bounced, self._at_us)
        for one in self._settled.held:
            target, detail = f"delivery {one.delivery_id}", {"message": one.message_id, "reason": one.reason}
            yield from audit.add(one.account_id, self._at_us, ENGINE, "delivery.hold", target, detail)


def _attempt_values(row: _Attempt, outcome: Outcome, at_us: int) -> dict[str, object]:
    return {
        "now": at_us,
        "result": outcome.result.value,
        "fault": outcome.fault.value,
        "phase": outcome.phase.value,
        "code": outcome.code,
        "enhanced": outcome.enhanced,
        "reply": outcome.text,
        "remote_id": outcome.remote_id,
        "signed": outcome.signed,
        "account_id": row.account_id,
        "attempt_id": row.attempt_id,
    }
