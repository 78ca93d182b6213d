"""The judge: what was promised against what the sink swears to.

    lost     = accepted - (at the sink, or unverified, or still waiting for room, or cancelled by somebody)
                                                                                       must be 0
    copies   = times the sink took a message (one Message-ID, one recipient) again
    open     = transactions with their final dot out and no reply recorded, at a kill or a drop
               copies + unverified must not be more than these

Second evidence, from the sink alone: a session that lives on has had its reply, so whatever was taken twice
must each time but the last have been the last message of its session.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from drills.beside import Notes
from drills.feed import Told
from postroom.core.message import DeliveryState
from tests.support.sink import SinkRecord, copies

WAITING = (DeliveryState.READY, DeliveryState.CLAIMED, DeliveryState.UNKNOWN)


@dataclass(frozen=True)
class Counts:
    """The numbers of one course."""

    accepted: int
    taken: int  # times the sink took a message
    lost: int
    copies: int
    unverified: int
    open: int
    waiting: int  # for room under a cap, at the end
    not_excused: int  # second copies of what was not the last message of its session
    accepted_twice: int  # recipients that got two messages where one was sent
    sent_unseen: int  # recorded as sent and not at the sink
    lost_answers: int
    cancelled: int = 0
    cancelled_and_sent: int = 0  # recorded as cancelled and at the sink

    def problems(self) -> list[str]:
        """What must not be, one phrase each."""
        found = []
        for count, text in (
            (self.lost, "accepted and lost"),
            (self.not_excused, "sent again although its session had gone on"),
            (self.accepted_twice, "accepted twice"),
            (self.sent_unseen, "recorded as sent and not at the sink"),
            (self.cancelled_and_sent, "recorded as cancelled and at the sink"),
        ):
            if count:
                found.append(f"{count} {text}")
        if self.copies + self.unverified > self.open:
            found.append(
                f"{self.copies} copies + {self.unverified} unverified > {self.open} open transactions"
            )
        return found


def judge(
    records: Sequence[SinkRecord],
    told: Told,
    states: Mapping[str, str],
    opened: int,
    to_cancel: Set[str] = frozenset(),
) -> Counts:
    """Count.

    records: the sink's log. states: of the delivery to each recipient, as the database has them at the end.
    opened: transactions that were open at a kill or a drop. to_cancel: what somebody asked to cancel; what
    is cancelled without having been asked for is lost.
    """
    at_sink = {record.recipient for record in records}
    unverified = {one for one, state in states.items() if state == DeliveryState.UNVERIFIED}
    waiting = {one for one, state in states.items() if state in WAITING}
    cancelled = {one for one, state in states.items() if state == DeliveryState.CANCELLED}
    messages: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        messages[record.recipient].add(record.message_id)
    return Counts(
        accepted=len(told.accepted),
        taken=len(records),
        lost=len(told.accepted - at_sink - unverified - waiting - (cancelled & to_cancel)),
        copies=sum(count - 1 for count in copies(records).values()),
        unverified=len(unverified),
        open=opened,
        waiting=len(waiting),
        not_excused=_not_excused(records),
        accepted_twice=sum(len(ids) - 1 for ids in messages.values()),
        sent_unseen=sum(state == DeliveryState.SENT and one not in at_sink for one, state in states.items()),
        lost_answers=told.lost_answers,
        cancelled=len(cancelled),
        cancelled_and_sent=len(cancelled & at_sink),
    )


def judge_hand(records: Sequence[SinkRecord], notes: Notes, states: Mapping[str, str]) -> list[str]:
    """What must not be of what the hand beside was told: its own troubles, cancels, pauses."""
    found = list(notes.wrong)
    for recipients, holds, text in (
        (notes.cancelled, True, "said to be cancelled"),
        (notes.too_late, False, "said to be too late to cancel"),
    ):
        other = Counter(
            states[one] for one in recipients if (states[one] == DeliveryState.CANCELLED) is not holds
        )
        found += [f"{count} {text}, and {state} in the end" for state, count in other.items()]
    times = sorted(record.time_us for record in records)
    for pause in notes.pauses:
        taken = bisect_left(times, pause.until_us) - bisect_right(times, pause.from_us)
        if taken > pause.on_their_way:
            found.append(f"{taken} sent while paused, with {pause.on_their_way} on their way at its start")
    return found


def _not_excused(records: Sequence[SinkRecord]) -> int:
    last_of_session = {record.session: number for number, record in enumerate(records)}
    last_copy = {(record.message_id, record.recipient): number for number, record in enumerate(records)}
    return sum(
        number != last_copy[record.message_id, record.recipient] and number != last_of_session[record.session]
        for number, record in enumerate(records)
    )
