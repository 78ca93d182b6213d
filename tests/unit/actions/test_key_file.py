"""The key file's rotation: everything opens before, while and after it, wherever it stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from postroom.actions import key_file
from postroom.actions.connection_draft import ConnectionChanges, ConnectionDraft
from postroom.actions.connections import (
    create_connection,
    get_connection,
    list_connections,
    update_connection,
)
from postroom.actions.context import Context
from postroom.core.server import Owner
from postroom.errors import Conflict, NotFound
from postroom.ids import ConnectionId
from postroom.keyring import KeyRing, KeyState
from postroom.storage import audit, instance_keys
from postroom.storage.audit import Wanted
from postroom.storage.interface import Sql, Work
from postroom.storage.sqlite import SqliteStore
from tests.support.context import ACTOR, Harness
from tests.support.stores import on_both, on_sqlite

pytestmark = on_both


def draft(number: int) -> ConnectionDraft:
    return ConnectionDraft(
        label=f"c{number}",
        host="mail.example.com",
        port=587,
        auth="plain",
        for_broadcast=True,
        secrets={"smtp_username": f"u{number}", "smtp_password": f"p{number}"},
    )


async def connections(ctx: Context, owner: Owner, count: int) -> dict[ConnectionId, str]:
    """So many connections; their passwords by number."""
    made = [await create_connection(ctx, ACTOR, owner, draft(number)) for number in range(count)]
    return {one.connection_id: one.secrets["smtp_password"] for one in made}


async def passwords(ctx: Context, owner: Owner) -> dict[ConnectionId, str]:
    found, _ = await list_connections(ctx, owner, limit=500, with_secrets=True)
    return {one.connection_id: one.secrets["smtp_password"] for one in found}


async def seals(ctx: Context) -> dict[str, int]:
    """How many values each key seals."""
    return {one.key_id: sum(one.rows.values()) for one in await key_file.show(ctx)}


async def test_a_rotation_leaves_everything_readable_and_nothing_under_the_former_key(
    ctx: Context, owner: Owner, harness: Harness
) -> None:
    made = await connections(ctx, owner, 120)  # with their user names more than two slices
    signing = await ctx.store.write(lambda: instance_keys.load(ctx.ring, "unsubscribe"))
    old = ctx.ring.active_id

    done = await key_file.rotate(ctx, ACTOR)
    new = ctx.ring.active_id
    assert (done.key_id, done.went_on, done.sealed_anew) == (new, False, 241)
    assert done.former == {old: KeyState.RETIRED}
    assert await seals(ctx) == {old: 0, new: 241}
    assert KeyRing.load(ctx.ring.path).states == {old: KeyState.RETIRED, new: KeyState.ACTIVE}
    assert await passwords(ctx, owner) == made
    assert await ctx.store.write(lambda: instance_keys.load(ctx.ring, "unsubscribe")) == signing
    lines = await ctx.store.read(lambda: audit.list_lines(Wanted(key_file.NOBODY)))
    assert (lines[0].action, lines[0].target) == ("key_file.rotate", f"key file, key {new}")


async def test_the_former_key_may_be_kept_and_retired_later(ctx: Context, owner: Owner) -> None:
    made = await connections(ctx, owner, 1)
    old = ctx.ring.active_id
    with pytest.raises(Conflict, match="still seals 2 of connection_secrets"):
        await key_file.retire(ctx, ACTOR, old)
    assert (await key_file.rotate(ctx, ACTOR, keep=True)).former == {old: KeyState.KEPT}
    second = ctx.ring.active_id
    assert (await key_file.rotate(ctx, ACTOR)).former == {second: KeyState.RETIRED}  # not the kept one

    assert (await key_file.retire(ctx, ACTOR, old)).state is KeyState.RETIRED
    assert await passwords(ctx, owner) == made
    with pytest.raises(NotFound):
        await key_file.retire(ctx, ACTOR, "ffffffff")
    with pytest.raises(Conflict, match="`postroom key-file rotate` seals them anew"):
        await key_file.retire(ctx, ACTOR, ctx.ring.active_id)


class Crash(BaseException):
    """Nothing after this point runs."""


class CrashAt:
    """Counts durable steps, each before and after it is done, and stops at one of them."""

    def __init__(self, ctx: Context, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step, self.steps = step, 0
        rename, write = os.rename, ctx.store.write

        def renaming(source: Path, target: Path) -> None:
            self._count()
            rename(source, target)
            self._count()

        async def writing(work: Callable[[], Work[Any]], size_bytes: int = 0) -> Any:
            self._count()
            value = await write(work, size_bytes)
            self._count()
            return value

        monkeypatch.setattr(os, "rename", renaming)
        monkeypatch.setattr(ctx.store, "write", writing)

    def _count(self) -> None:
        self.steps += 1
        if self.steps == self.step:
            raise Crash


async def test_wherever_it_stops_everything_opens_and_the_next_one_goes_on(
    ctx: Context, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each rename and each commit; what is in memory is lost, as in a crash."""
    monkeypatch.setattr(key_file, "SLICE", 3)
    made = await connections(ctx, owner, 4)
    steps = 0
    for step in range(1, 100):
        before = ctx.ring.active_id
        with monkeypatch.context() as patching:
            crash = CrashAt(ctx, step, patching)
            with contextlib.suppress(Crash):
                await key_file.rotate(ctx, ACTOR)
        if crash.steps < step:
            steps = crash.steps
            break
        ring = KeyRing.load(ctx.ring.path)
        ctx = Context(ctx.store, ctx.clock, ring, ctx.hearer, ctx.prober)
        assert await passwords(ctx, owner) == made, step
        await ctx.store.write(lambda: instance_keys.check(ring))  # noqa: B023 - awaited at once
        await key_file.rotate(ctx, ACTOR)
        assert await passwords(ctx, owner) == made, step
        states = ctx.ring.states
        assert list(states.values()).count(KeyState.ACTIVE) == 1
        assert set(states.values()) == {KeyState.ACTIVE, KeyState.RETIRED}, step
        assert ctx.ring.active_id != before, step
        assert (await seals(ctx))[ctx.ring.active_id] == 9
    assert steps >= 16, "the last rotation ran to its end"


