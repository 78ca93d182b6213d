"""Resident memory of `serve`, idle and with mail waiting.

    python -m bench.memory [--queued 100000]

Mail waits because its connection is switched off. Prints one JSON line, in megabytes, with what is in the
database file and how fast the mail was accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bench.peers.interface import Load
from bench.peers.postroom import Postroom
from bench.sink import running_sink

SETTLE_S = 3.0


async def measure(queued: int, folder: Path) -> dict[str, float]:
    """Start, look, queue, look again."""
    post = Postroom(paused=True)
    async with running_sink() as sink:
        await post.start(folder, sink)
        try:
            await asyncio.sleep(SETTLE_S)
            idle = post.counters()
            fed = await post.feed(Load(queued, 20))
            await asyncio.sleep(SETTLE_S)
            full = post.counters()
        finally:
            await post.stop()
    database = sum(path.stat().st_size for path in (folder / "data").glob("postroom.db*"))
    return {
        "queued": queued,
        "idle_mb": round(idle["resident_mb"], 1),
        "queued_mb": round(full["resident_mb"], 1),
        "database_mb": round(database / (1 << 20), 1),
        "accepts_per_second": round(queued / fed.seconds, 1),
        "written_bytes": round((full["written_bytes"] - idle["written_bytes"]) / queued),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        sys.stdout.write(json.dumps(asyncio.run(measure(given.queued, Path(folder)))) + "\n")


if __name__ == "__main__":
    main()
