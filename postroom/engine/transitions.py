"""What an outcome does to its delivery: the state machine, pure.

`core.message` draws it. Everything here is a function of the attempt's outcome, the delivery's counters
and the policy; `engine.settle` writes the answer down.
"""

from __future__ import annotations

import msgspec

from postroom.clock import MICROS
from postroom.core.event import EventKind
from postroom.core.message import DeliveryState, Purpose, withdrawn_state
from postroom.engine.retry import Policy, next_attempt_us
from postroom.ids import AttemptId, DeliveryId
from postroom.transports.interface import Fault, Outcome, Phase, Result


class DeliveryFacts(msgspec.Struct, frozen=True):
    """What the transition depends on."""

    delivery_id: DeliveryId
    purpose: Purpose
    accepted_us: int
    due_us: int
    tries: int
    resends: int
    crashes: int
    copies: int = 0


class Transition(msgspec.Struct, frozen=True):
    """Where the delivery goes. `due_us` is set for ready and unknown."""

    state: DeliveryState
    reason: str
    due_us: int | None = None
    tries: int = 0
    resends: int = 0
    crashes: int = 0
    event: EventKind | None = None
    same_connection_first: bool = False


def uses_room(outcome: Outcome) -> bool:
    """Whether an attempt counts under the caps: its body was begun, whatever came after."""
    return outcome.begun or outcome.result in (Result.SENT, Result.UNKNOWN)


def after(
    outcome: Outcome,
    facts: DeliveryFacts,
    policy: Policy,
    now_us: int,
    attempt: AttemptId,
    *,
    can_tell: bool = False,
) -> Transition:
    """Where a claimed delivery goes when its newest attempt ended so.

    can_tell: the way it went can be asked later what became of it.
    """
    tries, resends, crashes = facts.tries, facts.resends, facts.crashes
    if outcome.result is Result.SENT:
        return Transition(DeliveryState.SENT, outcome.text, None, tries, resends, crashes, EventKind.SENT)
    if outcome.result is Result.BOUNCED:
        return Transition(
            DeliveryState.BOUNCED, outcome.text, None, tries, resends, crashes, EventKind.BOUNCED
        )
    if outcome.result is Result.HELD:
        return Transition(DeliveryState.HELD, outcome.text, None, tries, resends, crashes, EventKind.HELD)
    if takes_a_step(outcome):
        tries += 1
        jitter = (attempt * 0x9E3779B1 % 2**32) / 2**32  # the same unit run twice gives the same time
        due = next_attempt_us(policy, facts.purpose, tries, facts.accepted_us, now_us, jitter)
        if due is None:
            text = f"given up after {tries} tries: {outcome.text}"
            return Transition(DeliveryState.BOUNCED, text, None, tries, resends, crashes, EventKind.BOUNCED)
        return Transition(DeliveryState.READY, outcome.text, due, tries, resends, crashes, EventKind.DEFERRED)
    if outcome.result is Result.UNKNOWN:
        return _after_unknown(outcome.text, facts, policy, now_us, can_tell)
    return Transition(DeliveryState.READY, outcome.text, facts.due_us, tries, resends, crashes)


def takes_a_step(outcome: Outcome) -> bool:
    """Whether it is a step of the retry schedule, which depends on the delivery's age: refused for now, or
    broken off in the body. That is the way out's trouble, but the room is used up; a message that always
    breaks its peer would be tried without end, and eat the cap. An API that answers it is throttled is
    heard: that is about the way out alone."""
    broke = outcome.begun and outcome.phase is not Phase.DONE and outcome.fault is Fault.CONNECTION
    return outcome.result is Result.DEFERRED or (outcome.result is Result.RETURNED and broke)


def _after_unknown(
    text: str, facts: DeliveryFacts, policy: Policy, now_us: int, can_tell: bool
) -> Transition:
    """Transactional mail is sent again after a wait, at most twice; what is not waits for evidence where
    its connection can tell, and else ends here."""
    tries, resends, crashes = facts.tries, facts.resends, facts.crashes
    if facts.purpose is Purpose.TRANSACTIONAL and resends < policy.unknown_resends:
        due = now_us + int(policy.unknown_wait_s * MICROS)
        return Transition(DeliveryState.UNKNOWN, text, due, tries, resends, crashes, EventKind.UNKNOWN)
    if can_tell:
        due = now_us + int(policy.unknown_hold_s * MICROS)
        return Transition(DeliveryState.UNKNOWN, text, due, tries, resends, crashes, EventKind.UNKNOWN)
    return Transition(DeliveryState.UNVERIFIED, text, None, tries, resends, crashes, EventKind.UNVERIFIED)


def after_unknown_wait(facts: DeliveryFacts, policy: Policy, now_us: int) -> Transition:
    """An unknown whose wait is over without evidence."""
    if facts.purpose is Purpose.TRANSACTIONAL and facts.resends < policy.unknown_resends:
        return Transition(
            DeliveryState.READY,
            f"sent again after an unknown outcome ({facts.resends + 1} of {policy.unknown_resends})",
            now_us,
            facts.tries,
            facts.resends + 1,
            facts.crashes,
            None,
            same_connection_first=True,
        )
    text = "no evidence of what became of it"
    return Transition(
        DeliveryState.UNVERIFIED, text, None, facts.tries, facts.resends, facts.crashes, EventKind.UNVERIFIED
    )


def after_crash(facts: DeliveryFacts) -> Transition:
    """Its worker died between composing and the final dot.

    Twice is suspicious: from then on it is composed alone, in a limited child process, and only that
    child's death holds it. So neither does poison stop the rest, nor does a machine that is killed
    often hold what is innocent.
    """
    crashes = min(facts.crashes + 1, CRASHES_TO_ISOLATE)
    return Transition(DeliveryState.READY, WORKER_DIED, facts.due_us, facts.tries, facts.resends, crashes)


def after_cancel(facts: DeliveryFacts, *, unsure: bool = False) -> Transition:
    """Stopped on its way out because its message was cancelled; unsure: too late, perhaps."""
    state = withdrawn_state(copies=facts.copies, resends=facts.resends + unsure)
    event = EventKind.UNVERIFIED if state is DeliveryState.UNVERIFIED else EventKind.CANCELLED
    return Transition(state, "cancelled", None, facts.tries, facts.resends, facts.crashes, event)


def after_overtaken(facts: DeliveryFacts) -> Transition:
    """Stopped before its dot because an earlier try turned out to have been sent."""
    text = "an earlier try was sent after all"
    return Transition(DeliveryState.SENT, text, None, facts.tries, facts.resends, facts.crashes)


CRASHES_TO_ISOLATE = 2
WORKER_DIED = "the worker died before the final dot"


def outcome_without_record(*, dot: bool, trusted: bool) -> Outcome:
    """What we take for the outcome of an open attempt of a dead worker that left no `O`.

    dot: its journal has the `D`. trusted: absence of a `D` proves that nothing left.
    """
    if dot or not trusted:
        text = "the worker died at the final dot" if dot else "the worker and its journal were lost"
        return Outcome(Result.UNKNOWN, Fault.OURS, Phase.DOT, text=text, begun=True, session_usable=False)
    return Outcome(Result.RETURNED, Fault.OURS, Phase.CONNECT, text=WORKER_DIED, session_usable=False)
