"""What a supervisor and its children say to each other: one JSON document a line, over a socket pair each.

    down   {"plan": …}   first; then {"stop": true} and {"now": true}
    up     {"ready": {"made": …, "fresh": …}}   or   {"failed": {"kind", "text", …}}

The pair's end is the news that the other side is gone, however that came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What a child is told to be. flags, config: of the command line. listeners: descriptors by name.

    counts: the descriptor of how many connections each of the processes has.
    """

    number: int
    flags: Mapping[str, str | None]
    config: str | None
    first_run: bool
    listeners: Mapping[str, int]
    counts: int
    processes: int

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return {"plan": asdict(self)}


class Link:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Link:
        """On this end of the pair, which is ours from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=MOST_BYTES))

    def say(self, document: Mapping[str, object]) -> None:
        """Send it; nothing happens if nobody is there any more."""
        with contextlib.suppress(OSError):
            self._writer.write(json.dumps(document).encode() + b"\n")

    async def hear(self) -> AsyncIterator[dict[str, Any]]:  # Any: JSON values
        """Each document, until the other side is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except (OSError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)

    async def sent(self) -> None:
        """Until everything said was sent."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def close(self) -> None:
        """The other side hears the end."""
        self._writer.close()
