"""One type per kind of id. All are integers, the same in every dialect; and how public ids are made."""

from __future__ import annotations

import secrets
from typing import NewType

AccountId = NewType("AccountId", int)
ServerId = NewType("ServerId", int)
ConnectionId = NewType("ConnectionId", int)
KeyId = NewType("KeyId", int)
MessageId = NewType("MessageId", int)
DeliveryId = NewType("DeliveryId", int)
AttemptId = NewType("AttemptId", int)
LaneId = NewType("LaneId", int)
WorkerId = NewType("WorkerId", int)
DecisionId = NewType("DecisionId", int)
BounceId = NewType("BounceId", int)
TemplateId = NewType("TemplateId", int)
BulkId = NewType("BulkId", int)


def new_public_id(at_us: int) -> str:
    """A message's id for the world: a UUID of version 7 (RFC 9562 5.7), made at this moment.

    It begins with the time, so that new ones lie together in the index over all of them instead of each on a
    page of its own; its last 74 bits are random.
    """
    random = secrets.randbits(74)
    made = (at_us // 1000 & (1 << 48) - 1) << 80 | 7 << 76 | random >> 62 << 64 | 0b10 << 62
    digits = f"{made | random & (1 << 62) - 1:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
