"""The key file's rotation: a new key, everything sealed anew under it, the former key gone.

    add ─► activate ─► seal anew, slice by slice ─► nothing left under the former key ─► retire (or keep)

Each step is durable before the next begins and may be repeated: where a rotation stopped, by a crash or an
error, the next one goes on. Mail goes out meanwhile, for a process opens with every key of its ring.

Nothing stays behind under the former key: whoever stores a secret seals it inside the unit of work that
writes it, after a look at the generation that the rotation raises behind the activation (`sealing`), and a
value replaced while a slice was under way is left alone (it is compared before it is exchanged).

Where several processes run, each that is alive must have reported the new key before it is activated; one
with a copy of the file elsewhere has it when somebody put it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from postroom.actions.context import Context
from postroom.core.actor import Actor
from postroom.errors import Conflict, NotFound
from postroom.ids import AccountId
from postroom.keyring import KeyringError, KeyState
from postroom.storage import audit, generations, sealed
from postroom.storage.interface import Work, now
from postroom.storage.sealed import SealedColumn, SealedRow

SLICE = 100  # values that one unit of work exchanges
KIND = "key of the key file"
NOBODY = AccountId(0)  # the key file is no account's
_MOST_NAMED = 20


@dataclass(frozen=True)
class FileKey:
    """One key of the ring, without its bytes. rows: how many values of each table it seals."""

    key_id: str
    state: KeyState
    created: str
    rows: Mapping[str, int]


@dataclass
class Rotation:
    """What a rotation did. former: keys that were replaced, and what became of them."""

    key_id: str = ""
    went_on: bool = False  # with one that had stopped
    sealed_anew: int = 0
    former: dict[str, KeyState] = field(default_factory=dict)


async def show(ctx: Context) -> list[FileKey]:
    """Every key of the ring, retired ones included, in the file's order."""
    rows = await ctx.store.read(sealed.rows_by_key)
    created = ctx.ring.created
    return [FileKey(one, state, created[one], rows.get(one, {})) for one, state in ctx.ring.states.items()]


async def rotate(ctx: Context, actor: Actor, *, keep: bool = False) -> Rotation:
    """Replace the key that seals, or go on with a rotation that stopped. Run one at a time.

    keep: the former key goes on opening, for backups that were made under it. Raises Conflict when the key
    file cannot be changed, or a stored value does not open (it stays as it is, and its key in the ring).
    """
    try:
        await asyncio.to_thread(ctx.ring.reload)  # another process may have begun
        done = await _activate(ctx)
        # What was sealed before that is committed when this is, and will be seen.
        await ctx.store.write(lambda: generations.advance(generations.KEY_FILE))
        done.sealed_anew, stuck = await _seal_anew(ctx, done.key_id)
        if stuck:
            raise Conflict(_do_not_open(stuck))
        for key_id, state in ctx.ring.states.items():
            if state is KeyState.RETIRING:
                await _require_unused(ctx, key_id)
                await asyncio.to_thread(ctx.ring.keep if keep else ctx.ring.retire, key_id)
                done.former[key_id] = ctx.ring.states[key_id]
    except KeyringError as error:
        raise Conflict(str(error)) from error
    former = {key_id: state.value for key_id, state in done.former.items()}
    await _audit(
        ctx, actor, "key_file.rotate", done.key_id, {"sealed_anew": done.sealed_anew, "former": former}
    )
    return done


async def retire(ctx: Context, actor: Actor, key_id: str) -> FileKey:
    """Remove a key that nothing here is sealed with. Raises NotFound, Conflict."""
    if key_id not in ctx.ring.states:
        raise NotFound(KIND)
    if ctx.ring.states[key_id] is not KeyState.RETIRED:
        await _require_unused(ctx, key_id)
        try:
            await asyncio.to_thread(ctx.ring.retire, key_id)
        except KeyringError as error:
            raise Conflict(str(error)) from error
        await _audit(ctx, actor, "key_file.retire", key_id, {})
    return FileKey(key_id, ctx.ring.states[key_id], ctx.ring.created[key_id], {})


async def _activate(ctx: Context) -> Rotation:
    """A new key that seals from now on; the one at hand where a rotation stopped after this step."""
    states = ctx.ring.states.values()
    if KeyState.RETIRING in states:
        return Rotation(ctx.ring.active_id, went_on=True)
    went_on = KeyState.ADDED in states
    key_id = await asyncio.to_thread(ctx.ring.add)
    if ctx.peers is not None:
        missing = await ctx.peers.without_key(key_id)
        if missing:
            raise Conflict(_not_everywhere(key_id, missing))
    await asyncio.to_thread(ctx.ring.activate, key_id)
    return Rotation(key_id, went_on)


async def _seal_anew(ctx: Context, key_id: str) -> tuple[int, list[Mapping[str, object]]]:
    """Exchange every value that another key seals; how many were, and which do not open."""
    total, stuck = 0, list[Mapping[str, object]]()
    for one in sealed.COLUMNS:
        after: tuple[Any, ...] | None = None  # Any: integers and texts
        while rows := await ctx.store.read(partial(sealed.not_under, one, key_id, after, SLICE)):
            changes: list[tuple[SealedRow, bytes]] = []
            for row in rows:
                try:
                    changes.append((row, _anew(ctx, one, row)))
                except KeyringError as error:
                    stuck.append({**sealed.describe(one, row), "error": str(error)})
            total += await ctx.store.write(partial(sealed.replace, one, changes))
            after = rows[-1].keys
    return total, stuck


def _anew(ctx: Context, one: SealedColumn, row: SealedRow) -> bytes:
    table = one.table.name
    plain = ctx.ring.open(row.sealed, uid=row.uid, table=table, field=row.field)
    return ctx.ring.seal(plain, uid=row.uid, table=table, field=row.field)


async def _require_unused(ctx: Context, key_id: str) -> None:
    # A writing unit, though it only looks: it stands in line behind all that is being written.
    rows = (await ctx.store.write(sealed.rows_by_key)).get(key_id)
    if rows:
        told = ", ".join(f"{count} of {table}" for table, count in rows.items())
        raise Conflict(f"key {key_id} still seals {told}; `postroom key-file rotate` seals them anew")


def _not_everywhere(key_id: str, missing: Sequence[str]) -> str:
    return (
        f"the new key {key_id} is in the key file and seals nothing yet, for it was not reported by"
        f" {', '.join(missing)}: put a copy of the key file there, then run `postroom key-file rotate` again"
    )


def _do_not_open(stuck: Sequence[Mapping[str, object]]) -> str:
    named = "; ".join(
        " ".join(str(value) for name, value in one.items() if name != "error") + f": {one['error']}"
        for one in stuck[:_MOST_NAMED]
    )
    return (
        f"{len(stuck)} stored secrets do not open and stay as they are, with the key they need: {named}. "
        "Set them again, then run `postroom key-file rotate` again"
    )


async def _audit(ctx: Context, actor: Actor, action: str, key_id: str, detail: Mapping[str, object]) -> None:
    def work() -> Work[None]:
        at = yield from now()
        target = f"key file, key {key_id}"
        yield from audit.add(NOBODY, at, actor, action, target, detail)

    await ctx.store.write(work)
