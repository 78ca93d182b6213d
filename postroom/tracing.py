"""What is told of a message on its way when traces are wanted: plain values, and who takes them.

Nothing here names a tracing library; `postroom.otel` speaks to one. Where no traces are wanted nobody is
there to take them, and all that is left of it is a look whether somebody is. Values hold numbers and words of
ours: no address, no subject, no reply of a peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Received:
    """A message was accepted. Times: microseconds since 1970."""

    message_id: int
    account_id: int
    server_id: int
    origin: str
    purpose: str
    deliveries: int
    began_us: int
    ended_us: int


@dataclass
class Marks:
    """The moments of one attempt, in microseconds since 1970, noted as they pass."""

    claim_began_us: int
    claimed_us: int
    deliver_began_us: int = 0
    passed: list[tuple[str, int]] = field(default_factory=list)  # before MAIL, DATA, the dot
    ended_us: int = 0


@dataclass(frozen=True)
class Tried:
    """An attempt was settled."""

    message_id: int
    delivery_id: int
    attempt_id: int
    account_id: int
    server_id: int
    connection_id: int
    purpose: str
    marks: Marks
    settled_us: int
    result: str
    fault: str
    phase: str
    code: int
    signed: str = ""  # kinds of our DKIM signatures


class Traces(Protocol):
    """Takes what is told. Called on the event loop; never waits and never raises."""

    def received(self, one: Received) -> None: ...

    def tried(self, one: Tried) -> None: ...

    async def close(self) -> None:
        """Send what is left, within a few seconds."""
