"""What can happen to a delivery or a connection, as the events we store."""

from __future__ import annotations

from enum import StrEnum


class EventKind(StrEnum):
    """Kinds of events; each dialect maps them to its own names."""

    ACCEPTED = "accepted"
    CAPTURED = "captured"
    RELEASED = "released"
    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    UNKNOWN = "unknown"
    UNVERIFIED = "unverified"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    HELD = "held"
    UNSUBSCRIBED = "unsubscribed"  # data says by which way, and from which address
    RESUBSCRIBED = "resubscribed"
    OPENED = "opened"  # data says by what program, from where, whether it was the first time and a machine
    CLICKED = "clicked"  # the same, and which link in which part
    RETRIED = "retried"  # a person had it tried at once; data says who
    RESENT = "resent"  # a person had it sent again, knowing that it may have gone out
    WAITING = "waiting"  # nothing may send it now; data says why
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_RECOVERED = "connection_recovered"
    CONNECTION_HELD = "connection_held"  # ten equal refusals
    CONNECTION_TESTED = "connection_tested"
