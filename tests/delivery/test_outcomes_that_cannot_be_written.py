"""An outcome the database refuses holds its own delivery and stops neither the others nor a start."""

from __future__ import annotations

from pathlib import Path

from postroom.core.message import Purpose
from postroom.engine.journal import Journal
from postroom.ids import WorkerId
from postroom.storage.postgres import PostgresStore
from postroom.storage.sqlite import SqliteStore
from tests.support.engine import bench, sink
from tests.support.stores import on_both

pytestmark = on_both

_DEFERRED = (
    "EXISTS (SELECT 1 FROM deliveries"
    " WHERE delivery_id = NEW.delivery_id AND recipient LIKE 'defer%' AND tries > 0)"
)
# A rule of the database that one outcome breaks and the others do not.
_REFUSING = {
    SqliteStore: [
        f"CREATE TRIGGER refuse BEFORE INSERT ON ready WHEN {_DEFERRED} BEGIN SELECT RAISE(ABORT, 'no'); END"
    ],
    PostgresStore: [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN IF {_DEFERRED} THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER refuse BEFORE INSERT ON ready FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
}


async def test_it_is_held_and_the_others_go_on(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        for statement in _REFUSING[type(post.store)]:
            await post.do(statement)
        await post.connection(out.port)
        people = ["defer451@example.net", *(f"r{number}@example.net" for number in range(5))]
        await post.send(Purpose.BROADCAST, people)
        await post.until(lambda s: s["sent"] == 5 and s["held"] == 1, 5.0)
        rows = await post.rows("SELECT reason FROM deliveries WHERE state = 'held'")
        assert "could not be recorded" in rows[0][0]
        assert await post.rows("SELECT * FROM attempts WHERE result IS NULL") == []
        assert post.engine.open_attempts == 0


async def test_an_engine_starts_although_one_was_left_behind(tmp_path: Path) -> None:
    async with bench(tmp_path) as post:
        await post.send(Purpose.BROADCAST, ["a@example.net", "b@example.net"])
        await post.engine.stop()
        # A worker died with both claimed and its journal whole; the first one's row of the queue is still
        # there, so that it cannot be put back.
        await post.do(
            "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch, decision_id,"
            " day, granted_at) SELECT 1, delivery_id, 1, 1, 1, 1, 1, 1 FROM deliveries"
        )
        await post.do(
            "UPDATE deliveries SET state = 'claimed', worker_id = 1, epoch = 1, attempt_id ="
            " (SELECT a.attempt_id FROM attempts a WHERE a.delivery_id = deliveries.delivery_id)"
        )
        await post.do("DELETE FROM ready WHERE delivery_id = 2")
        await post.do("UPDATE workers SET ended_at = NULL")
        Journal(tmp_path / "journal", "instance", WorkerId(1), 1).close(remove=False)
        await post.restart()
        states = await post.states()
        assert states == {"held": 1, "ready": 1}
