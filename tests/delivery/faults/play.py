"""Plays one fault against a running engine, and holds everything seen against the answer expected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from postroom.core.message import FINAL_STATES, DeliveryState, Purpose
from postroom.ids import ConnectionId, MessageId
from postroom.transports.interface import Fault, Phase, Result
from tests.delivery.faults.table import Answer, Room
from tests.support.fault_bench import FaultBench
from tests.support.scripted_smtp import ScriptedServer, Stage

_PATIENCE_S = 15.0  # for a busy machine; nothing here waits for time to pass
_MOST_STEPS = 12  # of time, until everything has ended: minutes, then hours


@dataclass
class Seen:
    """The first delivery after the peer's trouble, everything settled and no time passed."""

    state: str
    tries: int
    attempts: list[tuple[str, str, str]]  # result, fault, phase
    held: int
    released: int
    backs_off: bool
    refused_logins: int
    refused_senders: int
    suppressions: int


async def until(what: Callable[[], Awaitable[bool]], timeout_s: float = _PATIENCE_S) -> None:
    """Look again and again until it is so."""
    async with asyncio.timeout(timeout_s):
        while not await what():
            await asyncio.sleep(0.005)


async def state_of(post: FaultBench, message: MessageId) -> DeliveryState:
    """Of a message with one recipient."""
    return DeliveryState(await post.value("SELECT state FROM deliveries WHERE message_id = :m", m=message))


async def at_rest(post: FaultBench, connection: ConnectionId, message: MessageId) -> bool:
    """Whether nothing more happens to this message until time passes."""
    if post.engine.open_attempts:
        return False
    rows = await post.rows("SELECT state, due FROM deliveries WHERE message_id = :m", m=message)
    state, due = rows[0]
    if state in FINAL_STATES:
        return True
    if state == DeliveryState.CLAIMED or (state == DeliveryState.UNKNOWN and due <= post.clock.now_us()):
        return False
    if due > post.clock.now_us() or post.backs_off(connection):
        return True
    refused = await post.value("SELECT 1 FROM refused_senders WHERE until > :now", now=post.clock.now_us())
    chosen = [state.chosen for state in post.engine._book.lanes.values() if not state.stale]
    return refused is not None and not any(connection in one for one in chosen)


async def look(post: FaultBench, connection: ConnectionId, message: MessageId) -> Seen:
    """Everything there is to see of this message and its connection."""
    rows = await post.rows(
        "SELECT a.result, a.fault, a.phase FROM attempts a"
        " JOIN deliveries d ON d.delivery_id = a.delivery_id WHERE d.message_id = :m ORDER BY a.attempt_id",
        m=message,
    )
    where = {"c": connection}
    released = "SELECT COALESCE(SUM(n), 0) FROM cap_release WHERE connection_id = :c"
    return Seen(
        state=await state_of(post, message),
        tries=await post.value("SELECT tries FROM deliveries WHERE message_id = :m", m=message),
        attempts=[(row[0], row[1], row[2]) for row in rows],
        held=await post.value("SELECT held FROM cap WHERE connection_id = :c", **where) or 0,
        released=await post.value(released, **where),
        backs_off=post.backs_off(connection),
        refused_logins=post.runner(connection).troubles._logins,
        refused_senders=await post.value("SELECT COUNT(*) FROM refused_senders"),
        suppressions=await post.value("SELECT COUNT(*) FROM suppressions"),
    )


def check(seen: Seen, answer: Answer, phase: Phase | None = None, before: int = 0) -> None:
    """Hold what was seen against the answer. phase: where the trouble was. before: sent earlier."""
    tried = [] if answer.result is None else [answer]
    assert [one[:2] for one in seen.attempts] == [(one.result, one.fault) for one in tried]
    if phase is not None and tried:
        assert seen.attempts[0][2] == phase
    if not tried:
        assert seen.refused_logins == int(answer.fault is Fault.LOGIN)
    assert (seen.state, seen.tries) == (answer.state, answer.tries)
    used = before + (answer.room is Room.USED)
    assert (seen.held, seen.released) == (used, used)
    assert seen.backs_off == answer.backs_off
    assert seen.refused_senders == int(answer.refuses_sender)
    assert seen.suppressions == int(answer.suppressed)


async def pass_time(post: FaultBench, connection: ConnectionId, message: MessageId) -> DeliveryState:
    """Let time pass, a minute first and then more, until this message has ended; returns its state."""
    for step in range(_MOST_STEPS):
        state = await state_of(post, message)
        if state in FINAL_STATES:
            return state
        post.time.advance(61.0 if step < 2 else 1200.0)
        await until(lambda: at_rest(post, connection, message))
    raise AssertionError(f"{message} has not ended")


async def check_it_works(post: FaultBench, connection: ConnectionId, purpose: Purpose) -> None:
    """The next message through this connection goes out, and the books are right."""
    post.time.advance(61.0)
    message = await post.mail(purpose, ["next@example.net"])
    await until(lambda: at_rest(post, connection, message))
    assert await state_of(post, message) is DeliveryState.SENT
    last = await post.rows("SELECT connection_id, result FROM attempts ORDER BY attempt_id DESC LIMIT 1")
    assert last == [(connection, Result.SENT)]
    await post.check_books()
    assert post.complaints() == []


def check_no_clear_login(server: ScriptedServer) -> None:
    """Every login had an EHLO inside TLS of its own before it (`Stage.EHLO2` is only met there)."""
    secured = logins = 0
    for stage in server.met:
        secured += stage is Stage.EHLO2
        logins += stage is Stage.AUTH
        assert logins <= secured


def copies(server: ScriptedServer, recipient: str) -> int:
    """How many whole messages to this recipient the server has and did not refuse."""
    return sum(
        one.complete and one.recipients == [recipient] and one.answer[:1] not in (b"4", b"5")
        for one in server.transactions
    )


def message_ids(server: ScriptedServer) -> set[bytes]:
    """Message-ID lines of all whole messages the server has."""
    return {
        line
        for one in server.transactions
        if one.complete
        for line in one.data.split(b"\r\n")
        if line.startswith(b"Message-ID:")
    }
