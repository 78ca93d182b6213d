"""A backup of a drill, restored into a folder of its own: it starts, holds everything, and waits to be told.

It shares the sink with the drill it comes from, whose books are closed by then: what it sends again once it
is resumed are the second copies that docs/backup.md speaks of.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from drills.beside import Backup
from drills.post import Post
from postroom.cli.exits import OK
from tests.support.sink import read_log

PATIENCE_S = 60.0
_NEW = "after-the-restore@example.net"


async def problems_of(backup: Backup, folder: Path, settings: Mapping[str, str], sink_log: Path) -> list[str]:
    """Restore it into an empty folder and look; what is wrong, one sentence each."""
    folder.mkdir()
    post = Post(folder, settings)
    given = () if backup.key_file is None else ("--key-file", str(backup.key_file))
    code, answer = await post.command("restore", str(backup.target), *given)
    if code != OK:
        return [f"the restore ended with {code}: {answer['error']['text']}"]
    await post.start()
    found = []
    try:
        if missing := backup.accepted - post.recipients().keys():
            found.append(f"the restored one lacks {len(missing)} that were accepted before its backup")
        found += await _silent(post, sink_log)
        found += await _goes_on(post, sink_log)
    except TimeoutError:
        found.append(f"the restored one is stuck: {dict(post.states())}")
    finally:
        code = await post.stop()
    if code != OK:
        found.append(f"the restored one ended with {code}")
    return found


async def _silent(post: Post, sink_log: Path) -> list[str]:
    """It decided about new mail, and about all that was open, and nothing left."""
    before = len(read_log(sink_log))
    sent = await post.ask("message.send", to=[_NEW], subject="new", text="new")
    async with asyncio.timeout(PATIENCE_S):
        number = str(sent["message_id"])
        while "all_paused" not in json.dumps(await post.ask("explain", message=number)):
            await asyncio.sleep(0.05)
        while post.states()["claimed"] + post.states()["unknown"]:
            await asyncio.sleep(0.05)
    left = len(read_log(sink_log)) - before
    return [f"the restored one sent {left} before it was resumed"] if left else []


async def _goes_on(post: Post, sink_log: Path) -> list[str]:
    """Resumed, it sends all that waits."""
    resumed = await post.ask("queue.resume", everything=True)
    for one in resumed["still"]:  # what was paused when the backup was made
        await post.ask("queue.resume", **{one["scope"]: one["id"]})
    async with asyncio.timeout(PATIENCE_S):
        while post.states()["ready"] + post.states()["claimed"] + post.states()["unknown"]:
            await asyncio.sleep(0.05)
    arrived = any(record.recipient == _NEW for record in read_log(sink_log))
    return [] if arrived else ["the restored one did not send new mail once it was resumed"]
