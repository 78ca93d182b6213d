"""swaks, which postmasters test with: every login and wire, pipelined, and what it shows of a refusal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.inbound.tls import server_tls
from tests.inbound.submission.desk import SENDER, Desk, open_desk
from tests.support.tools import DEBIAN, needs, perl_environment

pytestmark = needs("debian")
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Told:
    """How swaks ended, and the dialogue it printed."""

    status: int
    dialogue: str

    def heard(self, code: str) -> list[str]:
        """The replies that begin with this code."""
        lines = [line.lstrip("<-~* ") for line in self.dialogue.splitlines() if line.startswith("<")]
        return [line for line in lines if line.startswith(code)]


async def swaks(desk: Desk, *more: str, host: str = "127.0.0.1", password: str = "") -> Told:
    process = await asyncio.create_subprocess_exec(
        *("perl", DEBIAN / "usr/bin/swaks", "--server", host, "--port", str(desk.port)),
        *("--from", SENDER, "--to", "b@example.net,c@example.net", "--timeout", "5", "--ehlo", "me.example"),
        *(("--auth-user", desk.text, "--auth-password", password or desk.text) if "--auth" in more else ()),
        *more,
        env=perl_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    return Told(process.returncode or 0, out.decode("utf-8", "replace"))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("pipelined", [False, True], ids=["step by step", "pipelined"])
async def test_every_login(desk: Desk, mechanism: str, pipelined: bool) -> None:
    told = await swaks(desk, "--auth", mechanism, *(["--pipeline"] if pipelined else []))
    assert told.status == 0, told.dialogue
    (stored,) = await desk.stored()
    assert told.heard("250 2.0.0 Ok") == [f"250 2.0.0 Ok: queued as {stored.message.public_id}"]
    assert [row.recipient for row in stored.deliveries] == ["b@example.net", "c@example.net"]
    assert b"X-Mailer: swaks" in stored.raw


@pytest.mark.parametrize("wire", ["--tls", "--tls-on-connect"])
async def test_over_tls_with_the_certificate_verified(tmp_path: Path, wire: str) -> None:
    own = await asyncio.to_thread(server_tls, tmp_path / "tls", "localhost")
    async with open_desk(tmp_path, tls=own.context, implicit_tls=wire == "--tls-on-connect") as desk:
        trusting = ("--tls-verify", "--tls-ca-path", str(own.certificate))
        told = await swaks(desk, "--auth", "PLAIN", wire, *trusting, host="localhost")
        assert told.status == 0, told.dialogue
        (stored,) = await desk.stored()
        assert "with ESMTPSA id" in stored.content.trace
        untrusting = await swaks(desk, "--auth", "PLAIN", wire, "--tls-verify", host="localhost")
        assert untrusting.status != 0
        assert len(await desk.stored()) == 1


async def test_what_it_is_told_when_it_may_not(desk: Desk) -> None:
    wrong = await swaks(desk, "--auth", "PLAIN", password="wrong")
    assert wrong.heard("535 5.7.8")
    stranger = await swaks(desk, "--auth", "PLAIN", "--header", "From: ceo@rival.example")
    assert stranger.heard("550 5.7.1")
    none = await swaks(desk)
    assert none.heard("530 5.7.0")
    assert 0 not in {wrong.status, stranger.status, none.status}
    assert await desk.stored() == []
