"""From a program to the next hop: Postroom beside what people use instead, interleaved in one run.

    python -m bench.relay --quick          # Postroom and Postfix; one JSON line per database
    python -m bench.relay [--messages 5000] [--rounds 5] [--peers all] [--json FILE]

Everybody carries the same: messages of 10 KiB, one recipient each, to the same smtp-sink, from the same
machine; Postroom's batches may be signed and tracked besides.
A round lasts from the first byte fed until the sink has the last message. Rounds of all peers alternate, so
that what slows the machine slows everybody; medians are compared, as ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.peers import postfix
from bench.peers.celery_mail import Celery
from bench.peers.interface import Fed, Load, Peer, Way
from bench.peers.nodemailer import Nodemailer
from bench.peers.post_office import PostOffice
from bench.peers.postroom import Postroom, PostroomOnPostgres
from bench.results import write
from bench.sink import Sink, running_sink

WARM_UP = 200
TIMEOUT_S = 600.0
POSTFIX = ("postfix, default", "postfix, tuned")


BATCH = Way(batch=100)
DUTIES = {
    "batches": BATCH,
    "batches, RSA, tracked": replace(BATCH, tracked=True, dkim="rsa"),
    "batches, Ed25519, tracked": replace(BATCH, tracked=True, dkim="ed25519"),
}


def peers(names: str) -> list[Peer]:
    """Postroom and Postfix twice; `batches`: Postroom's other ways in too; `all`: Python peers as well."""
    found: list[Peer] = [
        Postroom(),
        PostroomOnPostgres(),
        postfix.Postfix(POSTFIX[0]),
        postfix.Postfix(POSTFIX[1], postfix.TUNED),
    ]
    if names != "relays":
        found.append(PostroomOnPostgres("postroom, postgresql, 2 processes", processes=2))
        found.append(Postroom("postroom, batches", way=BATCH))
        found += [
            PostroomOnPostgres(f"postroom, postgresql, {name}", way=way) for name, way in DUTIES.items()
        ]
        for name in ("batches", "batches, RSA, tracked"):
            whole = f"postroom, postgresql, 2 processes, {name}"
            found.append(PostroomOnPostgres(whole, processes=2, way=DUTIES[name]))
    if names == "all":
        found += [PostOffice(), Celery(), Nodemailer()]
    return found


@dataclass
class Result:
    """What one peer did, one number a round."""

    per_second: list[float] = field(default_factory=list)
    accepts_per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    server_cpu_ms: list[float] = field(default_factory=list)
    written_bytes: list[float] = field(default_factory=list)
    wal_bytes: list[float] = field(default_factory=list)
    statements: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """Of everything that was measured."""
        return {name: round(statistics.median(values), 3) for name, values in vars(self).items() if values}


async def measure(wanted: Sequence[Peer], load: Load, rounds: int, folder: Path) -> dict[str, Result]:
    """All rounds of all peers, by name. One sink and one working folder each."""
    results = {peer.name: Result() for peer in wanted}
    for number in range(rounds):
        for peer in wanted if number % 2 == 0 else list(reversed(wanted)):
            place = folder / f"{peer.name.replace(' ', '-').replace(',', '')}-{number}"
            place.mkdir()
            async with running_sink() as sink:
                try:
                    await peer.start(place, sink)
                    await _round(peer, sink, load, results[peer.name])
                finally:
                    await peer.stop()
            _say(f"round {number + 1}: {peer.name}: {results[peer.name].per_second[-1]:.0f} a second")
    return results


async def _round(peer: Peer, sink: Sink, load: Load, result: Result) -> None:
    await peer.feed(Load(WARM_UP, load.connections))
    await sink.until(WARM_UP, TIMEOUT_S)
    began = time.perf_counter()
    fed = await peer.feed(load)
    await sink.until(WARM_UP + load.messages, TIMEOUT_S)
    result.per_second.append(load.messages / (time.perf_counter() - began))
    result.accepts_per_second.append(load.messages / fed.seconds)
    _note(peer, fed, load, result)
    if sink.count != WARM_UP + load.messages:
        raise SystemExit(f"{peer.name}: the sink has {sink.count} messages of {WARM_UP + load.messages}")


def _note(peer: Peer, fed: Fed, load: Load, result: Result) -> None:
    if fed.p50_ms is not None and fed.p99_ms is not None:
        result.p50_ms.append(fed.p50_ms)
        result.p99_ms.append(fed.p99_ms)
    if isinstance(peer, Postroom):
        after = peer.counters()
        for name, before in fed.facts.items():
            into = f"{name.removesuffix('_s')}_ms" if name.endswith("cpu_s") else name
            if into in vars(result):
                scale = 1000 if into != name else 1
                getattr(result, into).append((after[name] - before) * scale / load.messages)


def best_postfix(results: dict[str, Result]) -> float:
    """Messages a second of Postfix in its better configuration."""
    return max(statistics.median(results[name].per_second) for name in POSTFIX)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute; JSON lines only")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--peers", choices=("relays", "batches", "all"), default="all")
    parser.add_argument("--json", type=Path, help="write everything here as well")
    given = parser.parse_args()
    messages, rounds = (1500, 3) if given.quick else (given.messages, given.rounds)
    load = Load(messages, given.connections)
    wanted = peers("relays" if given.quick else given.peers)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = asyncio.run(measure(wanted, load, rounds, Path(folder)))
    lines = [
        {
            "database": database,
            "postroom": round(statistics.median(results[name].per_second), 1),
            "postfix": round(best_postfix(results), 1),
        }
        for database, name in (("sqlite", "postroom"), ("postgresql", "postroom, postgresql"))
    ]
    if given.quick:
        sys.stdout.write("".join(json.dumps(line) + "\n" for line in lines))
        return
    _report(results)
    if given.json:
        told = {name: {**one.medians(), "rounds": one.per_second} for name, one in results.items()}
        base = best_postfix(results)
        shares = {name: round(statistics.median(one.per_second) / base, 3) for name, one in results.items()}
        write(given.json, {"load": vars(load), "ratios": shares, "databases": lines, "peers": told})


def _report(results: dict[str, Result]) -> None:
    base = best_postfix(results)
    for name, one in results.items():
        found = one.medians()
        spread = (max(one.per_second) - min(one.per_second)) / found["per_second"]
        ratio = found["per_second"] / base
        told = f"{name}: {found['per_second']:.0f} a second ({ratio:.2f} x Postfix, spread {spread:.0%})"
        more = ", ".join(f"{key} {value:g}" for key, value in found.items() if key != "per_second")
        sys.stdout.write(f"{told}; {more}\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
