"""`postroom db copy`: everything of one database into another that is empty, compared row by row.

Nobody serves either of them meanwhile. What was on its way is settled first, by the outcome journals. Then
the source is marked, so that nothing of it changes before the copy is whole; a copy that was cut off, however
hard, goes on where it was when it is run again, and the two marks tell whether it is the same one. When all
is there, the source stays marked as moved, and only then the target may be served.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from postroom.core.actor import Actor
from postroom.engine.journal import discard, replay
from postroom.engine.recover import find_former, raise_epoch, settle_all
from postroom.engine.retry import Policy
from postroom.errors import Conflict, Unavailable
from postroom.ids import AccountId, WorkerId
from postroom.keyring import KeyRing
from postroom.storage import audit, copying, pauses, restored, sealed
from postroom.storage.copying import COPY, MOVED, TABLES, Progress
from postroom.storage.interface import Rows, Sql, Store, Work, now
from postroom.storage.pauses import EVERYTHING, Pause, PauseScope

Tell = Callable[[str, int, int], None]  # a table, how many rows of it are there, of how many

REOPENED = "reopened"
_DIFFERENT = "what was written to {} is not what was read: empty the target and begin again"


@dataclass(frozen=True)
class Side:
    """One of the two. name: as people are told, without a password."""

    name: str
    store: Store
    on_postgres: bool


@dataclass(frozen=True)
class Copied:
    """rows: by table. secrets: sealed values that the key file opens. settled: attempts under way."""

    rows: Mapping[str, int]
    secrets: int
    settled: int
    went_on: bool


async def copy(
    source: Side, target: Side, ring: KeyRing, journals: Path, policy: Policy, actor: Actor, tell: Tell
) -> Copied:
    """Copy, or go on with a copy.

    journals: the folder of the source's. Raises Conflict where the target holds anything else or the source
    was moved before, Unavailable where one is in use, KeyringError where the key file is not the source's.
    """
    for side in (source, target):
        await _require_alone(side)
    await source.store.read(partial(sealed.opens, ring))
    mark, begun = await source.store.read(_mark), await target.store.read(_begun)
    went_on, settled = False, 0
    if mark is not None and begun is not None and mark["token"] == begun["token"]:
        went_on, token = True, mark["token"]
    else:
        await _require_fresh(mark, begun, target)
        settled = await _settle(source.store, journals, policy)
        token = secrets.token_hex(8)
        await source.store.write(partial(_put_mark, token, target.name, whole=False))
        await target.store.write(partial(copying.begin, {"token": token, "from": source.name}))
    rows = {table.name: await _table(source.store, target.store, table, tell) for table in TABLES}
    await _counters(source, target)
    opened = await target.store.read(partial(sealed.opens, ring))
    await source.store.write(partial(_put_mark, token, target.name, whole=True))
    await target.store.write(partial(_finish, source.name, rows, actor))
    if target.on_postgres:
        await target.store.write(_analyze)
    return Copied(rows, opened, settled, went_on)


async def reopen(side: Side, actor: Actor) -> bool:
    """Let a database that was moved, or half moved, be served again; whether it had been moved.

    Then everything in it is paused: what waited in it may have been sent from where it went. Raises Conflict
    where nothing is to be done, or it is half a copy itself.
    """
    return await side.store.write(partial(_reopen, actor))


def _reopen(actor: Actor) -> Work[bool]:
    if (yield from copying.get(COPY)) is not None:
        raise Conflict(
            "this database is half a copy of another one: end that with `postroom db copy`, or empty it"
        )
    mark = yield from copying.get(MOVED)
    if mark is None:
        raise Conflict("this data was not moved: it can be served as it is")
    at_us = yield from now()
    yield from copying.forget(MOVED)
    if mark["whole"]:
        yield from pauses.add(Pause(EVERYTHING, PauseScope.ALL, 0, at_us, actor.name, REOPENED))
    detail = {"to": mark["to"], "whole": mark["whole"]}
    yield from audit.add(AccountId(0), at_us, actor, "instance.reopen", "everything", detail)
    whole: bool = mark["whole"]
    return whole


# --- before --------------------------------------------------------------------------------------------


async def _require_alone(side: Side) -> None:
    if side.on_postgres and (others := await side.store.read(copying.others_connected)):
        raise Unavailable(
            f"{others} connections of other Postroom processes are open to {side.name}: stop every"
            " `postroom serve` on it first"
        )


def _mark() -> Work[dict[str, Any] | None]:  # Any: JSON values
    return (yield from copying.get(MOVED))


def _begun() -> Work[dict[str, Any] | None]:  # Any: JSON values
    return (yield from copying.get(COPY))


def _put_mark(token: str, to: str, *, whole: bool) -> Work[None]:
    yield from copying.put(MOVED, {"token": token, "to": to, "whole": whole})


async def _require_fresh(
    mark: Mapping[str, Any] | None,  # Any: JSON values
    begun: Mapping[str, Any] | None,
    target: Side,
) -> None:
    if begun is not None:
        raise Conflict(
            f"{target.name} holds half a copy of {begun['from']} that cannot be gone on with: what it was"
            " made of has changed since, or is something else; empty it and begin again"
        )
    if mark is not None and mark["whole"]:
        raise Conflict(f"this data was moved to {mark['to']} already; `postroom db reopen` takes that back")
    if (table := await target.store.read(copying.first_filled)) is not None:
        raise Conflict(f"{target.name} is not empty: there are rows in {table}; copy into an empty database")


async def _settle(store: Store, journals: Path, policy: Policy) -> int:
    """What processes that are gone left on its way, by their journals, which are not needed any more then."""
    instance = await store.read(_instance)
    total = 0
    for worker_id in await store.read(restored.workers):
        former = await store.read(partial(find_former, worker_id))
        if former is None or former.ended_cleanly:
            continue
        replayed = replay(journals, instance, worker_id, former.epoch)
        done = await settle_all(store, worker_id, replayed, policy)
        total += done.recorded + done.returned + done.unknown
        await store.write(partial(_end, worker_id))
        discard(journals, worker_id, former.epoch)
    return total


def _end(worker_id: WorkerId) -> Work[None]:
    yield from raise_epoch(worker_id)
    at_us = yield from now()
    yield Sql(
        "UPDATE workers SET ended_at = :now, expires_at = NULL WHERE worker_id = :worker_id",
        {"now": at_us, "worker_id": worker_id},
    )


def _instance() -> Work[str]:
    rows = yield Sql("SELECT value FROM instance WHERE name = 'id'")
    return str(rows[0][0]) if rows else ""


# --- rows ----------------------------------------------------------------------------------------------


async def _table(source: Store, target: Store, table: Table, tell: Tell) -> int:
    """Carry one table; how many rows it has."""
    wanted = await source.read(partial(copying.count, table))
    progress = await target.read(partial(copying.progress_of, table))
    while not progress.whole:
        rows = await source.read(partial(copying.read, table, progress.after))
        reached = _reached(table, rows, progress)
        await target.write(partial(copying.write, table, rows, reached))
        if rows and copying.is_ordered_alike(table):
            there = await target.read(
                partial(copying.read, table, progress.after, len(rows) + 1, reached.after)
            )
            _require_same(table, there, rows)
        progress = reached
        if rows:
            tell(table.name, progress.rows, wanted)
    if not copying.is_ordered_alike(table):
        await _require_whole(target, table, progress)
    found = await target.read(partial(copying.count, table))
    if not wanted == progress.rows == found:
        raise Conflict(f"{table.name} has {wanted} rows, {progress.rows} were copied and {found} are there")
    return found


def _reached(
    table: Table, rows: Any, before: Progress
) -> Progress:  # Any: rows, as `copying.read` gives them
    if not rows:
        return replace(before, whole=True)
    return Progress(
        copying.key_of(table, rows[-1]),
        before.rows + len(rows),
        copying.add(before.digest, copying.digest(rows)),
    )


def _require_same(table: Table, there: Rows, rows: Rows) -> None:
    if len(there) != len(rows) or copying.digest(there) != copying.digest(rows):
        raise Conflict(
            f"what was written to {table.name} is not what was read: the copy is not to be trusted"
        )


async def _require_whole(target: Store, table: Table, progress: Progress) -> None:
    """A table whose order the two see differently is compared as a whole."""
    after, count, digest = None, 0, 0
    while rows := await target.read(partial(copying.read, table, after)):
        count += len(rows)
        digest = copying.add(digest, copying.digest(rows))
        after = copying.key_of(table, rows[-1])
    if (count, digest) != (progress.rows, progress.digest):
        raise Conflict(
            f"what was written to {table.name} is not what was read: the copy is not to be trusted"
        )


async def _counters(source: Side, target: Side) -> None:
    """No number that was given out is given out again."""
    found = await source.store.read(
        copying.postgres_counters if source.on_postgres else copying.sqlite_counters
    )
    setting = copying.set_postgres_counters if target.on_postgres else copying.set_sqlite_counters
    await target.store.write(partial(setting, found))


def _finish(name: str, rows: Mapping[str, int], actor: Actor) -> Work[None]:
    yield from copying.finish()
    at_us = yield from now()
    detail = {"from": name, "messages": rows["messages"], "deliveries": rows["deliveries"]}
    yield from audit.add(AccountId(0), at_us, actor, "instance.copy", "everything", detail)


def _analyze() -> Work[None]:
    """So that the server plans by what is there now."""
    yield Sql("ANALYZE")
