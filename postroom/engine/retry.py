"""When to try again: pure functions of what happened so far."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.clock import MICROS
from postroom.core.message import Purpose


@dataclass(frozen=True)
class Policy:
    """The settings that decide about tries. Seconds."""

    retry_first_wait_s: float = 300.0
    retry_longest_wait_s: float = 4 * 3600.0
    give_up_transactional_s: float = 24 * 3600.0
    give_up_bulk_s: float = 5 * 86_400.0
    unknown_wait_s: float = 30.0
    unknown_resends: int = 2
    unknown_hold_s: float = 24 * 3600.0
    sender_refusal_s: float = 3600.0

    def gives_up_after_s(self, purpose: Purpose) -> float:
        """How long after it was accepted a delivery is tried."""
        transactional = purpose is Purpose.TRANSACTIONAL
        return self.give_up_transactional_s if transactional else self.give_up_bulk_s


def next_attempt_us(
    policy: Policy, purpose: Purpose, tries: int, accepted_us: int, now_us: int, jitter: float
) -> int | None:
    """When to try again, or None once the delivery has been tried for long enough.

    tries: steps of the schedule already made, >= 1. jitter: 0 to 1, the caller's choice.
    The first wait is 5 minutes and doubles up to 4 hours (RFC 5321 4.5.4.1), each shortened by up to
    a fifth so that what failed together does not come back together. Bulk stops 5 days after it was
    accepted, transactional mail after 24 hours: a password reset is of no use next week.
    """
    wait_s = min(policy.retry_first_wait_s * 2.0 ** min(tries - 1, 30), policy.retry_longest_wait_s)
    due = now_us + int(wait_s * (1 - 0.2 * jitter) * MICROS)
    give_up = accepted_us + int(policy.gives_up_after_s(purpose) * MICROS)
    if now_us >= give_up:
        return None
    return min(due, give_up)
