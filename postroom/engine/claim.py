"""The claim: a free, open session takes ready deliveries, with cap room and attempts in one commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import msgspec

from postroom.core.connection import DeliveryMethod
from postroom.core.message import DeliveryState, Purpose, withdrawn_state
from postroom.engine import caps
from postroom.ids import (
    AccountId,
    AttemptId,
    ConnectionId,
    DecisionId,
    DeliveryId,
    LaneId,
    MessageId,
    ServerId,
    WorkerId,
)
from postroom.storage import contents, hot, lanes, quotas, routes
from postroom.storage.interface import NewIds, Rows, Sql, Together, Work


@dataclass(frozen=True)
class Worker:
    """Who claims. A claim under an old epoch is refused."""

    worker_id: WorkerId
    epoch: int


LOWEST = -(1 << 62)  # before anything was ever due


@dataclass(frozen=True)
class Pick:
    """So many of this lane at most, by this routing decision."""

    lane_id: LaneId
    server_id: ServerId
    purpose: Purpose
    sender: str  # "": each mail goes out with its connection's own
    decision_id: DecisionId
    quota: int
    floor_us: int = LOWEST  # begin with what is due then, as long as that is enough


class Claimed(msgspec.Struct, frozen=True):
    """One delivery that this worker holds, with what composing needs."""

    attempt_id: AttemptId
    delivery_id: DeliveryId
    account_id: AccountId
    server_id: ServerId
    message_id: MessageId
    lane_id: LaneId
    connection_id: ConnectionId
    purpose: Purpose
    recipient: str
    sender: str
    from_mailbox: str | None  # the From where the content has none
    content_id: int
    rfc_message_id: str
    accepted_us: int
    crashes: int
    decision_id: DecisionId
    not_before_us: int  # wall time before and after which its daily room is not valid
    deadline_us: int


class Refusal(StrEnum):
    """Why a claim took nothing at all, or with `PAUSED` nothing of some lanes."""

    WORKER_LOST = "worker_lost"  # another holds our epoch: stop everything
    CONNECTION_CHANGED = "connection_changed"  # other settings than the session was opened with
    CONNECTION_OFF = "connection_off"  # switched off, failed, disabled, held or deleted
    PAUSED = "paused"  # by a person: everything, this connection, or the server of one of the lanes


@dataclass
class Claims:
    """What a claim brought."""

    claimed: list[Claimed] = field(default_factory=list)
    ended: int = 0  # suppressed or cancelled instead of claimed
    next_due: dict[LaneId, int | None] = field(default_factory=dict)  # of lanes that ran short; None: empty
    reached: dict[LaneId, tuple[int, bool]] = field(default_factory=dict)  # due of the last; from the lowest?
    cap: caps.CapState | None = None
    bodies: dict[int, bytes] = field(default_factory=dict)  # contents as stored, of what was not known
    moved: dict[LaneId, int] = field(default_factory=dict)  # to these lanes so many, for their From
    out_of_room: bool = False  # bulk or all of it; `cap` has the numbers
    refusal: Refusal | None = None


# Whether we still are who we are, the connection as it stands now, and what a person paused.
_LOOK = """
SELECT w.epoch, c.connection_id, c.enabled, c.connection_failed_at, c.disabled_at, c.held_until, c.deleted_at,
       c.version, c.hourly_cap, c.daily_cap, c.for_transactional, c.sender, c.delivery_method,
       EXISTS (SELECT 1 FROM pauses p WHERE p.account_id IN (0, :account_id)
               AND (p.scope = 'all' OR (p.scope = 'connection' AND p.target_id = :connection_id))),
       (SELECT COUNT(*) FROM pauses p WHERE p.account_id = :account_id AND p.scope = 'server')
