"""Claims that were made and whose answer never came: the database has them, and nobody here knows of them.

They are found among the open attempts of our own worker, seen twice with every claim ended that was under way
the first time, and go back: nothing of them can have left.
"""

from __future__ import annotations

from collections.abc import Collection

from postroom.engine.recover import open_attempts
from postroom.engine.retry import Policy
from postroom.engine.settle import Ended, Settled, settle
from postroom.engine.term import Term
from postroom.ids import AttemptId
from postroom.logs import logger
from postroom.storage.interface import Store
from postroom.transports.interface import Fault, Outcome, Phase, Result

log = logger("engine")
_MOST = 5000
NEVER_HEARD = Outcome(
    Result.RETURNED, Fault.OURS, Phase.CONNECT, text="the database did not say that it was claimed"
)


async def give_back(store: Store, term: Term, known: Collection[AttemptId], policy: Policy) -> Settled:
    """Look once; `known`: the attempts under way here, which changes. Raises PostroomError."""
    worker_id = term.worker.worker_id
    claiming = frozenset(term.claiming)
    found = await store.read(lambda: open_attempts(worker_id, _MOST))
    unknown = frozenset(one for one in found if one not in known)
    before, term.strays = term.strays, (unknown, claiming)
    if before is None or before[1] & term.claiming:
        return Settled()
    lost = sorted(unknown & before[0])
    if not lost:
        return Settled()
    log.warning("claims came back of which nobody knew", attempts=len(lost))
    return await store.write(lambda: settle([Ended(one, NEVER_HEARD) for one in lost], policy))
