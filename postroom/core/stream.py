"""A stream: a class of mail of one server, with its own statistics and its own unsubscribes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.ids import AccountId, ServerId


class StreamType(StrEnum):
    """What kind of mail a stream carries."""

    TRANSACTIONAL = "transactional"
    BROADCAST = "broadcast"
    INBOUND = "inbound"


@dataclass(frozen=True)
class Stream:
    """One stream as stored. `stream` is its name in URLs and messages, unique within its server."""

    account_id: AccountId
    server_id: ServerId
    stream: str
    name: str
    type: StreamType
    created_at_us: int
    archived_at_us: int | None


# (stream, name, type): what every server is born with, however it is made.
BORN_WITH = (
    ("outbound", "Transactional", StreamType.TRANSACTIONAL),
    ("inbound", "Inbound", StreamType.INBOUND),
    ("broadcast", "Broadcasts", StreamType.BROADCAST),
)
