"""The same idempotent request at several processes at once is one message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
from msgspec.structs import replace

from postroom.actions.accept import Accepted, Idempotency, Submission, accept_message
from postroom.core.message import Purpose
from postroom.errors import Invalid
from postroom.ids import AccountId, KeyId, ServerId
from postroom.mail.content import Mailbox
from postroom.wiring import PostRoom
from tests.processes.conftest import House, rows


def order(body: bytes = b"1", subject: str = "Order") -> Submission:
    return Submission(
        account_id=AccountId(1),
        server_id=ServerId(1),
        purpose=Purpose.TRANSACTIONAL,
        origin="test",
        to=[Mailbox("ann@example.org")],
        sender=Mailbox("post@example.com"),
        subject=subject,
        text="hello",
        idempotency=Idempotency(KeyId(1), "order-1", body),
    )


async def handed_in(
    rooms: Sequence[PostRoom], submissions: Sequence[Submission]
) -> list[Accepted | BaseException]:
    work = (accept_message(room.ctx, one) for room, one in zip(rooms, submissions, strict=True))
    return await asyncio.gather(*work, return_exceptions=True)


async def test_the_second_of_two_at_once_is_told_what_the_first_was(house: House) -> None:
    rooms = [await house.open() for _ in range(3)]
    for n in range(10):
        name = Idempotency(KeyId(1), f"order-{n}", b"1")
        told = await handed_in(rooms, [replace(order(), idempotency=name)] * 3)
        accepted = [one for one in told if isinstance(one, Accepted)]
        assert len(accepted) == 3, told
        assert len({one.message_id for one in accepted}) == 1
        assert sorted(one.replayed for one in accepted) == [False, True, True]
    assert await rows(rooms[0], "SELECT COUNT(*) FROM messages") == [(10,)]


async def test_two_other_requests_of_one_name_at_once_are_one_and_an_error(house: House) -> None:
    rooms = [await house.open() for _ in range(2)]
    told = await handed_in(rooms, [order(b"1"), order(b"2", "Another")])
    assert {type(one) for one in told} == {Accepted, Invalid}
    assert await rows(rooms[0], "SELECT COUNT(*) FROM messages") == [(1,)]


async def test_a_name_whose_request_failed_elsewhere_is_free(house: House) -> None:
    """Another process has the name and gives up; who waited at its row goes on."""
    room = await house.open()
    other = await asyncpg.connect(house.url)
    try:
        trying = other.transaction()
        await trying.start()
        await other.execute("INSERT INTO idempotency VALUES (1, 1, 'order-1', '1', 0, 9000000000000000)")
        accepting = asyncio.create_task(accept_message(room.ctx, order()))
        await until_somebody_waits(other)
        await trying.rollback()
        accepted = await accepting
    finally:
        await other.close()
    assert not accepted.replayed
    assert await rows(room, "SELECT message_id FROM idempotency") == [(accepted.message_id,)]


async def until_somebody_waits(connection: asyncpg.Connection) -> None:
    """At a lock, and for as long as that is held."""
    async with asyncio.timeout(10):
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.005)
