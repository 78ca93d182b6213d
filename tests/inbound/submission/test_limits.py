"""Bounds of sessions, time and memory, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.inbound.submission.desk import MAIL, Desk, Dialogue, dialogue, open_desk, talking, until
from tests.support.certs import Certs


@asynccontextmanager
async def two(desk: Desk) -> AsyncIterator[tuple[Dialogue, Dialogue]]:
    async with dialogue(desk.port) as first, dialogue(desk.port) as second:
        yield first, second


@pytest.mark.parametrize("bound", [{"max_sessions": 2}, {"sessions_per_address": 2}])
async def test_the_session_above_the_limit_is_told_to_come_back(
    tmp_path: Path, bound: dict[str, int]
) -> None:
    async with open_desk(tmp_path, sessions=bound) as desk, two(desk) as (first, second):
        assert [(await one.reply())[:3] for one in (first, second)] == ["220", "220"]
        async with dialogue(desk.port) as third:
            told = await third.reply()
            assert told[:9] == "421 4.7.0"
            assert " 2 sessions" in told
            assert await third.reply() == ""
        assert await first.say(b"QUIT") == "221 2.0.0 Bye"
        assert await first.reply() == ""
        async with dialogue(desk.port) as fourth:
            assert (await fourth.reply())[:3] == "220"


async def test_idle_sessions_end_sooner_before_a_login(tmp_path: Path) -> None:
    async with talking(tmp_path, sessions={"login_s": 0.05}) as (desk, client):
        assert [reply[:9] for reply in await client.replies()] == ["220 local", "421 4.4.2"]
    async with talking(tmp_path / "b", sessions={"idle_s": 0.05}) as (desk, client):
        await client.log_in(desk.text)
        assert [reply[:9] for reply in await client.replies()] == ["421 4.4.2"]


async def test_a_message_has_a_time_as_a_whole(tmp_path: Path) -> None:
    async with open_desk(tmp_path, sessions={"data_s": 0.1}) as desk:
        async with dialogue(desk.port) as client:
            await client.log_in(desk.text)
            await client.address()
            assert (await client.say(b"DATA"))[:3] == "354"
            drip = asyncio.create_task(_drip(client.writer))
            assert (await client.reply())[:9] == "421 4.4.2"
            drip.cancel()
            await asyncio.gather(drip, return_exceptions=True)
            await until(lambda: not desk.server.sessions)
        assert await desk.stored() == []


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.005)


async def test_a_peer_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    bounds = {"login_s": 0.1, "idle_commands": 10**9}
    async with open_desk(tmp_path, sessions=bounds, send_buffer_bytes=4096) as desk:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", desk.port))
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(_shout(peer), 5)
            await until(lambda: not desk.server.sessions)


async def _shout(peer: socket.socket) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(peer, b"EHLO me\r\n" * 1000)


async def test_memory_of_all_sessions_together_is_bounded(tmp_path: Path) -> None:
    large = MAIL + (b"x" * 98 + b"\r\n") * 20
    async with open_desk(tmp_path, sessions={"memory_bytes": 3000}) as desk, two(desk) as (first, second):
        for client in (first, second):
            await client.log_in(desk.text)
            await client.address()
            assert (await client.say(b"DATA"))[:3] == "354"
        first.writer.write(large)
        await until(lambda: desk.server.held_bytes == len(large))
        assert (await second.say(large + b".")).startswith("452 4.3.1 More than 3000 bytes")
        assert (await first.say(b"."))[:3] == "250"
        assert (await second.send(large))[:3] == "250"


async def test_enough_messages_for_one_session(tmp_path: Path) -> None:
    async with talking(tmp_path, sessions={"messages_per_session": 2}) as (desk, client):
        await client.log_in(desk.text)
        for _ in range(2):
            assert (await client.send())[:3] == "250"
        told = await client.say(b"MAIL FROM:<shop@example.com>")
        assert told.startswith("421 4.7.0 This session has sent 2 messages")
        assert await client.reply() == ""


async def test_an_old_session_ends_what_it_has_begun_and_takes_no_more(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        await client.address()
        desk.server.limits = replace(desk.server.limits, session_s=0.0)
        assert (await client.data(MAIL))[:3] == "250"
        told = await client.say(b"MAIL FROM:<shop@example.com>")
        assert told == "421 4.7.0 This session is older than 0 s, connect again"
        assert await client.reply() == ""
    assert len(await desk.stored()) == 1


async def test_an_old_session_is_no_way_to_stay_by_never_ending_a_transaction(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        await client.address()
        desk.server.limits = replace(desk.server.limits, session_s=0.0, data_s=0.0)
        assert (await client.say(b"RCPT TO:<c@example.net>"))[:9] == "421 4.7.0"
    async with dialogue(desk.port) as client:
        await client.reply()
        assert await client.say(b"QUIT") == "221 2.0.0 Bye", "a goodbye is always heard"


async def test_all_sockets_count_as_one(tmp_path: Path, certs: Certs) -> None:
    bounds = {"max_sessions": 3, "memory_bytes": 3000}
    async with open_desk(tmp_path, tls=certs.server(), sessions=bounds) as desk:
        second = socket.create_server(("127.0.0.1", 0))
        secure_port = second.getsockname()[1]
        await desk.server.start(second, certs.server)
        async with dialogue(desk.port) as clear, dialogue(secure_port, certs.client()) as secure:
            for client in (clear, secure):
                await client.log_in(desk.text)
                await client.address()
                assert (await client.say(b"DATA"))[:3] == "354"
            large = MAIL + (b"x" * 98 + b"\r\n") * 20
            clear.writer.write(large)
            await until(lambda: desk.server.held_bytes == len(large))
            assert (await secure.say(large + b"."))[:9] == "452 4.3.1"
            async with dialogue(desk.port) as third:
                assert (await third.reply())[:3] == "220"
                async with dialogue(desk.port) as fourth:
                    assert (await fourth.reply())[:9] == "421 4.7.0"
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    async with dialogue(secure_port, certs.client()):
                        pass
            await desk.server.stop()
            assert (await secure.reply())[:9] == "421 4.3.2"
        for port in (desk.port, secure_port):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)


async def test_stop_answers_what_is_being_stored_and_drops_what_is_half_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, let_go = asyncio.Event(), asyncio.Event()
    real = desk.ctx.store.write

    async def slow(*given: object, **named: object) -> object:
        reached.set()
        await let_go.wait()
        return await real(*given, **named)  # type: ignore[arg-type]  # handed through as they came

    async with dialogue(desk.port) as busy, dialogue(desk.port) as half, dialogue(desk.port) as idle:
        await idle.reply()
        for client in (busy, half):
            await client.log_in(desk.text)
            await client.address()
            assert (await client.say(b"DATA"))[:3] == "354"
        monkeypatch.setattr(desk.ctx.store, "write", slow)
        half.writer.write(MAIL)
        busy.writer.write(MAIL + b".\r\n")
        await asyncio.wait_for(reached.wait(), 5)
        stopping = asyncio.create_task(desk.server.stop())
        for client in (idle, half):
            assert (await client.reply())[:9] == "421 4.3.2"
            assert await client.reply() == ""
        assert not stopping.done()
        let_go.set()
        assert (await busy.reply())[:3] == "250"
        assert (await busy.reply())[:9] == "421 4.3.2"
        await asyncio.wait_for(stopping, 5)
    await desk.server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", desk.port)
    assert len(await desk.stored()) == 1
