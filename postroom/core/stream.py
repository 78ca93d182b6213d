"""A stream: a class of mail of one server, with its own statistics and its own unsubscribes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.core.message import Purpose
from postroom.ids import AccountId, ServerId


class StreamType(StrEnum):
    """What kind of mail a stream carries."""

    TRANSACTIONAL = "transactional"
    BROADCAST = "broadcast"
    INBOUND = "inbound"


class Unsubscribing(StrEnum):
    """Who offers the recipients of a stream to unsubscribe."""

    NONE = "none"  # nobody; never on a broadcast stream
    OURS = "ours"  # Postroom: header, link and page
    CUSTOM = "custom"  # the sender, by his own means: Postroom adds nothing


@dataclass(frozen=True)
class Stream:
    """One stream as stored. `stream` is its name in URLs and messages, unique within its server.

    updated_at_us: None until it is changed for the first time.
    """

    account_id: AccountId
    server_id: ServerId
    stream: str
    name: str
    type: StreamType
    created_at_us: int
    archived_at_us: int | None
    description: str | None = None
    unsubscribing: Unsubscribing = Unsubscribing.NONE
    updated_at_us: int | None = None


PURPOSES = {StreamType.TRANSACTIONAL: Purpose.TRANSACTIONAL, StreamType.BROADCAST: Purpose.BROADCAST}
"""What kind of mail a message is by the stream it is sent on; an inbound stream sends none."""


# (stream, name, type, unsubscribing): what every server is born with, however it is made.
BORN_WITH = (
    ("outbound", "Transactional", StreamType.TRANSACTIONAL, Unsubscribing.NONE),
    ("inbound", "Inbound", StreamType.INBOUND, Unsubscribing.NONE),
    ("broadcast", "Broadcasts", StreamType.BROADCAST, Unsubscribing.OURS),
)
