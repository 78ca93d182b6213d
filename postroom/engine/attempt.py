"""One attempt on its way: what must be true before each step, and the journal's record of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.clock import Clock
from postroom.engine.claim import Claimed
from postroom.tracing import Marks
from postroom.transports.interface import Envelope, Outcome

if TYPE_CHECKING:
    from postroom.engine.term import Term


class Attempt:
    """The Checkpoints of one claimed delivery, under the term it was claimed in.

    `cancelled`: its message was cancelled while it was on its way. `withdrawn`: a person paused its way
    out before its body could begin, so it goes back. `overtaken`: an earlier try of it was sent after all,
    so this one is not needed. `on_its_way`: its body may begin any moment, so a
    pause lets it finish. `past_dot`: the final dot may be out, so it cannot be stopped any more.
    `hindered`: something of ours (journal, database, disk) stood in its way, and would stand in the way
    of the next one. `marks`: the moments it passes, where somebody traces.
    """

    def __init__(self, claimed: Claimed, clock: Clock, term: Term) -> None:
        self.claimed, self.term = claimed, term
        self.cancelled = False
        self.withdrawn = False
        self.overtaken = False
        self.on_its_way = False
        self.past_dot = False
        self.hindered = False
        self.marks: Marks | None = None
        self.envelope: Envelope
        self._clock, self._journal = clock, term.journal

    @property
    def stopped(self) -> bool:
        """Nothing of it may go out any more."""
        return self.cancelled or self.withdrawn or self.overtaken or self.term.over

    def withdraw(self) -> None:
        """Its way out was paused: it goes back, unless it is on its way."""
        self.withdrawn = self.withdrawn or not self.on_its_way

    def begin(self) -> None:
        """Composing begins. Raises OSError when the journal cannot be written."""
        if self.marks is not None:
            self.marks.deliver_began_us = self._clock.now_us()
        self._journal.begin(self.claimed.attempt_id)

    def _mark(self, name: str) -> None:
        if self.marks is not None:
            self.marks.passed.append((name, self._clock.now_us()))

    def before_mail(self) -> bool:
        self._mark("mail")
        return not self.stopped

    def before_data(self) -> bool:
        self._mark("data")
        if self.stopped or not self._in_time():
            return False
        self.on_its_way = True
        return True

    def _in_time(self) -> bool:
        return self.claimed.not_before_us <= self._clock.now_us() < self.claimed.deadline_us

    def before_dot(self) -> bool:
        """The last look: still ours, still wanted, still its day; and the journal has it first."""
        self._mark("dot")
        if self.stopped or not self._in_time():
            return False
        try:
            self._journal.dot(self.claimed.attempt_id)
        except OSError as error:
            self.hindered = True
            self._journal.trouble.met(
                "the outcome journal cannot be written; nothing is sent", error=str(error)
            )
            return False
        self._journal.trouble.over("the outcome journal can be written again")
        if self.term.over:  # looked at after the `D`: who finds none once our lease is over knows it stays so
            return False
        self.past_dot = True
        return True

    def ended(self, outcome: Outcome) -> None:
        """Write its outcome down, before its session writes another dot."""
        if self.marks is not None:
            self.marks.ended_us = self._clock.now_us()
        try:
            self._journal.outcome(self.claimed.attempt_id, outcome)
        except OSError as error:
            # It is settled in the database all the same; only a crash before that would call it unknown.
            self._journal.trouble.met("an outcome is missing in the journal", error=str(error))
