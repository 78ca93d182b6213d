"""Z3: after a restore mail that left since the backup is not sent again unless a person says so."""

from __future__ import annotations

import json
from pathlib import Path

from drills.post import Post
from postroom.cli import exits
from tests.delivery.killing import SETTINGS, prepared, until
from tests.support.engine import sink
from tests.support.serve import answer, postroom
from tests.support.sink import copies, read_log

CAP = 15


async def test_z3_what_left_since_the_backup_leaves_again_only_when_asked(tmp_path: Path) -> None:
    """One waits at the backup for want of room and leaves after it; one is on its way while it is made."""
    post, before = Post(tmp_path, SETTINGS), tmp_path / "before.tar"
    waiting, away, new = "waiting@example.net", "hang+dot+once+away@example.net", "new@example.net"
    async with sink(tmp_path) as out:

        def taken() -> dict[str, int]:
            log = copies(read_log(out.options.log))
            return {person: count for (_, person), count in log.items() if person in (away, waiting, new)}

        async def send(person: str) -> str:
            sent = await post.ask("message.send", to=[person], subject="s", text="t")
            return str(sent["message_id"])

        async with prepared(post, out.port):
            await post.ask("connection.update", connection=1, fields={"hourly_cap": CAP})
            filling = [f"r{number}@example.net" for number in range(CAP - 1)]
            await post.ask("message.send", to=filling, subject="s", text="t")
            await until(lambda: set(post.recipients().values()) == {"sent"})
            await send(away)
            await until(lambda: post.recipients()[away] == "claimed" and taken().get(away) == 1)
            number = await send(waiting)
            made = answer("backup", "create", str(before), data=post.data)
            assert made["deliveries"] == {"claimed": 1, "ready": 1, "sent": CAP - 1}
            assert (
                postroom("restore", str(before), "--replace", data=post.data).returncode == exits.UNAVAILABLE
            )
            await post.ask("connection.reset_window", connection=1)
            await until(lambda: post.recipients()[waiting] == "sent")
            assert taken() == {away: 1, waiting: 1}
            await post.kill()

            assert postroom("restore", str(before), data=post.data).returncode == exits.REFUSED
            policy = {"POSTROOM_UNKNOWN_WAIT": SETTINGS["unknown_wait"]}
            done = postroom("restore", str(before), "--replace", data=post.data, environment=policy)
            assert done.returncode == 0, done.stderr
            assert "nothing is sent before you resume it" in done.stdout
            assert "queue resume --all" in done.stdout
            assert ".journal" in done.stdout  # of the killed one, which knew better
            await post.start()
            await post.ask("connection.reset_window", connection=1)
            await post.ask("connection.update", connection=1, fields={"hourly_cap": 1000})

            async def held() -> bool:
                told = await post.ask("explain", message=number)
                return "all_paused" in json.dumps(told)

            while not await held():
                pass
            await until(lambda: {post.recipients()[one] for one in (away, waiting)} == {"ready"})
            third = await send(new)
            assert int(third) > 1_000_000
            assert taken() == {away: 1, waiting: 1}

            await post.ask("queue.resume", everything=True)
            await until(lambda: set(post.recipients().values()) == {"sent"})
            assert taken() == {away: 2, waiting: 2, new: 1}