FROM workers w
LEFT JOIN connections c ON c.account_id = :account_id AND c.connection_id = :connection_id
WHERE w.worker_id = :worker_id
"""
# Until the claim is committed nobody can raise our epoch; the weakest lock, so that our own renewal can pass.
# A statement of its own: what waited for a lock still sees the pauses of before.
_HOLD_EPOCH = "SELECT 1 FROM workers WHERE worker_id = :worker_id"
_LOCK_EPOCH = " FOR KEY SHARE"
_SERVERS_PAUSED = "SELECT target_id FROM pauses WHERE account_id = :account_id AND scope = 'server'"
SUPPRESSED_LATE = "the address was suppressed while the message waited"


def claim(
    worker: Worker,
    account_id: AccountId,
    connection_id: ConnectionId,
    version: int,
    picks: Sequence[Pick],
    wanted: int,
    known: Container[int] | None = (),
    latest_us: Callable[[], int] | None = None,
) -> Work[Claims]:
    """Take up to `wanted` deliveries of these lanes, in this order, for sessions that are open now.

    account_id: the connection's. version: of the settings its sessions were opened with. known: contents
    that need not be read (None: all); the others come with the claim, since a look of its own costs more.
    latest_us: what the database's clock may say at most. Raises caps.ClockWasSet.
    """
    claims = Claims()
    whose = {"account_id": account_id, "connection_id": connection_id}
    yield Sql(_HOLD_EPOCH, {"worker_id": worker.worker_id}, _LOCK_EPOCH)
    rows, locked, (attempts,) = yield Together(
        (
            Sql(_LOOK, {**whose, "worker_id": worker.worker_id}),
            caps.lock(account_id, connection_id),
            NewIds((("attempts", wanted),)),
        )
    )
    if not rows or rows[0][0] != worker.epoch:
        claims.refusal = Refusal.WORKER_LOST
        return claims
    if rows[0][1] is None:
        claims.refusal = Refusal.CONNECTION_OFF
        return claims
    enabled, failed, disabled, held, deleted, stored_version, hourly, daily, transactional, own, method = (
        rows[0][2:13]
    )
    paused, servers_paused = rows[0][13:]
    state = yield from caps.read(
        locked, account_id, connection_id, hourly, daily, bool(transactional), latest_us
    )
    if method == DeliveryMethod.API:
        quota = yield from quotas.get(account_id, connection_id)
        if quota is not None and quota.left is not None:
            state = replace(state, quota_room=quota.left)
    claims.cap = state
    if not enabled or failed or disabled or deleted or (held and held > state.at_us):
        claims.refusal = Refusal.CONNECTION_OFF
        return claims
    if stored_version != version:
        claims.refusal = Refusal.CONNECTION_CHANGED
        return claims
    if paused:
        claims.refusal = Refusal.PAUSED
        return claims
    stopped: set[int] = set()
    if servers_paused:
        rows = yield Sql(_SERVERS_PAUSED, {"account_id": account_id})
        stopped = {row[0] for row in rows}
    taker = _Taker(worker, account_id, connection_id, state, claims, own, attempts)
    for pick in picks:
        if pick.server_id in stopped:
            claims.refusal = Refusal.PAUSED  # of this lane; the others go on
            continue
        if taker.count >= wanted:
            break
        yield from taker.take(pick, min(pick.quota, wanted - taker.count))
    yield from taker.finish(known)
    if claims.claimed and state.quota_room != caps.UNCAPPED:
        yield from quotas.grant(account_id, connection_id, len(claims.claimed))
    if claims.out_of_room:
        # Also when this claim took the last of it: the next look comes with the next room, not later.
        release = yield from caps.next_release(account_id, connection_id)
        claims.cap = replace(state, next_release_us=release)
    return claims


class _Taker:
    """Takes from one lane after another, within the room; what is written for them is written at once."""

    def __init__(
        self,
        worker: Worker,
        account_id: AccountId,
        connection_id: ConnectionId,
        state: caps.CapState,
        claims: Claims,
        own_mailbox: str | None,
        attempts: Sequence[int],
    ):
        """attempts: numbers for those it makes."""
        self._worker, self._account_id, self._connection_id = worker, account_id, connection_id
        self._state, self._claims, self._own_mailbox = state, claims, own_mailbox
        self._attempts = attempts
        self._going: list[tuple[Pick, Rows]] = []
        self._taken: list[dict[str, object]] = []  # keys of `ready`
        self._short: list[LaneId] = []  # lanes that have no more now
        self.count = 0  # taken to be claimed

    def take(self, pick: Pick, n: int) -> Work[None]:
        claims, state = self._claims, self._state
        transactional = pick.purpose is Purpose.TRANSACTIONAL
        room = state.room(transactional=transactional) - self.count
        if room < n:
            claims.out_of_room = True
        if state.closing:
            room, claims.out_of_room = 0, True  # the last seconds of a day grant nothing
        n = min(n, room)
        if n <= 0:
            return
        wanted = {"account_id": self._account_id, "lane_id": pick.lane_id, "now": state.at_us, "n": n}
        floor_us = pick.floor_us
        rows = yield Sql(hot.READY_OF_LANE, {**wanted, "floor": floor_us}, hot.LOCK_READY)
        if len(rows) < n and floor_us != LOWEST:
            # That a lane has no more is only ever said of all of it; what was read is read once more.
            floor_us = LOWEST
            rows = yield Sql(hot.READY_OF_LANE, {**wanted, "floor": floor_us}, hot.LOCK_READY)
        if len(rows) == n:
            claims.reached[pick.lane_id] = rows[-1][8], floor_us == LOWEST
        else:
            self._short.append(pick.lane_id)
        self._taken += [
            {"account_id": row[1], "lane_id": pick.lane_id, "due": row[8], "delivery_id": row[0]}
            for row in rows
        ]
        for ending, stopped, text in (
            (DeliveryState.CANCELLED, [row for row in rows if row[14]], "its server was deleted"),
            (DeliveryState.SUPPRESSED, [row for row in rows if row[13] and not row[14]], SUPPRESSED_LATE),
        ):
            if stopped:
                yield from self._end(stopped, pick.lane_id, ending, text)
        going: Rows = [row for row in rows if not row[13] and not row[14]]
        if not pick.sender:
            going = yield from self._with_own_sender(going, pick)
        if going:
            self._going.append((pick, going))
            self.count += len(going)

    def finish(self, known: Container[int] | None) -> Work[None]:
        """Write down what was taken, fetch its contents but the known ones, and look when the lanes that ran
        short have something again."""
        # What was read is deleted; the next is what comes after it.
        short = [
            {"account_id": self._account_id, "lane_id": lane_id, "now": self._state.at_us}
            for lane_id in self._short
        ]
        claimed = self._claimed()
        lacking = {
            one.content_id: one.account_id
            for one in claimed
            if known is not None and one.content_id not in known
        }
        _, later, found, *_ = yield Together(
            (
                Sql(hot.DELETE_READY, self._taken),
                Sql(hot.NEXT_DUE, short),
                contents.look(lacking),
                *(self._writing(claimed) if claimed else ()),
            )
        )
        self._claims.next_due = dict.fromkeys(self._short) | {row[0]: row[1] for row in later}
        self._claims.claimed = claimed
        self._claims.bodies = contents.bodies_of(found)

    def _with_own_sender(self, rows: Rows, pick: Pick) -> Work[Rows]:
        """Of mail that named no From: what goes out with this connection's, which is theirs from now on.

        What another connection's first claim gave a From moves to that From's lane.
        """
        mailbox, own = self._own_mailbox, routes.own_sender(self._own_mailbox)
        account = rows[0][1] if rows else 0
        fresh = {row[3] for row in rows if not row[12]}
        if fresh:
            fixed = yield Sql(
                hot.FIX_SENDER,
                [
                    {"account_id": account, "message_id": one, "sender": own, "mailbox": mailbox}
                    for one in sorted(fresh)
                ],
            )
            rows = yield from self._as_fixed(rows, fresh - {row[0] for row in fixed})
        staying = [(*row[:12], own, *row[13:15], row[15] or mailbox) for row in rows if row[12] in ("", own)]
        for sender in sorted({row[12] for row in rows} - {"", own}):
            moving = [row for row in rows if row[12] == sender]
            lane_id = yield from lanes.sister(pick.lane_id, sender)
            yield Sql(
                hot.MOVE_DELIVERY,
                [{"lane_id": lane_id, "account_id": account, "delivery_id": row[0]} for row in moving],
            )
            yield Sql(
                hot.INSERT_READY,
                [
                    {"account_id": account, "lane_id": lane_id, "due": row[8], "delivery_id": row[0]}
                    for row in moving
                ],
            )
            self._claims.moved[lane_id] = self._claims.moved.get(lane_id, 0) + len(moving)
        return staying

    def _as_fixed(self, rows: Rows, by_others: Collection[int]) -> Work[Rows]:
        """With the From that the claims of other connections gave these messages at this moment."""
        now: dict[int, tuple[str, str | None]] = {}
        for message_id in sorted(by_others):
            found = yield Sql(hot.SENDER_OF, {"account_id": self._account_id, "message_id": message_id})
            now[message_id] = found[0][0], found[0][1]
        return [
            row if row[3] not in now else (*row[:12], now[row[3]][0], *row[13:15], now[row[3]][1], *row[16:])
            for row in rows
        ]

    def _claimed(self) -> list[Claimed]:
        state = self._state
        going = [(pick, row) for pick, rows in self._going for row in rows]
        return [
            Claimed(
                attempt_id=AttemptId(attempt),
                delivery_id=row[0],
                account_id=row[1],
                server_id=row[2],
                message_id=row[3],
                lane_id=pick.lane_id,
                connection_id=self._connection_id,
                purpose=pick.purpose,
                recipient=row[4],
                sender=row[12],
                from_mailbox=row[15],
                content_id=row[9],
                rfc_message_id=row[10],
                accepted_us=row[11],
                crashes=row[7],
                not_before_us=state.grants_begin_us,
                deadline_us=state.grants_end_us,
                decision_id=pick.decision_id,
            )
            for attempt, (pick, row) in zip(self._attempts[: len(going)], going, strict=True)
        ]

    def _writing(self, claimed: Sequence[Claimed]) -> Sequence[Sql]:
        """Writes these down as ours, and takes room for them."""
        state = self._state
        who = {"worker_id": self._worker.worker_id, "epoch": self._worker.epoch}
        base = {**who, "connection_id": self._connection_id, "day": state.day, "now": state.at_us}
        keys = [
            {"attempt_id": one.attempt_id, "account_id": one.account_id, "delivery_id": one.delivery_id}
            for one in claimed
        ]
        return (
            Sql(
                hot.INSERT_ATTEMPT,
                [
                    {**base, **key, "decision_id": one.decision_id}
                    for key, one in zip(keys, claimed, strict=True)
                ],
            ),
            Sql(hot.CLAIM_DELIVERY, [{**who, **key} for key in keys]),
            *caps.hold(self._account_id, self._connection_id, state, len(claimed)),
        )

    def _end(self, rows: Rows, lane_id: LaneId, ending: DeliveryState, text: str) -> Work[None]:
        """Suppressed, or its server deleted, since it was accepted: ends here and uses no room.

        What went out once, or may have, is not called either: sending it again is what ends.
        """
        now = self._state.at_us
        ended = [(row, _ended_as(row, ending)) for row in rows]
        yield Sql(
            hot.SETTLE_DELIVERY,
            [
                {
                    "state": state.value,
                    "due": row[8],
                    "tries": row[5],
                    "resends": row[6],
                    "crashes": row[7],
                    "copies": 0,
                    "lane_id": lane_id,
                    "settled_at": now,
                    "reason": text,
                    "account_id": row[1],
                    "delivery_id": row[0],
                }
                for row, state in ended
            ],
        )
        yield Sql(
            hot.INSERT_EVENT,
            [
                {
                    "account_id": row[1],
                    "server_id": row[2],
                    "message_id": row[3],
                    "delivery_id": row[0],
                    "connection_id": None,
                    "kind": (ending if state is DeliveryState.SENT else state).value,
                    "at": now,
                    "data": "{}",
                }
                for row, state in ended
            ],
        )
        self._claims.ended += len(rows)


def _ended_as(row: Sequence[Any], ending: DeliveryState) -> DeliveryState:  # Any: a driver's row
    state = withdrawn_state(copies=row[16], resends=row[6])
    return ending if state is DeliveryState.CANCELLED else state
