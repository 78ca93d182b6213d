"""What a dead worker left: its journal is replayed, its claims come back, its epoch ends.

On SQLite the lock file proves the former worker dead, so no clock is involved: `take_over` runs before
the new worker claims anything. The order is the promise: the journal's outcomes are committed first,
then the epoch is raised, then the journal is removed. A crash anywhere in between replays it again,
and settling what is settled already changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from postroom.engine.claim import Worker
from postroom.engine.journal import Journal, Replayed, discard, replay
from postroom.engine.retry import Policy
from postroom.engine.settle import Ended, Settled, settle, unrecordable
from postroom.engine.transitions import outcome_without_record
from postroom.errors import Unavailable
from postroom.ids import AttemptId, WorkerId
from postroom.logs import logger
from postroom.storage.interface import Sql, Store, Work, now
from postroom.transports.interface import Result

log = logger("engine")
SLICE = 500


@dataclass(frozen=True)
class Recovery:
    """What was found: attempts settled as recorded, sent back to be sent, and left unknown."""

    recorded: int = 0
    returned: int = 0
    unknown: int = 0


@dataclass(frozen=True)
class Former:
    """The worker that was here before."""

    worker_id: WorkerId
    epoch: int
    ended_cleanly: bool


def find_former(worker_id: WorkerId) -> Work[Former | None]:
    """The newest epoch of this worker, or None when it never ran."""
    rows = yield Sql(
        "SELECT epoch, ended_at FROM workers WHERE worker_id = :worker_id", {"worker_id": worker_id}
    )
    return Former(worker_id, rows[0][0], rows[0][1] is not None) if rows else None


def open_attempts(worker_id: WorkerId, limit: int = SLICE) -> Work[list[AttemptId]]:
    """Attempts this worker left without a result."""
    rows = yield Sql(
        "SELECT attempt_id FROM attempts WHERE worker_id = :worker_id AND result IS NULL"
        " ORDER BY attempt_id LIMIT :n",
        {"worker_id": worker_id, "n": limit},
    )
    return [row[0] for row in rows]


def settle_left(worker_id: WorkerId, replayed: Replayed, policy: Policy) -> Work[tuple[Settled, Recovery]]:
    """Settle one slice of what the worker left, by its journal."""
    left = yield from open_attempts(worker_id)
    return (yield from settle_these(left, replayed, policy))


def settle_these(
    left: Sequence[AttemptId], replayed: Replayed, policy: Policy
) -> Work[tuple[Settled, Recovery]]:
    """Settle these attempts of a dead worker by its journal."""
    settled = yield from settle([_as_told(attempt, replayed) for attempt in left], policy)
    recorded = sum(attempt in replayed.outcomes for attempt in left)
    dots = sum(attempt in replayed.dots and attempt not in replayed.outcomes for attempt in left)
    unknown = dots if replayed.trusted else len(left) - recorded
    return settled, Recovery(recorded, len(left) - recorded - unknown, unknown)


def _as_told(attempt: AttemptId, replayed: Replayed) -> Ended:
    known = replayed.outcomes.get(attempt)
    if known is not None:
        return Ended(attempt, known)
    outcome = outcome_without_record(dot=attempt in replayed.dots, trusted=replayed.trusted)
    return Ended(attempt, outcome, crashed=attempt in replayed.begun)


def raise_epoch(worker_id: WorkerId) -> Work[int]:
    """The next epoch of this worker: whatever the former one still writes changes no delivery."""
    rows = yield Sql(
        "INSERT INTO workers (worker_id, epoch, expires_at, ended_at) VALUES (:worker_id, 1, NULL, NULL)"
        " ON CONFLICT (worker_id) DO UPDATE SET epoch = workers.epoch + 1, ended_at = NULL"
        " RETURNING epoch",
        {"worker_id": worker_id},
    )
    epoch: int = rows[0][0]
    return epoch


def end_cleanly(worker: Worker) -> Work[bool]:
    """This worker ends; True when it leaves nothing open, so that its journal may go."""
    left = yield from open_attempts(worker.worker_id, 1)
    if left:
        return False
    at_us = yield from now()
    yield Sql(
        "UPDATE workers SET ended_at = :now WHERE worker_id = :worker_id AND epoch = :epoch",
        {"now": at_us, "worker_id": worker.worker_id, "epoch": worker.epoch},
    )
    return True


async def take_over(
    store: Store, folder: Path, instance: str, worker_id: WorkerId, policy: Policy, boot: str | None = None
) -> tuple[Worker, Journal, Recovery]:
    """Settle what the former worker left, then begin a new epoch with a journal of its own."""
    former = await store.read(lambda: find_former(worker_id))
    total = Recovery()
    if former is not None:
        replayed = replay(folder, instance, worker_id, former.epoch, boot)
        total = await settle_all(store, worker_id, replayed, policy)
    epoch = await store.write(lambda: raise_epoch(worker_id))
    if former is not None:
        discard(folder, worker_id, former.epoch)
    discard(folder, worker_id, epoch)  # of another life of this data folder: never ours
    return Worker(worker_id, epoch), Journal(folder, instance, worker_id, epoch, boot), total


def _nobody(_: Settled) -> None:
    """Nobody is told."""


async def settle_all(
    store: Store,
    worker_id: WorkerId,
    replayed: Replayed,
    policy: Policy,
    told: Callable[[Settled], None] = _nobody,
) -> Recovery:
    """Everything it left; one that cannot be settled is held for a person and does not stop the start.

    told: after each commit.
    """
    total = Recovery()
    stuck: set[AttemptId] = set()
    while True:
        found = await store.read(partial(open_attempts, worker_id, SLICE + len(stuck)))
        left = [attempt for attempt in found if attempt not in stuck][:SLICE]
        if not left:
            return total
        try:
            settled, part = await store.write(partial(settle_these, left, replayed, policy))
            stuck.update(settled.unexpected)
            told(settled)
            total = add(total, part)
        except Unavailable:
            raise
        except Exception:
            for attempt in left:
                total = add(total, await _settle_one(store, attempt, replayed, policy, stuck))


async def settle_late(
    store: Store, worker_id: WorkerId, replayed: Replayed, policy: Policy, told: Callable[[Settled], None]
) -> Recovery:
    """What was settled as unknown by who could not read its journal, and stands in it."""
    known = replayed.begun | replayed.dots | replayed.outcomes.keys()
    if not known:
        return Recovery()
    lost = await store.read(lambda: _lost(worker_id, min(known), max(known) + SLICE))
    late = [_as_told(one, replace(replayed, begun=frozenset())) for one in lost]
    late = [one for one in late if one.outcome.result is not Result.UNKNOWN]
    if not late:
        return Recovery()
    told(await store.write(lambda: settle(late, policy)))
    recorded = sum(one.attempt_id in replayed.outcomes for one in late)
    return Recovery(recorded, len(late) - recorded)


def _lost(worker_id: WorkerId, low: int, high: int) -> Work[list[AttemptId]]:
    rows = yield Sql(
        "SELECT attempt_id FROM attempts WHERE attempt_id BETWEEN :low AND :high"
        " AND worker_id = :worker_id AND result = 'unknown' AND fault = 'ours' ORDER BY attempt_id",
        {"low": low, "high": high, "worker_id": worker_id},
    )
    return [row[0] for row in rows]


async def _settle_one(
    store: Store, attempt: AttemptId, replayed: Replayed, policy: Policy, stuck: set[AttemptId]
) -> Recovery:
    try:
        settled, part = await store.write(partial(settle_these, [attempt], replayed, policy))
        stuck.update(settled.unexpected)
        return part
    except Unavailable:
        raise
    except Exception as error:
        log.error("what a dead worker left cannot be settled", attempt=attempt, error=str(error))
        held = unrecordable(_as_told(attempt, replayed), error)
    stuck.add(attempt)  # whatever comes of it: looked at once
    try:
        await store.write(partial(settle, [held], policy))
    except Unavailable:
        raise
    except Exception:
        log.exception("an attempt of a dead worker stays open", attempt=attempt)
    return Recovery()


def add(a: Recovery, b: Recovery) -> Recovery:
    """Both together."""
    return Recovery(a.recorded + b.recorded, a.returned + b.returned, a.unknown + b.unknown)
