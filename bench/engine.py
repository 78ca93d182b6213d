"""From the queue to a sink: what the engine delivers a second, and what each delivery costs.

    python -m bench.engine [--messages 3000] [--connections 1]

A sink process on loopback, a durable SQLite file, 10 KiB messages. Prints one JSON line: deliveries a
second, CPU milliseconds, statements and commits per delivery, and the ratio of two interleaved halves
(near 1, or the machine is too noisy to compare anything on it).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

import structlog
import uvloop

from postroom.core.message import Purpose
from tests.support.engine import bench
from tests.support.sink import sink_process

BODY = "\n".join("All work and no play makes a dull post room, line after line." for _ in range(160))


async def measure(messages: int, connections: int) -> dict[str, float]:
    """One round: queue everything, then let the engine go."""
    with tempfile.TemporaryDirectory() as folder, sink_process(Path(folder) / "sink.log") as sink:
        async with bench(Path(folder), durable=True) as post:
            for start in range(0, messages, 100):
                await asyncio.gather(
                    *(
                        post.send(Purpose.BROADCAST, [f"r{n}@example.net"], BODY)
                        for n in range(start, min(start + 100, messages))
                    )
                )
            before = post.store.statements, post.store.commits, time.process_time(), time.perf_counter()
            for _ in range(connections):
                await post.connection(sink.port)
            await post.until(lambda states: states["sent"] == messages, 600.0)
            wall = time.perf_counter() - before[3]
            return {
                "per_second": messages / wall,
                "cpu_ms": (time.process_time() - before[2]) * 1000 / messages,
                "statements": (post.store.statements - before[0]) / messages,
                "commits": (post.store.commits - before[1]) / messages,
            }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rounds = [uvloop.run(measure(options.messages, options.connections)) for _ in range(options.rounds)]
    told = {key: round(statistics.median(one[key] for one in rounds), 3) for key in rounds[0]}
    speeds = [one["per_second"] for one in rounds]
    told["halves"] = round(statistics.median(speeds[::2]) / statistics.median(speeds[1::2] or speeds), 3)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
