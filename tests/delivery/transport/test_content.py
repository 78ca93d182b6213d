"""S2 outbound: what is received is what was composed, bit for bit; other software is the judge."""

from __future__ import annotations

import asyncio

import aiosmtplib
import pytest
from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Envelope as Received
from aiosmtpd.smtp import Session as Conversation
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.transports import smtp_session
from postroom.transports.dialer import Dialer
from postroom.transports.interface import Result, SmtpTarget, StartTls
from postroom.transports.smtp import SmtpTransport
from postroom.transports.smtp_session import dot_stuff
from tests.delivery.transport.speaking import PATIENT, Checks, envelope, open_session
from tests.support.scripted_smtp import ScriptedServer

# Lines in which dots and line ends crowd: everything stuffing can get wrong lies there.
line = st.lists(st.sampled_from([b".", b"..", b"a", b" ", b"\xfc", b"x" * 70]), max_size=6).map(b"".join)
body = st.lists(line, max_size=12).map(lambda lines: b"\r\n".join(lines) + b"\r\n")
HARD = [
    b".\r\n",
    b"..\r\n",
    b".\r\n.\r\n..\r\n.x\r\n",
    b"\r\n.\r\n",
    b"\r\n\r\n.\r\n\r\n",
    b"x\r\n.",  # no line end: one is added
    b"",
    b"." * 998 + b"\r\n",
]


def _expected(content: bytes) -> bytes:
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"


@settings(derandomize=True, max_examples=60, deadline=None)
@given(contents=st.lists(body, min_size=1, max_size=8), block=st.integers(1, 9))
def test_generated_bodies_arrive_bit_exact(contents: list[bytes], block: int) -> None:
    """block: with blocks this small every boundary falls between, before and after a dot."""

    async def run() -> list[bytes]:
        async with ScriptedServer() as server:
            session = await open_session(server)
            for content in contents:
                assert (await session.deliver(envelope(content), Checks())).result is Result.SENT
            await session.close()
        return [message.data for message in server.messages]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smtp_session, "BLOCK_BYTES", block)
        assert asyncio.run(run()) == contents


@given(content=body)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_stuffing_is_undone_by_the_rule(content: bytes) -> None:
    """RFC 5321 4.5.2, line by line, and no lone dot before the end."""
    stuffed = dot_stuff(content)
    lines = stuffed.split(b"\r\n")
    assert b"." not in lines
    assert b"\r\n".join(part[1:] if part.startswith(b".") else part for part in lines) == content


async def test_hard_bodies_arrive_bit_exact() -> None:
    async with ScriptedServer() as server:
        session = await open_session(server)
        for content in HARD:
            assert (await session.deliver(envelope(content), Checks())).result is Result.SENT
        await session.close()
    assert [message.data for message in server.messages] == [_expected(content) for content in HARD]


async def test_aiosmtplib_delivers_the_same_bytes() -> None:
    """The judge: for each body the server gets from us what it gets from it."""
    contents = [content for content in HARD if content] + [b"Subject: x\r\n\r\n" + b"".join(HARD)]
    async with ScriptedServer() as server:
        session = await open_session(server)
        judge = aiosmtplib.SMTP(hostname=server.host, port=server.port, start_tls=False, use_tls=False)
        await judge.connect()
        for content in contents:
            assert (await session.deliver(envelope(content), Checks())).result is Result.SENT
            await judge.sendmail("a@here.test", ["b@there.test"], content)
        await judge.quit()
        await session.close()
    ours, theirs = server.messages[::2], server.messages[1::2]
    assert len(ours) == len(theirs) == len(contents)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.data, one.sender, one.recipients) == (other.data, other.sender, other.recipients)


class _Keeper:
    def __init__(self) -> None:
        self.received: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Conversation, envelope: Received) -> str:
        assert isinstance(envelope.content, bytes)
        self.received.append(envelope.content)
        return "250 2.0.0 OK"


async def test_aiosmtpd_receives_what_was_composed() -> None:
    keeper = _Keeper()
    contents = [content for content in HARD if content.endswith(b"\r\n")]
    listener = await asyncio.get_running_loop().create_server(
        lambda: SMTP(keeper, hostname="judge.test", enable_SMTPUTF8=True), "127.0.0.1", 0
    )
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        where = SmtpTarget(host="127.0.0.1", port=port, starttls=StartTls.NEVER, timeouts=PATIENT)
        session = await SmtpTransport(where, Dialer()).open()
        for content in contents:
            outcome = await session.deliver(envelope(content), Checks())
            assert outcome.result is Result.SENT
        refused = await session.deliver(envelope(recipient="not an address"), Checks())
        assert refused.result is Result.BOUNCED
        await session.close()
    assert keeper.received == contents
