"""What became of each attempt, told to whoever counts, and to whoever traces where somebody does."""

from __future__ import annotations

from postroom.clock import MICROS, Clock
from postroom.engine.attempt import Attempt
from postroom.tally import Tally
from postroom.tracing import Marks, Traces, Tried
from postroom.transports.interface import Outcome, Result


class Telling:
    """Of one engine."""

    def __init__(self, clock: Clock, tally: Tally, traces: Traces | None = None) -> None:
        self._clock, self.tally, self._traces = clock, tally, traces

    def claimed(self, attempt: Attempt, began_us: int) -> None:
        """It was claimed; began_us: when the claim began."""
        if self._traces is not None:
            attempt.marks = Marks(began_us, self._clock.now_us())

    def settled(self, attempt: Attempt, outcome: Outcome) -> None:
        """Its outcome stands in the database."""
        claimed, now_us = attempt.claimed, self._clock.now_us()
        self.tally.attempts[outcome.result.value, claimed.connection_id] += 1
        if outcome.result is Result.SENT:
            waited_s = (now_us - claimed.accepted_us) / MICROS
            self.tally.sent_after_s[claimed.purpose.value].observe(waited_s)
        kinds = [one.partition(" ")[0] for one in outcome.signed.split(", ")] if outcome.signed else []
        self.tally.signed.update(kinds)
        if self._traces is not None and attempt.marks is not None:
            self._traces.tried(
                Tried(
                    message_id=claimed.message_id,
                    delivery_id=claimed.delivery_id,
                    attempt_id=claimed.attempt_id,
                    account_id=claimed.account_id,
                    server_id=claimed.server_id,
                    connection_id=claimed.connection_id,
                    purpose=claimed.purpose.value,
                    marks=attempt.marks,
                    settled_us=now_us,
                    result=outcome.result.value,
                    fault=outcome.fault.value,
                    phase=outcome.phase.value,
                    code=outcome.code,
                    signed=" ".join(kinds),
                )
            )
