"""The peers of the fault matrix: one cell of the table -> a scripted server that does just that, once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from postroom.transports.interface import Timeouts
from tests.delivery.faults.table import Row, Trouble
from tests.support.certs import Certs
from tests.support.fault_bench import LOGIN, PATIENT, SOON_S, USERS, BlackHole
from tests.support.scripted_smtp import (
    Action,
    Kind,
    Script,
    ScriptedServer,
    Stage,
    drop,
    endless,
    garbage,
    hang,
    long_line,
    ok,
    reply,
    reset,
    send,
)

_STAGES = {
    Row.CONNECT: Stage.CONNECT,
    Row.BANNER: Stage.BANNER,
    Row.EHLO: Stage.EHLO,
    Row.STARTTLS: Stage.STARTTLS,
    Row.EHLO2: Stage.EHLO2,
    Row.AUTH: Stage.AUTH,
    Row.MAIL: Stage.MAIL,
    Row.RCPT: Stage.RCPT,
    Row.DATA: Stage.DATA,
    Row.BODY: Stage.MID_BODY,
    Row.DOT: Stage.AFTER_DOT,
    Row.DOT_BULK: Stage.AFTER_DOT,
    Row.QUIT: Stage.QUIT,
}
_OFFERED = "".join(f"250-{word}\r\n" for word in LOGIN).encode()
_CLEAR = b"250-scripted.test\r\n" + _OFFERED + b"250 STARTTLS\r\n"
_SECURED = b"250-scripted.test\r\n" + _OFFERED + b"250 HELP\r\n"

# The wait that runs out at a stage; elsewhere it is that for a reply to a command.
_WAITS = {
    Row.CONNECT: "connect_s",
    Row.BANNER: "banner_s",
    Row.DATA: "data_s",
    Row.BODY: "body_s",
    Row.DOT: "reply_s",
    Row.DOT_BULK: "reply_s",
    Row.QUIT: "quit_s",
}

# The reply that each stage expects, and the one that comes next in a session.
_GOOD: dict[Row, tuple[bytes, bytes]] = {
    Row.BANNER: (b"220 scripted.test ESMTP\r\n", _CLEAR),
    Row.EHLO: (_CLEAR, b"220 2.0.0 ready\r\n"),
    Row.STARTTLS: (b"220 2.0.0 ready\r\n", _SECURED),
    Row.EHLO2: (_SECURED, b"235 2.7.0 welcome\r\n"),
    Row.AUTH: (b"235 2.7.0 welcome\r\n", b"250 2.1.0 sender ok\r\n"),
    Row.MAIL: (b"250 2.1.0 sender ok\r\n", b"250 2.1.5 recipient ok\r\n"),
    Row.RCPT: (b"250 2.1.5 recipient ok\r\n", b"354 go ahead\r\n"),
    Row.DATA: (b"354 go ahead\r\n", b"250 2.0.0 Ok: queued as EARLY\r\n"),
    Row.BODY: (b"", b"250 2.0.0 Ok: queued as EARLY\r\n"),
    Row.DOT: (b"250 2.0.0 Ok: queued as GOOD\r\n", b"221 2.0.0 bye\r\n"),
    Row.DOT_BULK: (b"250 2.0.0 Ok: queued as GOOD\r\n", b"221 2.0.0 bye\r\n"),
    Row.QUIT: (b"221 2.0.0 bye\r\n", b"250 2.0.0 what else?\r\n"),
}
_REFUSALS: dict[Row, Action] = {
    Row.BANNER: reply("554 5.7.1 no SMTP service for you"),
    Row.EHLO: reply("502 5.5.1 command not implemented"),
    Row.STARTTLS: send(_SECURED),  # at EHLO: it is not offered
    Row.EHLO2: reply("502 5.5.1 command not implemented"),
    Row.AUTH: reply("535 5.7.8 authentication failed"),
    Row.MAIL: reply("553 5.1.8 sender address rejected: not owned by user"),
    Row.RCPT: reply("554 5.7.1 relay access denied"),
    Row.DATA: reply("554 5.6.0 content refused"),
    Row.BODY: reply("552 5.3.4 message too big", then=Kind.HANG),
    Row.DOT: reply("554 5.7.1 identified as spam"),
    Row.DOT_BULK: reply("554 5.7.1 identified as spam"),
    Row.QUIT: reply("500 5.5.2 what?"),
}


def action(row: Row, trouble: Trouble) -> Action:
    """What the peer does at this stage."""
    match trouble:
        case Trouble.REFUSE:
            return _REFUSALS[row]
        case Trouble.HANG:
            return hang()
        case Trouble.DROP:
            return drop()
        case Trouble.RESET:
            return reset()
        case Trouble.LATER:
            return reply("451 4.3.0 later", then=Kind.HANG if row is Row.BODY else Kind.OK)
        case Trouble.NEVER:
            return reply("550 5.1.1 no such user", then=Kind.HANG if row is Row.BODY else Kind.OK)
        case Trouble.CLOSING:
            return reply("421 4.3.2 going down", then=Kind.DROP)
        case Trouble.GARBAGE:
            return garbage()
        case Trouble.LONG_LINE:
            return long_line()
        case Trouble.ENDLESS:
            return endless()
        case Trouble.EARLY:
            return send(b"".join(_GOOD[row]), then=Kind.HANG if row is Row.BODY else Kind.OK)
        case Trouble.SPLIT:
            good = _GOOD[row][0]
            return send(*(good[i : i + 1] for i in range(len(good))))


def stage(row: Row, trouble: Trouble) -> Stage:
    """Where the peer acts."""
    if (row, trouble) == (Row.STARTTLS, Trouble.REFUSE):
        return Stage.EHLO
    return _STAGES[row]


def script(row: Row, trouble: Trouble) -> Script:
    """The trouble once, then all is well."""
    return {stage(row, trouble): [action(row, trouble), ok()]}


@dataclass
class Peer:
    """A server with one trouble ahead, and the port that is dialled at first: its own, or a dead one."""

    server: ScriptedServer
    port: int
    timeouts: Timeouts


@asynccontextmanager
async def peer(row: Row, trouble: Trouble, certs: Certs) -> AsyncIterator[Peer]:
    """The peer of one cell. It wants TLS and a login, as a provider's does."""
    dead = row is Row.CONNECT and trouble in (Trouble.REFUSE, Trouble.HANG)
    server = ScriptedServer(
        {} if dead else script(row, trouble),
        tls=certs.server(),
        users=USERS,
        # Where it answers ahead of time the stages come one by one, so that it is ahead of just this one.
        extensions=[w for w in LOGIN if w != "PIPELINING" or trouble is not Trouble.EARLY],
        receive_buffer=8192 if row is Row.BODY else None,
    )
    timeouts = PATIENT
    if trouble is Trouble.HANG:
        timeouts = replace(PATIENT, **{_WAITS.get(row, "command_s"): SOON_S})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        port = server.port
        if dead and trouble is Trouble.HANG:
            port = (await stack.enter_async_context(BlackHole())).port
        elif dead:
            closed = stack.enter_context(socket.socket())
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        yield Peer(server, port, timeouts)
