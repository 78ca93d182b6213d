"""On which streams this process searched for subjects lately; theirs are kept in blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from postroom.storage.subject_blocks import StreamKey

MOST_STREAMS = 1000


class SubjectStreams:
    """Noted by each search, read by `actions.subject_blocks`. Used on one event loop."""

    def __init__(self) -> None:
        self._asked_s: dict[StreamKey, float] = {}  # the one not asked for the longest time first
        self.came = asyncio.Event()  # one that was not there

    def note(self, stream: StreamKey, now_s: float) -> None:
        """It was searched. Of more than MOST_STREAMS the oldest is forgotten."""
        if self._asked_s.pop(stream, None) is None:
            self.came.set()
        self._asked_s[stream] = now_s
        if len(self._asked_s) > MOST_STREAMS:
            del self._asked_s[next(iter(self._asked_s))]

    def since(self, asked_s: float) -> Sequence[StreamKey]:
        """Those searched then or later, the last one first; the others are forgotten."""
        self._asked_s = {stream: at_s for stream, at_s in self._asked_s.items() if at_s >= asked_s}
        return list(reversed(self._asked_s))
