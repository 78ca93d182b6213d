"""Taking turns on the event loop: what is much is done piece by piece, and the loop does the rest between.

A loop runs all that is ready before it looks at its sockets again. Twenty requests of a hundred messages,
each read at once, would keep a message on its way out waiting for as long as all of them take together.
"""

from __future__ import annotations

import asyncio


class LoopTurns:
    """Whose piece is next: in the order they came, at most one in each round of the loop."""

    def __init__(self) -> None:
        self._next = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for one's turn: a round at least, two for each who waits before. What comes until the next
        wait is the piece."""
        async with self._next:
            await asyncio.sleep(0)
