"""A key that one process makes or revokes is as good or as bad in every other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from postroom.actions import keys, servers
from postroom.actions.generations import LOOK_EVERY_S
from postroom.core.server import Owner
from postroom.errors import Unauthenticated
from postroom.ids import AccountId, DeliveryId, ServerId
from postroom.tracking.tokens import TokenKind
from tests.processes.conftest import House
from tests.support.clock import FakeClock
from tests.support.context import ACTOR

OWNER = Owner(AccountId(1), ServerId(1))


async def test_a_key_revoked_elsewhere_is_refused_within_half_a_second(house: House) -> None:
    clock = FakeClock()
    here, there = await house.open(), await house.open(clock=clock)
    revoked, text = await keys.create_key(here.ctx, ACTOR, OWNER, "app", ["all"])
    kept, other = await keys.create_key(here.ctx, ACTOR, OWNER, "other", ["all"])
    for _ in range(2):  # a new one is known at once, and then remembered
        assert (await keys.authenticate(there.ctx, text.reveal())).key_id == revoked.key_id
    await keys.revoke_key(here.ctx, ACTOR, OWNER, revoked.key_id)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(here.ctx, text.reveal())

    clock.advance(LOOK_EVERY_S)

    with pytest.raises(Unauthenticated):
        await keys.authenticate(there.ctx, text.reveal())
    assert (await keys.authenticate(there.ctx, other.reveal())).key_id == kept.key_id


async def test_the_keys_of_a_server_deleted_elsewhere_are_refused(house: House) -> None:
    clock = FakeClock()
    here, there = await house.open(), await house.open(clock=clock)
    _, text = await keys.create_key(here.ctx, ACTOR, OWNER, "app", ["all"])
    await keys.authenticate(there.ctx, text.reveal())
    await servers.delete_server(here.ctx, ACTOR, OWNER, ServerId(1))

    clock.advance(LOOK_EVERY_S)

    with pytest.raises(Unauthenticated):
        await keys.authenticate(there.ctx, text.reveal())


async def test_remembered_keys_cost_two_looks_a_second_and_idleness_none(house: House) -> None:
    clock = FakeClock()
    room = await house.open(clock=clock)
    _, text = await keys.create_key(room.ctx, ACTOR, OWNER, "app", ["all"])
    await keys.authenticate(room.ctx, text.reveal())
    await room.ctx.keys.close()  # its first use is written down
    before = room.store.statements
    for _ in range(100):
        await keys.authenticate(room.ctx, text.reveal())
        clock.advance(LOOK_EVERY_S / 101)
    assert room.store.statements - before == 0
    clock.advance(LOOK_EVERY_S)
    await keys.authenticate(room.ctx, text.reveal())
    assert room.store.statements - before == 1


async def test_several_first_starts_at_once_agree_on_the_key_file(tmp_path: Path, database: str) -> None:
    async with AsyncExitStack() as stack:
        house = House(tmp_path, database, stack)
        rooms = await asyncio.gather(*(house.open() for _ in range(4)))
        assert len({room.ctx.ring.active_id for room in rooms}) == 1
        assert len({room.instance for room in rooms}) == 1
        assert len({room.links.token(TokenKind.UNSUBSCRIBE, DeliveryId(1)) for room in rooms}) == 1
