"""Taking turns on the event loop: what is much is done piece by piece, and the loop does the rest between.

A loop runs all that is ready before it looks at its sockets again. Twenty requests of a hundred messages,
each read at once, would keep a message on its way out waiting for as long as all of them take together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable


class LoopTurns:
    """Whose piece is next: one in every second round of the loop, by turns of those who have any, and for
    each of them in the order they came. One in each round would let a tenth less leave meanwhile."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # in the order of their turns
        self._goes_round = False

    async def turn(self, whose: Hashable) -> None:
        """Wait for one's turn, a round at least. What comes until the next wait is the piece."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.setdefault(whose, deque()).append(turn)
        if not self._goes_round:
            self._goes_round = True
            loop.call_soon(self._next, loop)
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            whose = next(iter(self._waiting))
            waiting = self._waiting.pop(whose)
            turn = waiting.popleft()
            while turn.done() and waiting:  # who was cancelled has no turn
                turn = waiting.popleft()
            if waiting:
                self._waiting[whose] = waiting  # behind all others
            if not turn.done():
                turn.set_result(None)
                loop.call_soon(loop.call_soon, self._next, loop)
                return
        self._goes_round = False
