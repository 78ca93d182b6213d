"""What the benchmark asks of everybody it measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

BODY_BYTES = 10 * 1024
SENDER = "bench@example.com"
LINE = "All work and no play makes a dull post room, line after line.\n"
BODY = (LINE * (BODY_BYTES // len(LINE) + 1))[:BODY_BYTES]
_PARAGRAPH = (
    '<p>All work and no play makes a dull post room. <a href="https://shop.example.com/item/{}">See</a></p>\n'
)
_LINKS = "".join(_PARAGRAPH.format(number) for number in range(10))
# The same size with ten links, for what is tracked.
HTML = f"<html><body>{_LINKS}<pre>{BODY[len(_LINKS) + 50 :]}</pre></body></html>"


@dataclass(frozen=True)
class Load:
    """How a round is fed: so many messages of 10 KiB, one recipient each, over so many connections."""

    messages: int
    connections: int = 20


@dataclass(frozen=True)
class Way:
    """How Postroom is handed its mail.

    batch: messages a request; more than one goes by Postmark's API. tracked: HTML with ten links, opens and
    clicks tracked. dkim: RSA 2048 or Ed25519, as `identity dkim` makes it; empty: unsigned.
    """

    batch: int = 1
    tracked: bool = False
    dkim: str = ""


PLAIN = Way()


@dataclass(frozen=True)
class Fed:
    """What the feeder saw: seconds until the last yes, and the waits for a yes in milliseconds."""

    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    facts: dict[str, float] = field(default_factory=dict)


class NextHop(Protocol):
    """Where mail goes: a server on a port of loopback."""

    @property
    def port(self) -> int:
        """The port."""


class Peer(Protocol):
    """One way to get mail from a program to the next hop. `folder` is its own, on a real disk."""

    name: str

    async def start(self, folder: Path, sink: NextHop) -> None:
        """Set up and run, ready to be fed."""

    async def feed(self, load: Load) -> Fed:
        """Hand over all messages, each to an address of its own; returns when the last is accepted."""

    async def stop(self) -> None:
        """End everything that was started."""


class Mortal(Peer, Protocol):
    """One whose processes can die: what it accepted should leave all the same."""

    async def kill(self) -> None:
        """SIGKILL each of its processes."""

    async def again(self) -> None:
        """Start it on what the dead ones left."""
