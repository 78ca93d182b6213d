"""What an engine knows of one lane; `lane_book` has them all, and `turns` says whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.core.message import Purpose
from postroom.engine.claim import LOWEST
from postroom.ids import ConnectionId
from postroom.storage.lanes import Lane

MANY = 1 << 20  # a backlog nobody counted
_FLOOR_S = 1.0


@dataclass
class Floor:
    """Up to where a deep lane was taken from, so that the next look need not begin before that.

    Rows that were taken stay in the table's way as long as somebody holds a snapshot. A look from the lowest
    comes every second all the same, since what came back, or what others left, may lie before the floor.
    """

    due_us: int = LOWEST
    until_s: float = 0.0

    def at(self, now_s: float) -> int:
        """Where a look at this moment may begin."""
        return self.due_us if now_s < self.until_s else LOWEST

    def reached(self, due_us: int, began_s: float, *, from_lowest: bool) -> None:
        """A look that began then had as many as it asked for, the last one due at due_us."""
        if from_lowest:
            self.due_us, self.until_s = due_us, began_s + _FLOOR_S
        elif began_s < self.until_s:
            self.due_us = max(self.due_us, due_us)

    def drop(self) -> None:
        """Something may lie before it, or there was less than was asked for."""
        self.due_us, self.until_s = LOWEST, 0.0


@dataclass
class LaneState:
    """One lane in memory. What the book keeps order by is changed by the book alone."""

    lane: Lane
    next_due_us: int | None = None  # of its first delivery; None: nothing waits
    backlog: int = 0  # an estimate, for how many to claim and how many connections are worth waking
    guess: int = 1  # of what nobody told of, once the estimate was used up
    changes: int = 0  # raised by each wake, so that an older look does not overwrite a newer one
    chosen: tuple[ConnectionId, ...] = ()  # by the decision in force
    decision_id: int = 0
    decided: object = None  # what the decision in force says, to see whether the next one differs
    reasons: frozenset[str] = frozenset()  # of the candidates, where none is chosen
    until_us: int | None = None  # when the first of those reasons ends by itself
    waiting_since_us: int | None = None  # it has work and nothing may send it
    waiting_told: bool = False
    paused: bool = False  # a person stopped its server or everything
    stale: bool = True  # its decision is to be made again
    active: bool = False  # something was due when the book last looked, and no pause stops it
    floor: Floor = field(default_factory=Floor)

    def has_work(self, now_us: int) -> bool:
        return self.next_due_us is not None and self.next_due_us <= now_us and not self.paused

    def moved(self) -> None:
        """Something came further, or nothing waits: the wait for somebody who may send it is over."""
        self.waiting_since_us, self.waiting_told = None, False

    @property
    def transactional(self) -> bool:
        return self.lane.purpose is Purpose.TRANSACTIONAL

    def clock_set_back(self, by_us: int) -> None:
        """The wall clock was moved by `by_us`, which is negative: waits stay as long as they were."""
        self.stale = True
        self.floor.drop()
        if self.next_due_us is not None:
            self.next_due_us += by_us
        if self.waiting_since_us is not None:
            self.waiting_since_us += by_us
