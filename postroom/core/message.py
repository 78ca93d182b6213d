"""A message, its deliveries, and the states a delivery goes through.

    accept ──► captured ──(explicit release)──► ready
       │
       ├──► suppressed                             ┌──────────── due again ─────────────┐
       │                                           ▼                                    │
       └──► ready ──claim──► claimed ──► begun ──► sent                                 │
              ▲                 │          ├──► deferred (4xx of the recipient) ────────┤
              │                 │          ├──► bounced (5xx, or given up)              │
              │◄── returned ────┘          └──► unknown ──► sent again ─────────────────┘
              │   (the way out's trouble)        │
              ├──► cancelled, held               └──► unverified (final, counted as sent)

`begun` means: 354 was seen and the first byte of the body was written. Deferred is not stored: such a
delivery is `ready` with a later due time.
"""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """The class of mail; set at accept by the way in, never raised by the caller."""

    TRANSACTIONAL = "transactional"
    BROADCAST = "broadcast"
    SEQUENCE = "sequence"


class Form(StrEnum):
    """How much of a message must reach the next hop as it is."""

    PARTS = "parts"  # its parts say it all: one visible recipient, who gets it, and nothing composed before
    BYTES = "bytes"  # only finished bytes do: handed in composed, or shown to more people than this copy's


class DeliveryState(StrEnum):
    """Where a delivery is. One row each in docs/explain.md."""

    READY = "ready"  # waits for its due time, for a connection or for room
    CLAIMED = "claimed"  # a worker holds it
    SENT = "sent"  # 2xx after the final dot was recorded
    BOUNCED = "bounced"  # refused for good, or given up after its retry schedule
    UNKNOWN = "unknown"  # the final dot may have been written and no reply was read; ends by itself
    UNVERIFIED = "unverified"  # unknown for good: counted as sent, never sent again unasked
    SUPPRESSED = "suppressed"  # the address is on a suppression list
    CANCELLED = "cancelled"  # withdrawn before it went out
    CAPTURED = "captured"  # accepted where nothing may leave; leaves only by an explicit release
    HELD = "held"  # waits for a person: it crashed its workers, or its schedule is stale


class SettledAs(StrEnum):
    """What a person says became of a delivery that nobody can know of."""

    SENT = "sent"
    FAILED = "failed"


def withdrawn_state(*, copies: int, resends: int) -> DeliveryState:
    """What a delivery is that will not be tried any more: only what never went out is cancelled.

    copies: sendings a peer confirmed. resends: sendings after one whose outcome was unknown.
    """
    if copies:
        return DeliveryState.SENT
    return DeliveryState.UNVERIFIED if resends else DeliveryState.CANCELLED


FINAL_STATES = frozenset(
    {
        DeliveryState.SENT,
        DeliveryState.BOUNCED,
        DeliveryState.UNVERIFIED,
        DeliveryState.SUPPRESSED,
        DeliveryState.CANCELLED,
    }
)
