"""A rotation of the key file, while other processes seal and open with it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from postroom.actions import key_file
from postroom.actions.connection_draft import ConnectionDraft
from postroom.actions.connections import create_connection, get_connection
from postroom.control.lock import COMMAND
from postroom.core.server import Owner
from postroom.errors import Conflict
from postroom.ids import AccountId, ConnectionId
from postroom.keyring import KeyState
from postroom.wiring import PostRoom
from tests.processes.conftest import House, rows
from tests.processes.test_idempotency import until_somebody_waits
from tests.support.context import ACTOR

OWNER = Owner(AccountId(1))


async def made(room: PostRoom, password: str) -> ConnectionId:
    draft = ConnectionDraft(
        label="c",
        host="mail.example.com",
        port=587,
        auth="plain",
        for_broadcast=True,
        secrets={"smtp_username": "u", "smtp_password": password},
    )
    return (await create_connection(room.ctx, ACTOR, OWNER, draft)).connection_id


async def password(room: PostRoom, connection: ConnectionId) -> str:
    found = await get_connection(room.ctx, OWNER, connection, with_secrets=True)
    return found.secrets["smtp_password"]


async def sealing_keys(room: PostRoom) -> set[str]:
    """The keys that anything stored is sealed with."""
    return {one.key_id for one in await key_file.show(room.ctx) if sum(one.rows.values())}


async def test_every_process_seals_and_opens_with_a_key_that_one_rotated(house: House) -> None:
    here, there = await house.open(), await house.open()
    command = await house.open(COMMAND)  # which nobody tells anything
    before = await made(there, "before")

    done = await key_file.rotate(here.ctx, ACTOR)

    assert list(done.former.values()) == [KeyState.RETIRED]
    after = [await made(room, "after") for room in (there, command)]
    assert await sealing_keys(here) == {done.key_id}
    for room in (here, there, command):
        assert await password(room, before) == "before"
        assert {await password(room, one) for one in after} == {"after"}


async def test_what_is_being_sealed_is_waited_for(house: House) -> None:
    """Another process sealed with the former key and has not committed yet."""
    room = await house.open()
    sealing = await asyncpg.connect(house.url)
    try:
        unit = sealing.transaction()
        await unit.start()
        await sealing.execute("SELECT n FROM generations WHERE name = 'key_file' FOR SHARE")
        rotating = asyncio.create_task(key_file.rotate(room.ctx, ACTOR))
        await until_somebody_waits(sealing)
        states = set(room.ctx.ring.states.values())
        await unit.commit()
        await rotating
    finally:
        await sealing.close()
    assert states == {KeyState.RETIRING, KeyState.ACTIVE}  # the former one opens still


async def test_a_process_with_a_copy_of_the_file_must_have_the_new_key_first(
    house: House, tmp_path: Path
) -> None:
    here = await house.open()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(house.folder / "keys.ring", elsewhere / "keys.ring")
    there = await House(elsewhere, house.url, house.stack).open()
    connection = await made(there, "secret")
    old = here.ctx.ring.active_id
    assert here.cluster is not None
    here.cluster.presence.reported_within_s = 0.3

    with pytest.raises(Conflict, match=r"was not reported by process \d+ on .*put a copy of the key file"):
        await key_file.rotate(here.ctx, ACTOR)
    assert here.ctx.ring.active_id == old
    assert list(here.ctx.ring.states.values()) == [KeyState.ACTIVE, KeyState.ADDED]

    shutil.copy(house.folder / "keys.ring", elsewhere / "keys.ring")
    here.cluster.presence.reported_within_s = 10.0
    done = await key_file.rotate(here.ctx, ACTOR)
    assert (done.went_on, done.former) == (True, {old: KeyState.RETIRED})
    assert await password(there, connection) == "secret"


async def test_only_processes_that_live_are_asked(house: House) -> None:
    here, there, gone = await house.open(), await house.open(), await house.open()
    assert gone.cluster is not None
    await gone.cluster.wire.close()  # as when it is killed: its row stays
    await there.close()  # a goodbye takes its row
    assert here.cluster is not None
    listed = await here.cluster.presence.alive()
    assert [one.process_id for one in listed] == [here.cluster.wire.process]
    assert len(await rows(here, "SELECT 1 FROM processes")) == 2
    assert await here.cluster.presence.without_key(here.ctx.ring.active_id) == []
