"""One type per kind of id. All are integers, the same in every dialect."""

from __future__ import annotations

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
