"""One worker's term: from joining to its last settled outcome.

A process whose lease is over begins another term at once; what the old one had under way is cut, and settled
under it as soon as the database takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from postroom.engine.journal import Journal
from postroom.engine.membership import Joined
from postroom.engine.retry import Policy
from postroom.engine.settle import Settled
from postroom.engine.settler import Settler
from postroom.ids import AttemptId
from postroom.storage.interface import Store


class Term:
    """What belongs to one worker of this process."""

    def __init__(self, store: Store, policy: Policy, joined: Joined, told: Callable[[Settled], None]) -> None:
        """told: called after each settling's commit."""
        self.worker, self.lease, self.slots = joined.worker, joined.lease, joined.slots
        self.journal: Journal = joined.journal
        self.settler = Settler(store, policy, joined.journal, told)
        self.settler.start()
        self.claiming: set[int] = set()  # claims that are being committed
        self.strays: tuple[frozenset[AttemptId], frozenset[int]] | None = None  # `strays`' memory
        self._claims = count()

    @property
    def over(self) -> bool:
        """Nothing more of it may go out."""
        return self.lease.over

    def claim_begins(self) -> int:
        """A number for a claim; take it out of `claiming` when its end is known."""
        number = next(self._claims)
        self.claiming.add(number)
        return number
