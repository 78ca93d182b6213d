"""SIGKILL while the final dot is out and its reply is not: at most one copy more, never a message less."""

from __future__ import annotations

from pathlib import Path

from drills.post import Post
from postroom.core.message import Purpose
from tests.delivery.killing import SETTINGS, prepared, until
from tests.support.engine import sink
from tests.support.sink import copies, read_log


async def test_q1_killed_between_dot_and_reply(tmp_path: Path) -> None:
    """Transactional mail is sent once more under its Message-ID; broadcast mail is unverified, and not."""
    post = Post(tmp_path, SETTINGS)
    people = {purpose: f"hang+dot+once+{purpose.value}@example.net" for purpose in Purpose}
    async with sink(tmp_path) as out, prepared(post, out.port):
        for purpose, person in people.items():
            await post.ask("message.send", to=[person], purpose=purpose.value, subject="s", text="t")
        await until(lambda: out.accepted == len(people))
        await post.kill()
        assert len(post.open_at_kill()) == len(people)
        await post.start()
        await until(lambda: not post.states().keys() - {"sent", "unverified"})
        assert post.recipients() == {
            people[Purpose.TRANSACTIONAL]: "sent",
            people[Purpose.BROADCAST]: "unverified",
            people[Purpose.SEQUENCE]: "unverified",
        }
        taken = copies(read_log(out.options.log))
        assert len(taken) == len(people)  # so both copies of the one bear the same Message-ID
        assert {person: count for (_, person), count in taken.items()} == {
            people[Purpose.TRANSACTIONAL]: 2,
            people[Purpose.BROADCAST]: 1,
            people[Purpose.SEQUENCE]: 1,
        }
