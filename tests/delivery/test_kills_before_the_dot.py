"""SIGKILL before the final dot: the message was not out, so it goes out once, as if nothing had been."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from drills.post import Post
from postroom.core.message import Purpose
from tests.delivery.killing import SETTINGS, prepared, until
from tests.support.engine import sink
from tests.support.sink import read_log


async def test_q2_killed_while_it_waits_for_the_354(tmp_path: Path) -> None:
    post = Post(tmp_path, SETTINGS)
    people = {f"hang+data+once+{purpose.value}@example.net": purpose for purpose in Purpose}
    async with sink(tmp_path) as out, prepared(post, out.port):
        for person, purpose in people.items():
            await post.ask("message.send", to=[person], purpose=purpose.value, subject="s", text="t")
        await until(lambda: out.asked >= people.keys())
        await post.kill()
        assert not post.open_at_kill()
        assert not read_log(out.options.log)
        await post.start()
        await until(lambda: post.states() == {"sent": len(people)})
        assert sorted(record.recipient for record in read_log(out.options.log)) == sorted(people)
        database = sqlite3.connect(post.database)
        rows = database.execute("SELECT DISTINCT tries, resends, crashes, copies FROM deliveries").fetchall()
        database.close()
        # No step of its schedule; that a worker died while it was on its way is remembered.
        assert rows == [(0, 0, 1, 1)]
