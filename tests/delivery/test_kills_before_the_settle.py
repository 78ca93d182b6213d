"""SIGKILL after the replies, before the database knows of them: the outcome journal does, no copy is made."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from drills.post import Post
from postroom.engine.journal import replay
from postroom.ids import WorkerId
from tests.delivery.killing import SETTINGS, prepared, until
from tests.support.engine import sink
from tests.support.sink import Received, copies, read_log


async def test_killed_with_replies_that_only_the_journal_knows(tmp_path: Path) -> None:
    post = Post(tmp_path, SETTINGS)
    locked: list[sqlite3.Connection] = []

    def lock(received: Received) -> None:
        """From the first message on nothing can be committed."""
        if not locked:
            locked.append(sqlite3.connect(post.database, timeout=10, isolation_level=None))
            locked[0].execute("BEGIN IMMEDIATE")

    async with sink(tmp_path, lock) as out, prepared(post, out.port):
        people = [f"r{number}@example.net" for number in range(60)]
        await post.ask("message.send", to=people, purpose="broadcast", subject="s", text="t")
        await until(lambda: bool(locked))
        claimed = post.states()["claimed"]
        assert claimed > 0
        await until(lambda: known_to_the_journal(post, tmp_path) == claimed)
        assert post.states()["sent"] == 0
        post.shoot()
        await post.gone()
        locked[0].close()
        assert len(read_log(out.options.log)) == claimed
        assert not post.open_at_kill()
        await post.start()
        await until(lambda: post.states() == {"sent": 60})
        taken = copies(read_log(out.options.log))
        assert len(taken) == 60
        assert set(taken.values()) == {1}


def known_to_the_journal(post: Post, folder: Path) -> int:
    """Outcomes in the journal of the living `serve`; a copy, since the journal itself is locked."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(post.journals, copy)
    return len(replay(copy, post.instance, WorkerId(1), 1).outcomes)
