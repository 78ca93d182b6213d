"""What becomes of accepted mail when a sender's processes die: lost, late, sent twice.

    python -m bench.kills [--messages 2000] [--kills 5] [--json FILE] [PEER ...]

Each peer is fed everything first, in peace. While it delivers all of its processes get SIGKILL, again and
again at moments spread over the delivery, and it is started once more each time. The receiver writes down
each message before its 250, waits a few milliseconds and then says it, so that kills meet mail past its dot.
A copy is a message that came again; one is missing if it has not come when nothing came for a while.
Postroom sends what may or may not have arrived again after one second here, as shipped it waits longer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers import postfix
from bench.peers.celery_mail import Celery
from bench.peers.interface import Load, Mortal
from bench.peers.post_office import PostOffice
from bench.peers.postroom import Postroom, PostroomOnPostgres
from bench.results import write
from tests.support.sink import SinkProcess, read_log, sink_process

_REPLY_MS = 5
_SILENCE_S = 40.0  # longer than the time after which Celery gives back what a dead worker held


@dataclass(frozen=True)
class Outcome:
    """missing: accepted and never arrived. copies: arrivals beyond the first of a message."""

    fed: int
    kills: int
    missing: int
    copies: int
    seconds: float


def peers() -> list[Mortal]:
    """Everybody who keeps mail."""
    return [
        Postroom(),
        PostroomOnPostgres(),
        PostroomOnPostgres("postroom, postgresql, 2 processes", processes=2),
        postfix.Postfix("postfix", postfix.TUNED),
        PostOffice(),
        Celery(),
    ]


async def measure(peer: Mortal, messages: int, kills: int, chance: random.Random, folder: Path) -> Outcome:
    """One peer's life and deaths."""
    with sink_process(folder / "sink.log", "--delay-ms", str(_REPLY_MS)) as sink:
        try:
            await peer.start(folder, sink)
            began_s = time.perf_counter()
            feeding = asyncio.create_task(peer.feed(Load(messages, 20)))
            await feeding
            for moment in sorted(chance.sample(range(_came(sink), messages), kills)):
                await _until(sink, moment)
                await peer.kill()
                await peer.again()
            seconds = await _until(sink, messages) - began_s
            await asyncio.sleep(_SILENCE_S / 4)  # second copies come late
        finally:
            await peer.stop()
    arrived = [record.recipient for record in read_log(sink.log)]
    missing = messages - len(set(arrived))
    return Outcome(messages, kills, missing, len(arrived) - len(set(arrived)), round(seconds, 1))


def _came(sink: SinkProcess) -> int:
    return len({record.recipient for record in read_log(sink.log)})


async def _until(sink: SinkProcess, count: int) -> float:
    """When so many different messages have come, or nothing came for long."""
    last, at_s = -1, time.perf_counter()
    while last < count and time.perf_counter() - at_s < _SILENCE_S:
        now = _came(sink)
        if now != last:
            last, at_s = now, time.perf_counter()
        await asyncio.sleep(0.02)
    return at_s


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", help="unsaid: everybody")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write everything here as well")
    given = parser.parse_args(arguments)
    os.environ["POSTROOM_UNKNOWN_WAIT"] = "1s"
    found = {}
    for peer in peers():
        if given.peers and peer.name not in given.peers:
            continue
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            chance = random.Random(given.seed)
            outcome = asyncio.run(measure(peer, given.messages, given.kills, chance, Path(folder)))
        found[peer.name] = asdict(outcome)
        sys.stdout.write(f"{peer.name}: {json.dumps(found[peer.name])}\n")
        sys.stdout.flush()
    if given.json:
        write(given.json, {"peers": found})


if __name__ == "__main__":
    main()
