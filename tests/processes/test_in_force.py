"""What is changed in one process is in force in the others, when it says so or a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from postroom.actions import connections, messages, pauses
from postroom.actions.pauses import Target
from postroom.control.lock import COMMAND
from postroom.control.operations import run
from postroom.core.server import Owner
from postroom.engine.attempt import Attempt
from postroom.engine.health import Verdict
from postroom.ids import AccountId, ConnectionId
from postroom.wiring import PostRoom
from tests.processes.conftest import House, rows, states, until, until_states
from tests.processes.test_idempotency import until_somebody_waits
from tests.support.context import ACTOR
from tests.support.engine import sink
from tests.support.sink import Sink

WHOLE = Owner(AccountId(1), whole_account=True)


@dataclass
class Two:
    """`here` delivers nothing, `there` does, over one connection to `out`."""

    house: House
    here: PostRoom
    there: PostRoom
    out: Sink
    connection: ConnectionId

    def attempts(self) -> list[Attempt]:
        """What `there` holds."""
        return list(self.there.dispatcher._attempts.values())

    async def claimed(self, *recipients: str) -> str:
        """A message handed in here whose deliveries are all held there."""
        message = await self.house.send(self.here, *recipients)
        await until_states(self.here, {"claimed": len(recipients)})
        await until(lambda: len(self.attempts()) == len(recipients))
        return message

    def cut(self) -> None:
        """The peer hangs up."""
        for session in list(self.out.open):
            session.cut()


@pytest.fixture
async def two(house: House, tmp_path: Path) -> AsyncIterator[Two]:
    async with sink(tmp_path) as out:
        here, there = await house.open(), await house.deliver(sessions_per_connection="1")
        connection = await house.connect(here, out.port)
        await until(lambda: connection in there.dispatcher.runners)
        try:
            yield Two(house, here, there, out, connection)
        finally:
            await there.dispatcher.stop(0.0)


async def test_mail_handed_in_at_one_process_leaves_at_once_from_another(two: Two) -> None:
    """Half a minute passes before anybody looks by itself."""
    await two.house.send(two.here, "a@example.net")
    await until_states(two.here, {"sent": 1})


async def test_a_command_that_ends_at_once_is_heard(two: Two) -> None:
    command = await two.house.open(COMMAND)
    await two.house.send(command, "a@example.net")
    await command.close()
    await until_states(two.here, {"sent": 1})


async def test_what_another_process_holds_is_cancelled_before_its_dot(two: Two) -> None:
    message = await two.claimed("hang@example.net")
    assert two.here.cluster is not None
    two.here.cluster.everybody.wait_s = 10.0
    cancelling = asyncio.create_task(messages.cancel_message(two.here.ctx, ACTOR, WHOLE, message))
    await until(lambda: all(one.cancelled for one in two.attempts()))
    two.cut()
    done = await cancelling
    assert (len(done.cancelled), done.past_dot) == (1, ())
    assert await states(two.here) == {"cancelled": 1}
    assert two.out.accepted == 0


async def test_what_is_past_its_dot_elsewhere_is_named(two: Two) -> None:
    message = await two.claimed("hang+dot@example.net")
    await until(lambda: two.out.accepted == 1)
    done = await messages.cancel_message(two.here.ctx, ACTOR, WHOLE, message)
    assert (done.cancelled, len(done.past_dot)) == ((), 1)


async def test_a_deleted_connection_gives_back_what_it_holds_elsewhere(two: Two) -> None:
    await two.claimed("hang@example.net", "b@example.net")
    assert two.here.cluster is not None
    two.here.cluster.everybody.wait_s = 10.0
    deleting = asyncio.create_task(connections.delete_connection(two.here.ctx, ACTOR, WHOLE, two.connection))
    await until(lambda: sorted(one.withdrawn for one in two.attempts()) in ([False], [False, True]))
    two.cut()
    assert await deleting == frozenset()
    assert await states(two.here) == {"ready": 2}
    assert two.out.accepted == 0


async def test_what_a_deleted_connection_has_on_its_way_elsewhere_is_named(two: Two) -> None:
    await two.claimed("hang+dot@example.net")
    await until(lambda: two.out.accepted == 1)
    late = await connections.delete_connection(two.here.ctx, ACTOR, WHOLE, two.connection)
    assert list(await rows(two.here, "SELECT delivery_id FROM deliveries")) == [tuple(late)]


async def test_a_pause_is_in_force_in_every_process_when_it_says_so(two: Two) -> None:
    await two.claimed("hang+dot@example.net")
    await until(lambda: two.out.accepted == 1)
    done = await pauses.pause(two.here.ctx, ACTOR, Target.connection(WHOLE, two.connection))
    assert done.on_their_way == 1
    await until(lambda: two.there.dispatcher.runners[two.connection].paused)
    await two.house.send(two.here, "b@example.net")
    await two.there.dispatcher.reread()
    assert await states(two.here) == {"claimed": 1, "ready": 1}
    await pauses.resume(two.here.ctx, ACTOR, Target.connection(WHOLE, two.connection))
    await until_states(two.here, {"claimed": 2})  # behind the one that hangs


async def test_a_claim_that_is_being_committed_is_waited_for(two: Two) -> None:
    """It holds its worker's row, and may have looked at the pauses before this one was there."""
    other = await asyncpg.connect(two.house.url)
    try:
        claim = other.transaction()
        await claim.start()
        assert await other.fetch("SELECT worker_id FROM workers WHERE ended_at IS NULL FOR KEY SHARE")
        pausing = asyncio.create_task(pauses.pause(two.here.ctx, ACTOR, Target.everything()))
        await until_somebody_waits(other)
        assert len(await rows(two.here, "SELECT 1 FROM pauses")) == 1
        assert not pausing.done()
        await claim.commit()
        assert (await pausing).made
    finally:
        await other.close()


async def test_a_connection_that_failed_elsewhere_is_known_here(two: Two) -> None:
    """Half a minute passes before anybody looks by itself."""
    await two.here.dispatcher.start()
    try:
        await until(lambda: two.connection in two.here.dispatcher.runners)
        runner = two.here.dispatcher.runners[two.connection]
        await two.there.dispatcher.judged(two.there.dispatcher.runners[two.connection], Verdict.FAIL)
        await until(lambda: runner.route.failed_at is not None)
    finally:
        await two.here.dispatcher.stop(0.0)


async def test_counters_set_back_here_let_mail_go_there(two: Two) -> None:
    await run(
        two.here.desk, "connection.update", {"connection": two.connection, "fields": {"hourly_cap": 15}}
    )
    await two.house.send(two.here, *(f"a{n}@example.net" for n in range(16)))
    await until_states(two.here, {"sent": 15, "ready": 1})
    await run(two.here.desk, "connection.reset_window", {"connection": two.connection})
    await until_states(two.here, {"sent": 16})
