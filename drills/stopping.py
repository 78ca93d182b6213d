"""`python -m drills.stopping …`: Postroom, in a process that stops itself where a drill says so.

The file that `DRILL_STOP` names holds one of `Place`. The next time this process comes there, with nothing
else of its own between final dot and reply, it takes the file away and gets SIGSTOP, at that very point of
its own code. Nothing of this is in the product.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from postroom.cli import main
from postroom.engine.attempt import Attempt
from postroom.engine.dispatcher import Dispatcher
from postroom.engine.journal import Journal
from postroom.transports.interface import Outcome
from postroom.transports.smtp_wire import Wire

SWITCH = "DRILL_STOP"
_GONE_S = 0.003  # later a dot has left and no reply has come, with a sink that takes a little longer for it


class Place(StrEnum):
    """Where it stops. After the last two the message arrives all the same, whatever others did meanwhile."""

    CLAIM = "after the claim"
    MAIL = "after MAIL"
    BODY = "in the body"
    CHECK = "before the dot's check"
    RECORD = "between the dot's record and its check"
    CHECKED = "after the dot's check"
    DOT = "after the dot"

    @property
    def leaves_open(self) -> bool:
        """A transaction that was looked at for the last time: it may make a copy."""
        return self in (Place.CHECKED, Place.DOT)


class Brake:
    """Knows which attempts are past their last check; stops this process at the place that is asked for."""

    def __init__(self, switch: Path) -> None:
        self._switch = switch
        self._open: set[int] = set()

    def at(self, place: Place, own: int = 0) -> None:
        """We are there. own: the attempt that is."""
        if self._open - {own}:
            return
        try:
            if self._switch.read_text() != place:
                return
            self._switch.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGSTOP)

    def _past_dot(self, own: int) -> None:
        if own in self._open:
            self.at(Place.DOT, own)

    def install(self) -> None:
        """Into this process's own copy of the product."""
        self._at_claims()
        self._at_dots()
        self._at_wires()

    def _at_claims(self) -> None:
        claim = Dispatcher.claim

        async def claimed(*given: Any) -> Any:  # Any: handed through
            made = await claim(*given)
            if made is not None and made.claimed:
                self.at(Place.CLAIM)
            return made

        _put(Dispatcher, "claim", claimed)

    def _at_dots(self) -> None:
        before_dot, ended, dot = Attempt.before_dot, Attempt.ended, Journal.dot

        def check(attempt: Attempt) -> bool:
            own = attempt.claimed.attempt_id
            self.at(Place.CHECK)
            told = before_dot(attempt)
            if told:
                self._open.add(own)
                self.at(Place.CHECKED, own)
            return told

        def end(attempt: Attempt, outcome: Outcome) -> None:
            ended(attempt, outcome)
            self._open.discard(attempt.claimed.attempt_id)

        def record(journal: Journal, *given: Any) -> None:  # Any: handed through
            dot(journal, *given)
            self.at(Place.RECORD)

        _put(Attempt, "before_dot", check)
        _put(Attempt, "ended", end)
        _put(Journal, "dot", record)

    def _at_wires(self) -> None:
        send = Wire.send

        def sent(wire: Wire, data: Any, replies: int) -> None:  # Any: a buffer
            send(wire, data, replies)
            loop = asyncio.get_running_loop()  # which hands the bytes to the socket at the end of its turn
            if replies == 0:
                self.at(Place.BODY)
            elif bytes(data[:5]) == b"MAIL ":
                loop.call_later(0, self.at, Place.MAIL)
            elif replies == 1 and bytes(data[-3:]) == b".\r\n" and len(self._open) == 1:
                loop.call_later(_GONE_S, self._past_dot, next(iter(self._open)))

        _put(Wire, "send", sent)


def _put(owner: type, name: str, made: Callable[..., object]) -> None:
    setattr(owner, name, made)


if __name__ == "__main__":
    Brake(Path(os.environ[SWITCH])).install()
    main()
