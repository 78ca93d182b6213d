"""What fails beside the engine's own work, after a commit, loses nothing and stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.errors import Unavailable
from postroom.transports.interface import Fault, Phase, Result
from tests.support.engine import Bench, bench, sink


async def test_mail_claimed_beside_a_paused_lane_goes_out_though_the_pauses_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.send(Purpose.TRANSACTIONAL, ["goes@example.net"])
        await post.send(Purpose.BROADCAST, ["waits@example.net"])
        await _give_to_another_server(post, "broadcast")
        await post.restart()
        await post.do(
            "INSERT INTO pauses (account_id, scope, target_id, created_at, actor, reason)"
            " VALUES (1, 'server', 2, 0, 'Ada', '')"
        )

        async def unreadable() -> None:
            raise Unavailable("the database is busy")

        monkeypatch.setattr(post.engine._pausing, "look", unreadable)
        made = await post.connection(out.port)
        await post.do("UPDATE connections SET server_id = NULL WHERE connection_id = :c", c=made)
        post.engine.connection_changed(made)
        assert await post.until(lambda s: s["sent"] == 1, 5.0) == {"sent": 1, "ready": 1}


async def _give_to_another_server(post: Bench, purpose: str) -> None:
    await post.do(
        "INSERT INTO servers (account_id, server_id, name, created_at, updated_at)"
        " VALUES (1, 2, 'other', 0, 0)"
    )
    await post.do("UPDATE lanes SET server_id = 2 WHERE purpose = :p", p=purpose)
    await post.do("UPDATE messages SET server_id = 2 WHERE purpose = :p", p=purpose)
    await post.do(
        "UPDATE deliveries SET server_id = 2 WHERE message_id IN"
        " (SELECT message_id FROM messages WHERE server_id = 2)"
    )


async def test_whoever_counts_outcomes_may_fail_and_settling_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port)

        def broken(*_: object) -> None:
            raise RuntimeError("no more traces")

        monkeypatch.setattr(post.engine._telling, "settled", broken)
        await post.send(Purpose.TRANSACTIONAL, [f"r{number}@example.net" for number in range(6)])
        assert await post.until_settled(5.0) == {"sent": 6}
        await post.send(Purpose.TRANSACTIONAL, ["later@example.net"])
        assert await post.until_settled(5.0) == {"sent": 7}
        assert post.engine.terms.present is not None
        await post.engine.terms.present.settler.flush()
        assert post.engine.runners[connection].outstanding == 0


async def test_a_fault_of_ours_in_the_body_uses_room_as_the_body_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port, hourly_cap=5)

        met: list[object] = []

        def broken(attempt: object) -> bool:
            met.append(attempt)
            raise RuntimeError("a fault")

        monkeypatch.setattr("postroom.engine.attempt.Attempt.before_dot", broken)
        await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        await post.until(lambda _: bool(met))
        await post.until(lambda s: s == {"ready": 1})
        (attempt,) = await post.rows("SELECT result, fault, phase FROM attempts")
        assert attempt == (Result.DEFERRED, Fault.OURS, Phase.CONNECT)
        assert await post.rows("SELECT held FROM cap") == [(1,)]
