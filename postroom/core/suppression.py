"""A suppression: an address a server sends no mail to, on all its streams or on one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.ids import AccountId, ServerId

ALL_STREAMS = ""  # hard bounces, complaints and what is put on the list by hand hold for every stream


class Reason(StrEnum):
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    MANUAL = "manual"
    UNSUBSCRIBE = "unsubscribe"  # of a broadcast stream; never blocks transactional mail


class Origin(StrEnum):
    """Who caused it."""

    RECIPIENT = "recipient"
    CUSTOMER = "customer"
    ADMIN = "admin"


@dataclass(frozen=True)
class Suppression:
    """One row of a suppression list. `address` is a compare key: lower case, domain as A-label."""

    suppression_id: int
    account_id: AccountId
    server_id: ServerId
    stream: str  # ALL_STREAMS or one stream
    address: str
    reason: Reason
    origin: Origin
    created_at_us: int
