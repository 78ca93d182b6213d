"""What one accept costs inside: statements, commits, CPU, bytes written; without HTTP in front of it.

    python -m bench.accept [--messages 3000] [--together 20]

A durable SQLite file, messages of 10 KiB to one recipient, as many accepts at once as `--together`, so that
commits are shared as they are in life. Prints one JSON line, per message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bench.peers.interface import BODY, SENDER
from postroom.actions.accept import Submission, accept_message
from postroom.config import load
from postroom.control.operations import run
from postroom.core.message import Purpose
from postroom.ids import AccountId, ServerId
from postroom.mail.content import Mailbox
from postroom.wiring import open_post_room


async def measure(messages: int, together: int, folder: Path) -> dict[str, float]:
    """Accept them all, and what it took."""
    room = await open_post_room(load({"data": str(folder / "data")}, {}))
    try:
        await run(room.desk, "bootstrap", {"sender": SENDER})
        numbers = iter(range(messages))

        async def one_after_another() -> None:
            for number in numbers:
                await accept_message(
                    room.ctx,
                    Submission(
                        account_id=AccountId(1),
                        server_id=ServerId(1),
                        purpose=Purpose.TRANSACTIONAL,
                        origin="bench",
                        to=[Mailbox(f"r{number}@example.net")],
                        subject="Bench",
                        text=BODY,
                    ),
                )

        before = room.store.statements, room.store.commits, _written(), time.process_time()
        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(together)))
        wall = time.perf_counter() - began
        return {
            "per_second": round(messages / wall, 1),
            "cpu_ms": round((time.process_time() - before[3]) * 1000 / messages, 3),
            "statements": round((room.store.statements - before[0]) / messages, 2),
            "commits": round((room.store.commits - before[1]) / messages, 3),
            "written_bytes": round((_written() - before[2]) / messages),
        }
    finally:
        await room.close()


def _written() -> int:
    """Bytes this process had written to a disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--together", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        told = uvloop.run(measure(given.messages, given.together, Path(folder)))
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
