"""Why each delivery went where it went, or what it waits for: from what was stored when it happened.

Every attempt names the decision it was made under, and that decision holds a verdict for each candidate,
from the closed list of `routing.Reason`. What waits is judged anew, with the same pure function, on the
facts of this moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from postroom.actions.context import Context
from postroom.actions.messages import Seen, show_message
from postroom.clock import MICROS, to_iso
from postroom.core.message import FINAL_STATES, DeliveryState
from postroom.core.server import Owner
from postroom.engine.caps import UNCAPPED
from postroom.engine.dispatcher import Dispatcher, speaks
from postroom.engine.presence import somebody_delivers
from postroom.engine.reasons import (
    MEANING,
    candidate_of,
    next_step,
    next_steps,
    pause_behind,
    paused_by,
    waits_for,
)
from postroom.engine.router import FRESH, Health, load_decision, load_facts
from postroom.engine.routing import Facts, Judged, Reason, decide
from postroom.ids import ConnectionId, LaneId
from postroom.storage import lanes, messages, queue, routes
from postroom.storage.interface import Work
from postroom.storage.messages import StoredAttempt, StoredDelivery
from postroom.storage.queue import ByHand


@dataclass(frozen=True)
class CandidateTold:
    """One candidate's verdict, in the words of the closed list. room: sends its caps permit (None: it has
    none, or that was not asked). next_step: a command, where a person can do something about it now."""

    connection_id: int
    label: str
    reason: str
    meaning: str
    until: str | None = None
    room: int | None = None
    next_step: str | None = None


@dataclass(frozen=True)
class AttemptTold:
    """One try: through which connection, how far it came, what was answered, and why not another."""

    attempt: int
    connection_id: int
    connection: str
    started_at: str | None
    ended_at: str | None
    seconds: float | None
    result: str
    fault: str
    phase: str
    code: int
    enhanced: str
    text: str
    remote_id: str
    signed: str
    decision: int
    others: tuple[CandidateTold, ...]


@dataclass(frozen=True)
class ActTold:
    """What a person did to a delivery: released, retried, resent, or settled as sent or bounced."""

    did: str
    by: str
    at: str | None


@dataclass(frozen=True)
class DeliveryTold:
    """One recipient's delivery."""

    delivery: int
    recipient: str
    kind: str
    state: str
    reason: str
    next_try_at: str | None
    settled_at: str | None
    copies: int
    attempts: tuple[AttemptTold, ...]
    by_hand: tuple[ActTold, ...] = ()
    waits_for: str | None = None
    next_steps: tuple[str, ...] = ()
    candidates: tuple[CandidateTold, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """The whole story of a message."""

    message_id: int
    public_id: str
    server_id: int
    origin: str
    purpose: str
    stream: str
    sender: str
    subject: str
    rfc_message_id: str
    captured: bool
    accepted_at: str | None
    deliveries: tuple[DeliveryTold, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, object]:
        """As JSON values; times are RFC 3339 in UTC."""
        return asdict(self)


async def explain(ctx: Context, dispatcher: Dispatcher | None, owner: Owner, text: str) -> Explanation:
    """Explain a message by its number, public id or Message-ID.

    dispatcher: the running engine, which also knows what backs off; without it only stored facts speak.
    Raises NotFound.
    """
    seen = await show_message(ctx, owner, text)
    message = seen.message
    acts = await ctx.store.read(
        lambda: queue.by_hand(message.account_id, message.message_id, message.content_id)
    )
    serving = await somebody_delivers(ctx, dispatcher)
    told = [
        await ctx.store.read(partial(_delivery, one, message.content_id, acts, dispatcher, serving))
        for one in seen.deliveries
    ]
    return _explanation(seen, tuple(told))


def _explanation(seen: Seen, deliveries: tuple[DeliveryTold, ...]) -> Explanation:
    message = seen.message
    return Explanation(
        message_id=message.message_id,
        public_id=message.public_id,
        server_id=message.server_id,
        origin=message.origin,
        purpose=message.purpose.value,
        stream=message.stream,
        sender=message.sender,
        subject=message.subject,
        rfc_message_id=message.rfc_message_id,
        captured=message.captured,
        accepted_at=to_iso(message.created_at_us),
        deliveries=deliveries,
    )


def _delivery(
    delivery: StoredDelivery,
    content_id: int,
    acts: Sequence[ByHand],
    dispatcher: Dispatcher | None,
    serving: bool,
) -> Work[DeliveryTold]:
    attempts: list[AttemptTold] = []
    for attempt in (yield from messages.attempts(delivery.account_id, delivery.delivery_id, content_id)):
        told = yield from _attempt(delivery, attempt)
        attempts.append(told)
    waiting = _Waiting(None)
    if delivery.state not in FINAL_STATES:
        waiting = yield from _waiting(delivery, dispatcher, serving)
    return DeliveryTold(
        delivery=delivery.delivery_id,
        recipient=delivery.recipient,
        kind=delivery.kind,
        state=delivery.state.value,
        reason=delivery.reason,
        next_try_at=to_iso(delivery.due_us) if delivery.state is DeliveryState.READY else None,
        settled_at=to_iso(delivery.settled_at_us),
        copies=delivery.copies,
        attempts=tuple(attempts),
        by_hand=tuple(
            ActTold(one.kind.value, one.by, to_iso(one.at_us))
            for one in acts
            if one.delivery_id == delivery.delivery_id
        ),
        waits_for=waiting.waits_for,
        next_steps=waiting.next_steps,
        candidates=waiting.candidates,
    )


def _attempt(delivery: StoredDelivery, attempt: StoredAttempt) -> Work[AttemptTold]:
    stored = yield from load_decision(delivery.account_id, attempt.decision_id)
    others: tuple[CandidateTold, ...] = ()
    label = ""
    if stored is not None:
        facts, decision = stored
        taken = candidate_of(facts, attempt.connection_id)
        label = taken.label if taken is not None else ""
        others = tuple(
            _candidate(one, facts) for one in decision.judged if one.connection_id != attempt.connection_id
        )
    if not label:
        route = yield from routes.route(attempt.connection_id)
        label = route.label if route is not None else ""
    ended = attempt.ended_at_us
    return AttemptTold(
        attempt=attempt.attempt_id,
        connection_id=attempt.connection_id,
        connection=label,
        started_at=to_iso(attempt.granted_at_us),
        ended_at=to_iso(ended),
        seconds=None if ended is None else round((ended - attempt.granted_at_us) / MICROS, 3),
        result=attempt.result or "under way",
        fault=attempt.fault,
        phase=attempt.phase,
        code=attempt.code,
        enhanced=attempt.enhanced,
        text=attempt.reply,
        remote_id=attempt.remote_id,
        signed=attempt.signed,
        decision=attempt.decision_id,
        others=others,
    )


def _candidate(judged: Judged, facts: Facts) -> CandidateTold:
    paused = pause_behind(judged, facts)
    candidate = candidate_of(facts, judged.connection_id)
    return CandidateTold(
        connection_id=judged.connection_id,
        label=candidate.label if candidate is not None else "",
        reason=judged.reason.value,
        meaning=MEANING[judged.reason] + (f": {paused_by(paused)}" if paused is not None else ""),
        until=to_iso(judged.until),
        room=None if judged.room == UNCAPPED else judged.room,
    )


@dataclass(frozen=True)
class _Waiting:
    """What it waits for, in a sentence; what a person can do; every candidate as routing judges it now."""

    waits_for: str | None
    next_steps: tuple[str, ...] = ()
    candidates: tuple[CandidateTold, ...] = ()


def _waiting(delivery: StoredDelivery, dispatcher: Dispatcher | None, serving: bool) -> Work[_Waiting]:
    if delivery.state is DeliveryState.CAPTURED:
        release = f"postroom message release {delivery.message_id}"
        return _Waiting(f"`{release}`: nothing could leave when it was accepted", (release,))
    if delivery.state is DeliveryState.HELD:
        return _Waiting("a person: " + delivery.reason)
    if delivery.state is DeliveryState.CLAIMED:
        return _Waiting("the end of its attempt: a worker holds it now")
    if delivery.state is DeliveryState.UNKNOWN:
        return _Waiting("evidence of what became of it, then it ends by the policy of its purpose")
    lane = yield from lanes.get(LaneId(delivery.lane_id))
    if lane is None:
        return _Waiting("its lane")
    facts = yield from load_facts(lane, _health(dispatcher), speaks)
    decision = decide(facts)
    candidates: list[CandidateTold] = []
    for one in decision.judged:
        told = replace(_candidate(one, facts), next_step=next_step(one, facts, lane.server_id))
        told = yield from _trouble_told(told, dispatcher)
        candidates.append(told)
    return _Waiting(
        waits_for(delivery.due_us, facts, decision, serving=serving),
        next_steps(facts, decision, lane.server_id),
        tuple(candidates),
    )


def _trouble_told(one: CandidateTold, dispatcher: Dispatcher | None) -> Work[CandidateTold]:
    """With what made it fail or back off, and when the engine tries it again by itself."""
    connection_id = ConnectionId(one.connection_id)
    health = _health(dispatcher)(connection_id)
    if one.reason == Reason.BACKING_OFF.value and health.trouble:
        return replace(one, meaning=f"{one.meaning}: {health.trouble}")
    if one.reason != Reason.FAILED.value:
        return one
    route = yield from routes.route(connection_id)
    why = route.failed_reason if route is not None else None
    return replace(one, meaning=one.meaning + (f": {why}" if why else ""), until=to_iso(health.next_probe))


def _health(dispatcher: Dispatcher | None) -> Callable[[ConnectionId], Health]:
    return dispatcher.health_of if dispatcher is not None else lambda _: FRESH
