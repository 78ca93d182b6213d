"""What two people do in two processes at the same moment is done once, or one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from postroom.actions import by_hand, connections, identities, keys, messages, pauses, servers
from postroom.actions.connection_draft import ConnectionRules
from postroom.actions.connections import LastEnabled
from postroom.actions.pauses import Target
from postroom.control.operations import run
from postroom.core.identity import Identity
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.errors import Conflict, NotFound
from postroom.ids import AccountId, ConnectionId, LaneId, ServerId
from postroom.storage.interface import Sql, Work
from postroom.storage.lanes import ensure
from postroom.storage.routes import NewDecision, add_decisions
from postroom.wiring import PostRoom
from tests.processes.conftest import House, rows, states
from tests.support.context import ACTOR

WHOLE = Owner(AccountId(1), whole_account=True)
SERVER = Owner(AccountId(1), ServerId(1))
TIMES = 5  # a race that is lost one time in two is seen


@pytest.fixture
async def rooms(house: House) -> list[PostRoom]:
    return [await house.open() for _ in range(3)]


async def together(*work: Awaitable[object]) -> list[object]:
    """What each of them came to."""
    return await asyncio.gather(*work, return_exceptions=True)


async def lines(room: PostRoom, action: str) -> int:
    """How often the audit trail tells of it."""
    return len(await rows(room, "SELECT 1 FROM audit WHERE action = :action", action=action))


async def test_a_message_sent_again_by_two_goes_out_once_more(house: House, rooms: list[PostRoom]) -> None:
    await house.connect(rooms[0], 1)
    for n in range(TIMES):
        message = await house.send(rooms[0], "a@example.net")

        def sent() -> Work[None]:
            yield Sql("DELETE FROM ready")
            yield Sql("UPDATE deliveries SET state = 'sent', copies = 1")

        await rooms[0].store.write(sent)
        told = await together(*(by_hand.resend(room.ctx, ACTOR, WHOLE, message) for room in rooms))
        assert sum(isinstance(one, Conflict) for one in told) == 2, (n, told)
        assert await rows(rooms[0], "SELECT COUNT(*) FROM ready") == [(1,)]


async def test_a_message_cancelled_and_sent_again_at_once_is_one_or_the_other(
    house: House, rooms: list[PostRoom]
) -> None:
    await house.connect(rooms[0], 1)
    for _ in range(TIMES):
        message = await house.send(rooms[0], "a@example.net", "b@example.net")
        await together(
            messages.cancel_message(rooms[0].ctx, ACTOR, WHOLE, message),
            by_hand.retry(rooms[1].ctx, ACTOR, WHOLE, message),
            messages.cancel_message(rooms[2].ctx, ACTOR, WHOLE, message),
        )
        found = await states(rooms[0])
        queued = await rows(rooms[0], "SELECT COUNT(*) FROM ready")
        assert queued == [(found["ready"],)]
    kinds = dict(await rows(rooms[0], "SELECT kind, COUNT(*) FROM events GROUP BY kind"))
    assert kinds["cancelled"] == (await states(rooms[0]))["cancelled"]


async def test_a_server_deleted_while_its_message_is_cancelled(house: House, rooms: list[PostRoom]) -> None:
    await house.connect(rooms[0], 1)
    message = await house.send(rooms[0], *(f"a{n}@example.net" for n in range(50)))
    await together(
        messages.cancel_message(rooms[0].ctx, ACTOR, WHOLE, message),
        servers.delete_server(rooms[1].ctx, ACTOR, WHOLE, ServerId(1)),
        servers.delete_server(rooms[2].ctx, ACTOR, WHOLE, ServerId(1)),
    )
    # What was ended goes with its server; nothing of it may be left to be sent.
    assert set(await states(rooms[0])) <= {"cancelled"}
    assert await rows(rooms[0], "SELECT COUNT(*) FROM ready") == [(0,)]
    assert await lines(rooms[0], "server.delete") == 1


async def test_the_last_connection_that_is_switched_on_stays(house: House, rooms: list[PostRoom]) -> None:
    rules = ConnectionRules(keep_one_enabled=True)
    await house.connect(rooms[0], 1)
    for n in range(TIMES):
        other = await house.connect(rooms[0], 2)
        first = ConnectionId((await rows(rooms[0], _ENABLED))[0][0])
        told = await together(
            connections.delete_connection(rooms[0].ctx, ACTOR, WHOLE, first, rules),
            connections.delete_connection(rooms[1].ctx, ACTOR, WHOLE, other, rules),
        )
        assert sum(isinstance(one, LastEnabled) for one in told) == 1, (n, told)
        assert len(await rows(rooms[0], _ENABLED)) == 1


_ENABLED = "SELECT connection_id FROM connections WHERE enabled = 1 AND deleted_at IS NULL ORDER BY 1"


async def test_one_account_and_one_server_come_of_several_bootstraps(tmp_path: Path, database: str) -> None:
    async with AsyncExitStack() as stack:
        house = House(tmp_path, database, stack)
        rooms = [await house.open() for _ in range(4)]
        made = await asyncio.gather(*(run(room.desk, "bootstrap", {}) for room in rooms))
        assert {(one["account_id"], one["server_id"]) for one in made if isinstance(one, dict)} == {(1, 1)}
        assert await rows(rooms[0], "SELECT COUNT(*) FROM accounts") == [(1,)]
        assert await rows(rooms[0], "SELECT COUNT(*) FROM servers") == [(1,)]


async def test_one_identity_trusted_by_two_is_one(rooms: list[PostRoom]) -> None:
    made = await together(
        *(identities.trust(room.ctx, ACTOR, "shop.example", AccountId(1)) for room in rooms)
    )
    assert len({one.identity_id for one in made if isinstance(one, Identity)}) == 1
    assert await rows(rooms[0], "SELECT COUNT(*) FROM identities WHERE value = 'shop.example'") == [(1,)]


async def test_a_key_revoked_and_a_pause_ended_by_two_are_told_once(rooms: list[PostRoom]) -> None:
    for n in range(1, TIMES + 1):
        key, _ = await keys.create_key(rooms[0].ctx, ACTOR, SERVER, "app", ["all"])
        told = await together(*(keys.revoke_key(room.ctx, ACTOR, SERVER, key.key_id) for room in rooms))
        assert sum(isinstance(one, NotFound) for one in told) == 2
        assert await lines(rooms[0], "key.revoke") == n
        await pauses.pause(rooms[0].ctx, ACTOR, Target.everything())
        ended = await together(*(pauses.resume(room.ctx, ACTOR, Target.everything()) for room in rooms))
        assert sum(one is not None for one in ended) == 1
        assert await lines(rooms[0], "queue.resume") == n


async def test_processes_that_decide_the_same_lanes_store_each_decision_once(rooms: list[PostRoom]) -> None:
    def lanes() -> Work[list[LaneId]]:
        senders = [f"{n}@example.com" for n in range(40)]
        found = []
        for sender in senders:
            found += [(yield from ensure(AccountId(1), ServerId(1), Purpose.BROADCAST, "s", sender))]
        return found

    made = await rooms[0].store.write(lanes)
    for n in range(TIMES):
        news = [NewDecision(AccountId(1), lane, "{}", "{}", f"what {n} says", n + 1) for lane in made]
        orders = [news, news[::-1], news[20:] + news[:20]]
        works = [lambda order=order: add_decisions(order) for order in orders]
        told = await asyncio.gather(
            *(room.store.write(work) for room, work in zip(rooms, works, strict=True))
        )
        kept = [{one.lane_id: number for one, number in zip(*both)} for both in zip(orders, told)]  # noqa: B905 - of one length
        assert kept[0] == kept[1] == kept[2]
        assert len(set(kept[0].values())) == 40
        assert await rows(rooms[0], "SELECT COUNT(*), COUNT(DISTINCT lane_id) FROM decisions") == [
            (40 * (n + 1), 40)
        ]