async def test_it_goes_on_with_the_key_it_had_made(ctx: Context, owner: Owner) -> None:
    await connections(ctx, owner, 1)
    old = ctx.ring.active_id
    added = ctx.ring.add()
    done = await key_file.rotate(ctx, ACTOR)
    assert (done.key_id, done.went_on, done.sealed_anew) == (added, True, 2)

    ctx.ring.activate(ctx.ring.add())
    done = await key_file.rotate(ctx, ACTOR)
    assert (done.key_id, done.went_on, done.former) == (ctx.ring.active_id, True, {added: KeyState.RETIRED})
    assert list(ctx.ring.states) == [old, added, done.key_id]


async def test_a_secret_set_while_a_slice_is_under_way_stays(
    ctx: Context, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = await connections(ctx, owner, 1)
    read = ctx.store.read

    async def reading(work: Callable[[], Work[Any]]) -> Any:
        rows = await read(work)
        monkeypatch.undo()
        changes = ConnectionChanges(secrets={"smtp_password": "newer"})
        await update_connection(ctx, ACTOR, owner, number, changes)
        return rows

    monkeypatch.setattr(ctx.store, "read", reading)
    done = await key_file.rotate(ctx, ACTOR)
    assert await passwords(ctx, owner) == {number: "newer"}
    assert done.sealed_anew == 1  # the user name


@on_sqlite
async def test_what_was_being_written_when_the_new_key_came_is_not_overlooked(
    ctx: Context, harness: Harness
) -> None:
    """A secret sealed with the former key whose commit comes after the new key's activation."""
    assert isinstance(harness.store, SqliteStore)
    waiting = harness.store._waiting
    old, uid = ctx.ring.active_id, b"u" * 16
    sealed_it = threading.Event()

    def slow() -> Work[None]:
        value = ctx.ring.seal(b"k" * 32, uid=uid, table="instance_keys", field="key")
        sealed_it.set()
        while not waiting:  # until the rotation is behind its activation and waits for us
            time.sleep(0.001)
        yield Sql(
            "INSERT INTO instance_keys (kind, key_id, uid, sealed, created_at) VALUES ('open', 1, :u, :v, 0)",
            {"u": uid, "v": value},
        )

    writing = asyncio.create_task(ctx.store.write(slow))
    await asyncio.to_thread(sealed_it.wait, 10)
    done = await key_file.rotate(ctx, ACTOR)
    await writing
    assert (done.sealed_anew, done.former) == (1, {old: KeyState.RETIRED})


async def test_secrets_made_changed_and_read_all_the_while_never_fail(ctx: Context, owner: Owner) -> None:
    made = await connections(ctx, owner, 30)
    ended = asyncio.Event()
    looks = 0

    async def keep(step: Callable[[int], Awaitable[object]]) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            await step(number)

    async def change(number: int) -> None:
        one = list(made)[number % 30]  # only this task changes
        changes = ConnectionChanges(secrets={"smtp_password": f"q{number}"})
        await update_connection(ctx, ACTOR, owner, one, changes)
        made[one] = f"q{number}"

    async def look(number: int) -> None:
        nonlocal looks
        one = list(made)[number % 30]
        found = await get_connection(ctx, owner, one, with_secrets=True)
        assert found.secrets["smtp_password"][0] in "pq"
        looks += 1

    async def create(number: int) -> None:
        if number <= 40:
            one = await create_connection(ctx, ACTOR, owner, draft(1000 + number))
            made[one.connection_id] = one.secrets["smtp_password"]
        else:
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for step in (change, look, look, create):
            group.create_task(keep(step))
        for _ in range(8):
            await key_file.rotate(ctx, ACTOR)
        ended.set()

    assert looks > 8
    assert await passwords(ctx, owner) == made
    assert set((await seals(ctx)).values()) == {0, 2 * len(made)}


async def test_a_value_that_does_not_open_keeps_its_key_and_is_named(ctx: Context, owner: Owner) -> None:
    first, second = await connections(ctx, owner, 2)

    def damage() -> Work[None]:
        yield Sql(
            "UPDATE connection_secrets SET sealed = substr(sealed, 1, 30)"
            " WHERE connection_id = :c AND field = 'smtp_password'",
            {"c": first},
        )

    await ctx.store.write(damage)
    old = ctx.ring.active_id
    for _ in range(2):
        with pytest.raises(Conflict, match=rf"1 stored secrets.*connection_secrets {first} smtp_password"):
            await key_file.rotate(ctx, ACTOR)
    assert ctx.ring.states[old] is KeyState.RETIRING
    assert await seals(ctx) == {old: 1, ctx.ring.active_id: 3}

    await update_connection(ctx, ACTOR, owner, first, ConnectionChanges(secrets={"smtp_password": "again"}))
    assert (await key_file.rotate(ctx, ACTOR)).former == {old: KeyState.RETIRED}
    assert await passwords(ctx, owner) == {first: "again", second: "p1"}


async def test_a_key_file_that_cannot_be_changed_is_a_conflict_and_changes_nothing(
    ctx: Context, owner: Owner
) -> None:
    made = await connections(ctx, owner, 1)
    old, text = ctx.ring.active_id, ctx.ring.path.read_bytes()
    ctx.ring.path.unlink()
    with pytest.raises(Conflict, match="no key file at"):
        await key_file.rotate(ctx, ACTOR)
    KeyRing.create(ctx.ring.path)
    with pytest.raises(Conflict, match="another key file"):
        await key_file.rotate(ctx, ACTOR)

    ctx.ring.path.write_bytes(text)
    assert await passwords(ctx, owner) == made
    assert ctx.ring.active_id == old
    assert (await key_file.rotate(ctx, ACTOR)).former == {old: KeyState.RETIRED}
