"""Lanes side by side: transactional mail first, fair shares, and trouble that holds only its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from postroom.core.message import DeliveryState, Purpose
from postroom.engine.sessions import MOST_PER_SESSION
from postroom.ids import ConnectionId, LaneId, ServerId
from postroom.mail.content import Content, Mailbox
from postroom.storage import lanes
from postroom.storage.interface import Sql, Work
from postroom.storage.messages import NewDelivery, NewMessage, pack_content
from tests.support import seed_rows
from tests.support.engine import QUICK, Bench, bench, sink
from tests.support.seed_rows import ACCOUNT, SENDER
from tests.support.sink import Received

SECOND = ServerId(2)
_SERVER = """
INSERT INTO servers (account_id, server_id, name, default_sender, created_at, updated_at)
VALUES (1, 2, 'second', 'shop@example.com', 0, 0)
"""


def numbered(word: str, count: int) -> list[str]:
    return [f"{word}{number}@example.net" for number in range(count)]


async def send_from(post: Bench, server_id: ServerId, purpose: Purpose, recipients: Sequence[str]) -> None:
    """`Bench.send` for another server than the first."""
    post.sent += 1
    name = f"s{post.sent}"

    def work() -> Work[LaneId]:
        stream = "outbound" if purpose is Purpose.TRANSACTIONAL else "broadcast"
        lane = yield from lanes.ensure(ACCOUNT, server_id, purpose, stream, SENDER)
        people = tuple(Mailbox(one) for one in recipients)
        packed = pack_content(Content(Mailbox(SENDER), people, subject=name, text="hello"))
        yield from seed_rows.insert(
            NewMessage(
                account_id=ACCOUNT,
                server_id=server_id,
                key_id=None,
                public_id=name,
                stream=stream,
                purpose=purpose,
                sender=SENDER,
                subject=name,
                rfc_message_id=f"<{name}@example.com>",
                body=packed,
                size_bytes=len(packed),
                captured=False,
                origin="test",
                options={},
                deliveries=[NewDelivery(one, one, "to", DeliveryState.READY) for one in recipients],
            ),
            lane,
        )
        return lane

    lane = await post.store.write(work)
    post.engine.wake([(lane, len(recipients))])


async def give_to(post: Bench, connection: ConnectionId, server_id: ServerId | None) -> None:
    """The connection belongs to this server, or to the whole account."""

    def work() -> Work[None]:
        yield Sql(
            "UPDATE connections SET server_id = :server WHERE connection_id = :connection",
            {"server": server_id, "connection": connection},
        )

    await post.store.write(work)
    post.engine.connection_changed(connection)


class Seen:
    """Recipients in the order the sink took them."""

    def __init__(self) -> None:
        self.recipients: list[str] = []

    def __call__(self, received: Received) -> None:
        self.recipients += received.recipients

    def of(self, word: str) -> int:
        return sum(one.startswith(word) for one in self.recipients)

    async def until(self, count: int, word: str = "") -> None:
        async with asyncio.timeout(10):
            while self.of(word) < count:
                await asyncio.sleep(0.002)


async def test_transactional_mail_goes_before_bulk_that_waits(tmp_path: Path) -> None:
    seen = Seen()
    async with sink(tmp_path, seen, delay_s=0.005) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(Purpose.BROADCAST, numbered("bulk", 400))
        await post.send(Purpose.SEQUENCE, numbered("step", 100))
        await seen.until(60)
        before = len(seen.recipients)
        await post.send(Purpose.TRANSACTIONAL, numbered("reset", 30))
        await seen.until(30, "reset")
        # What was claimed already may go first, and what left while it was accepted.
        assert len(seen.recipients) - before - 30 <= MOST_PER_SESSION * 10 + 10
        assert await post.until_settled() == {"sent": 530}


async def test_one_session_is_kept_for_transactional_mail(tmp_path: Path) -> None:
    """Bulk that hangs at every session it may have leaves one: the reset goes out at once."""
    seen = Seen()
    settings = replace(QUICK, sessions_per_connection=3)
    async with sink(tmp_path, seen) as out, bench(tmp_path, settings=settings) as post:
        await post.connection(out.port)
        await post.send(Purpose.BROADCAST, [f"hang+dot+b{number}@example.net" for number in range(20)])
        await seen.until(2, "hang")
        await post.until(lambda states: states["claimed"] == 4)
        await post.send(Purpose.TRANSACTIONAL, ["reset@example.net"])
        async with asyncio.timeout(1.0):  # a hanging session ends after 2 s
            await seen.until(1, "reset")
        assert seen.of("hang") == 2
        assert out.most_open == 3


async def test_two_servers_on_one_connection_get_the_same_share(tmp_path: Path) -> None:
    seen = Seen()
    async with sink(tmp_path, seen, delay_s=0.002) as out, bench(tmp_path) as post:
        await post.do(_SERVER)
        connection = await post.connection(out.port)
        await give_to(post, connection, None)
        await post.send(Purpose.BROADCAST, numbered("first", 1200))
        await seen.until(50)
        await send_from(post, SECOND, Purpose.BROADCAST, numbered("second", 400))
        await seen.until(1, "second")
        begun = seen.of("first")
        await seen.until(400, "second")
        # While both had mail each got about half, although the first had three times as much: but for what
        # was claimed before, and what one claim takes.
        assert abs(seen.of("first") - begun - 400) <= MOST_PER_SESSION * 10
        assert await post.until_settled() == {"sent": 1600}


async def test_a_tarpit_holds_only_its_own_mail(tmp_path: Path) -> None:
    tar, good = Seen(), Seen()
    (tmp_path / "tar").mkdir()
    async with (
        sink(tmp_path / "tar", tar) as pit,
        sink(tmp_path, good) as out,
        bench(tmp_path) as post,
    ):
        await post.do(_SERVER)
        await post.connection(pit.port)
        await give_to(post, await post.connection(out.port), SECOND)
        await post.send(Purpose.BROADCAST, [f"hang+b{number}@example.net" for number in range(100)])
        await post.until(lambda states: states["claimed"] >= 10)
        async with asyncio.timeout(1.5):  # the tarpit's sessions hang for 2 s
            await send_from(post, SECOND, Purpose.BROADCAST, numbered("bulk", 200))
            await send_from(post, SECOND, Purpose.TRANSACTIONAL, numbered("reset", 20))
            await good.until(220)
        assert not tar.recipients
        assert (await post.states())["sent"] <= 220


async def test_a_full_cap_holds_only_its_own_mail(tmp_path: Path) -> None:
    capped, good = Seen(), Seen()
    (tmp_path / "capped").mkdir()
    async with (
        sink(tmp_path / "capped", capped) as small,
        sink(tmp_path, good) as out,
        bench(tmp_path) as post,
    ):
        await post.do(_SERVER)
        await post.connection(small.port, hourly_cap=15)
        await give_to(post, await post.connection(out.port), SECOND)
        await post.send(Purpose.BROADCAST, numbered("capped", 200))
        await capped.until(15)
        await send_from(post, SECOND, Purpose.BROADCAST, numbered("bulk", 200))
        states = await post.until(lambda states: states["sent"] == 215)
        assert states == {"sent": 215, "ready": 185}
        assert len(capped.recipients) == 15
        assert len(good.recipients) == 200


async def test_mail_claimed_behind_slow_mail_gets_a_session_of_its_own(tmp_path: Path) -> None:
    """Few messages need few sessions, until one of them hangs: what waits behind it does not wait for it."""
    seen = Seen()
    async with sink(tmp_path, seen) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        await post.send(Purpose.BROADCAST, ["hang@example.net"])
        await post.until(lambda states: states["claimed"] == 1)
        await post.send(Purpose.BROADCAST, ["fine@example.net"])
        async with asyncio.timeout(1.7):  # what hangs does so for 2 s
            await seen.until(1, "fine")
