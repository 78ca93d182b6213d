"""A connection's room under its caps as its last claim saw it, and until when there is none.

The claim alone decides what is granted, in its commit; this is the memory that spares a full connection
from asking again before room can have come back.
"""

from __future__ import annotations

from postroom.clock import MICROS
from postroom.engine.caps import CapState
from postroom.engine.claim import Claims

QUOTA_AGAIN_S = 60.0  # when the vendor is asked again for a quota that is used up
_FULL_AGAIN_S = 10.0  # what is held and not settled yet has no time at which it comes back


class Room:
    """The memory of one connection. Each change says whether routing has to look again."""

    def __init__(self) -> None:
        self.cap: CapState | None = None  # as of the last claim
        self.bulk_until: int | None = None  # full for bulk until then, microseconds since 1970
        self.all_until: int | None = None  # full for everything
        self.day_full = False  # of what is full: today's cap, not the hour's
        self.quota_full = False  # of what is full: the vendor's own quota
        self.changes = 0  # raised by each change from outside, so that an older claim does not undo it

    def blocked(self, now_us: int, *, transactional: bool) -> bool:
        """No room for this kind of mail."""
        if self.all_until is not None and self.all_until > now_us:
            return True
        return not transactional and self.bulk_until is not None and self.bulk_until > now_us

    def note(self, claims: Claims, changes: int) -> bool:
        """What a claim saw; `changes` as it was before the claim."""
        state = claims.cap
        if state is None or changes != self.changes:
            return False
        self.cap = state
        taken = len(claims.claimed)
        before = (self.bulk_until, self.all_until)
        until = state.next_release_us or state.at_us + int(_FULL_AGAIN_S * MICROS)
        self.day_full = state.day_room - taken <= 0 or state.closing
        if self.day_full:
            until = state.day_ends_us
        self.quota_full = not self.day_full and state.quota_room - taken <= 0
        if self.quota_full:
            until = state.at_us + int(QUOTA_AGAIN_S * MICROS)
        full = claims.out_of_room
        all_full = state.closing or state.room(transactional=True) <= taken
        bulk_full = state.closing or state.room(transactional=False) <= taken
        # A claim that got all it wanted says nothing new of the kind of mail it did not ask for.
        self.all_until = (until if full else self.all_until) if all_full else None
        self.bulk_until = (until if full else self.bulk_until) if bulk_full else None
        return before != (self.bulk_until, self.all_until)

    def came_back(self) -> bool:
        """What was granted was not used, or the caps are other ones, or counters were set back: nobody
        waits for the hour or the day."""
        self.changes += 1
        was_full = self.bulk_until is not None or self.all_until is not None
        self.bulk_until = self.all_until = None
        return was_full

    def look(self, now_us: int) -> bool:
        """Whether a wait has ended by now."""
        ended = False
        if self.bulk_until is not None and self.bulk_until <= now_us:
            self.bulk_until, ended = None, True
        if self.all_until is not None and self.all_until <= now_us:
            self.all_until, ended = None, True
        return ended
