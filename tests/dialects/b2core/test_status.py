"""The status call against real SMTP servers: each way to fail has its reason."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from postroom.actions.probes import Trouble, trouble
from postroom.transports.dialer import Dialer
from postroom.transports.interface import AuthMethod, SmtpTarget, StartTls, Timeouts
from postroom.transports.smtp import SmtpTransport, probe
from tests.support.certs import Certs
from tests.support.scripted_smtp import ScriptedServer, Stage, hang, reply

SHORT = Timeouts(connect_s=0.3, banner_s=0.3, command_s=0.3, quit_s=0.3)


async def reason(port: int, starttls: StartTls = StartTls.NEVER, host: str = "127.0.0.1") -> Trouble:
    target = SmtpTarget(
        host,
        port,
        starttls=starttls,
        auth=AuthMethod.AUTO,
        username="user",
        password="wrong",
        helo_name="here.test",
        timeouts=SHORT,
    )
    return trouble(await probe(SmtpTransport(target, Dialer())))


async def test_8_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert await reason(port) is Trouble.REFUSED


async def test_8_a_name_that_is_none() -> None:
    assert await reason(25, host="no-such-host.invalid") is Trouble.UNREACHABLE


@pytest.mark.parametrize("stage", [Stage.BANNER, Stage.EHLO, Stage.AUTH])
async def test_8_a_server_that_says_nothing(stage: Stage) -> None:
    async with ScriptedServer({stage: hang()}, users={"user": "right"}, extensions=("AUTH PLAIN",)) as server:
        assert await reason(server.port) is Trouble.TIMEOUT


async def test_8_a_server_that_turns_us_away() -> None:
    async with ScriptedServer({Stage.BANNER: reply("554 5.7.1 go away")}) as server:
        assert await reason(server.port) is Trouble.REFUSED


async def test_8_a_wrong_password() -> None:
    async with ScriptedServer(users={"user": "right"}, extensions=("AUTH PLAIN",)) as server:
        assert await reason(server.port) is Trouble.AUTH


async def test_8_tls_that_is_not_there_and_a_certificate_nobody_trusts(tmp_path: Path) -> None:
    async with ScriptedServer(users={"user": "right"}, extensions=("AUTH PLAIN",)) as server:
        assert await reason(server.port, StartTls.REQUIRED) is Trouble.TLS
    tls = Certs().server("127.0.0.1")
    async with ScriptedServer(tls=tls, users={"user": "right"}, extensions=("AUTH PLAIN",)) as server:
        assert await reason(server.port, StartTls.REQUIRED) is Trouble.TLS
