"""A session's life: many deliveries, RSET after a failure, staleness, closing, cutting."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from dataclasses import replace

import pytest

from postroom.transports.dialer import Dialer, DialPrivate
from postroom.transports.interface import Fault, OpenFailed, Phase, Result
from postroom.transports.smtp import SmtpTransport
from tests.delivery.transport.speaking import HASTY, Checks, envelope, open_session, target
from tests.support.scripted_smtp import (
    Action,
    Kind,
    Script,
    ScriptedServer,
    Stage,
    drop,
    hang,
    ok,
    reply,
    reset,
    send,
)

PLAIN = ("8BITMIME", "SIZE 0", "SMTPUTF8")
PIPELINED = (*PLAIN, "PIPELINING")
both = pytest.mark.parametrize("extensions", [PLAIN, PIPELINED], ids=["step by step", "pipelined"])


@both
async def test_many_deliveries_on_one_connection(extensions: tuple[str, ...]) -> None:
    async with ScriptedServer(extensions=extensions) as server:
        session = await open_session(server)
        for number in range(20):
            outcome = await session.deliver(envelope(recipient=f"r{number}@there.test"), Checks())
            assert outcome.result is Result.SENT
        assert (session.deliveries, session.usable) == (20, True)
        await session.close()
        assert not session.usable
    assert server.connections == 1
    assert [m.recipients for m in server.messages] == [[f"r{n}@there.test"] for n in range(20)]
    assert Stage.RSET not in server.met


@both
@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.AFTER_DOT])
async def test_reset_after_a_failed_transaction(stage: Stage, extensions: tuple[str, ...]) -> None:
    script = {stage: [reply("550 5.0.0 no"), ok()]}
    async with ScriptedServer(script, extensions=extensions) as server:
        session = await open_session(server)
        first = await session.deliver(envelope(recipient="one@there.test"), Checks())
        second = await session.deliver(envelope(recipient="two@there.test"), Checks())
        third = await session.deliver(envelope(recipient="three@there.test"), Checks())
        await session.close()
    assert [o.result for o in (first, second, third)] == [Result.BOUNCED, Result.SENT, Result.SENT]
    assert [m.recipients for m in server.messages] == [["two@there.test"], ["three@there.test"]]
    assert server.commands.count("RSET") == 1
    assert server.connections == 1


@both
@pytest.mark.parametrize(
    "action", [reply("500 5.5.1 no reset"), drop(), hang()], ids=["refused", "drop", "hang"]
)
async def test_a_reset_that_fails_returns_the_delivery(action: Action, extensions: tuple[str, ...]) -> None:
    script: Script = {Stage.RCPT: [reply("550 5.1.1 no"), ok()], Stage.RSET: action}
    async with ScriptedServer(script, extensions=extensions) as server:
        session = await open_session(server, timeouts=HASTY)
        await session.deliver(envelope(), Checks())
        outcome = await session.deliver(envelope(), Checks())
        await session.close()
    assert (outcome.result, outcome.fault, outcome.phase) == (Result.RETURNED, Fault.CONNECTION, Phase.MAIL)
    assert outcome.before_mail_reply
    assert not outcome.session_usable
    assert not server.messages


@both
@pytest.mark.parametrize("action", [drop(), reset()], ids=["drop", "reset"])
async def test_a_stale_session_says_so(action: Action, extensions: tuple[str, ...]) -> None:
    script: Script = {Stage.MAIL: [ok(), action]}
    async with ScriptedServer(script, extensions=extensions) as server:
        session = await open_session(server)
        assert (await session.deliver(envelope(), Checks())).result is Result.SENT
        outcome = await session.deliver(envelope(), Checks())
        await session.close()
    assert (outcome.result, outcome.fault) == (Result.RETURNED, Fault.CONNECTION)
    assert outcome.before_mail_reply
    assert not outcome.session_usable


@pytest.mark.parametrize("farewell", [b"421 4.4.2 idle for too long\r\n", b""])
async def test_a_session_closed_while_idle_is_not_usable(farewell: bytes) -> None:
    action = send(b"250 2.0.0 Ok: queued as 1\r\n", farewell, then=Kind.DROP)
    async with ScriptedServer({Stage.AFTER_DOT: action}) as server:
        session = await open_session(server)
        assert (await session.deliver(envelope(), Checks())).result is Result.SENT
        async with asyncio.timeout(5):
            while session.usable:
                await asyncio.sleep(0.001)
        outcome = await session.deliver(envelope(), Checks())
        await session.close()
    assert (outcome.result, outcome.before_mail_reply) == (Result.RETURNED, True)
    assert outcome.code == (421 if farewell else 0)
    assert len(server.transactions) == 1


@pytest.mark.parametrize("action", [ok(), hang(), drop(), reset(), reply("500 no")])
async def test_close_is_quick_and_never_raises(action: Action) -> None:
    async with ScriptedServer({Stage.QUIT: action}) as server:
        session = await open_session(server, timeouts=HASTY)
        async with asyncio.timeout(1):
            await session.close()
            await session.close()
        await server.until(lambda s: s.open == 0)
    assert server.commands[-1] == "QUIT"


@pytest.mark.parametrize(
    ("stage", "result", "phase"),
    [(Stage.RCPT, Result.RETURNED, Phase.RCPT), (Stage.AFTER_DOT, Result.UNKNOWN, Phase.DOT)],
)
async def test_abort_in_mid_delivery(stage: Stage, result: Result, phase: Phase) -> None:
    async with ScriptedServer({stage: hang()}) as server:
        session = await open_session(server)
        delivery = asyncio.create_task(session.deliver(envelope(), Checks()))
        await server.until(lambda s: stage in s.met)
        # What came before is read first, so that the phase is exact.
        for _ in range(10):
            await asyncio.sleep(0)
        session.abort()
        outcome = await delivery
        await server.until(lambda s: s.open == 0)
        await session.close()
    assert (outcome.result, outcome.fault, outcome.phase) == (result, Fault.OURS, phase)
    assert not session.usable


async def test_cancelling_a_delivery_cuts_the_connection() -> None:
    async with ScriptedServer({Stage.RCPT: hang()}) as server:
        session = await open_session(server)
        delivery = asyncio.create_task(session.deliver(envelope(), Checks()))
        await server.until(lambda s: Stage.RCPT in s.met)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        assert not session.usable
        await server.until(lambda s: s.open == 0)
        await session.close()


async def test_a_checkpoint_that_raises_cuts_the_connection_and_is_heard() -> None:
    def full(name: str) -> None:
        if name == "dot":
            raise OSError(errno.ENOSPC, "the journal cannot be written")

    async with ScriptedServer() as server:
        session = await open_session(server)
        with pytest.raises(OSError, match="journal"):
            await session.deliver(envelope(), Checks(then=full))
        await server.until(lambda s: s.open == 0)
        await session.close()
    assert not session.usable
    assert not any(t.complete for t in server.transactions)


async def test_one_delivery_at_a_time() -> None:
    async with ScriptedServer({Stage.MAIL: hang()}) as server:
        session = await open_session(server)
        delivery = asyncio.create_task(session.deliver(envelope(), Checks()))
        await server.until(lambda s: Stage.MAIL in s.met)
        with pytest.raises(RuntimeError, match="one delivery"):
            await session.deliver(envelope(), Checks())
        session.abort()
        await delivery
        await session.close()


async def test_opening_can_be_cancelled() -> None:
    async with ScriptedServer({Stage.EHLO: hang()}) as server:
        opening = asyncio.create_task(open_session(server))
        await server.until(lambda s: Stage.EHLO in s.met)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await server.until(lambda s: s.open == 0)


async def test_an_answered_wait_does_not_end_the_session_later() -> None:
    async with ScriptedServer() as server:
        session = await open_session(server, timeouts=HASTY)
        assert (await session.deliver(envelope(), Checks())).result is Result.SENT
        all_limits_over = asyncio.Event()
        asyncio.get_running_loop().call_later(HASTY.reply_s * 1.5, all_limits_over.set)
        await all_limits_over.wait()
        assert (await session.deliver(envelope(), Checks())).result is Result.SENT
        await session.close()
    assert server.connections == 1


async def test_a_host_that_may_not_or_cannot_be_reached() -> None:
    async with ScriptedServer() as server:
        where = target(server)
        for dialer, text in (
            (Dialer(DialPrivate.NONE), "this destination may not be dialled; see the setting dial_private"),
            (Dialer(resolver=_nowhere), "cannot resolve the host name"),
        ):
            with pytest.raises(OpenFailed) as failed:
                await SmtpTransport(replace(where, host="localhost"), dialer).open()
            outcome = failed.value.outcome
            assert (outcome.fault, outcome.phase, outcome.text) == (Fault.CONNECTION, Phase.CONNECT, text)
    with pytest.raises(OpenFailed) as failed:
        await SmtpTransport(where, Dialer()).open()
    assert "connection refused" in failed.value.outcome.text
    assert server.connections == 0


async def _nowhere(host: str, port: int) -> Sequence[str]:
    raise OSError("no such name")
