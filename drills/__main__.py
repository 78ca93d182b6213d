"""`python -m drills [KIND…]`: a line for each, see `--help`; 1 when one fails."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import structlog

from drills import apart, caps, kills, stops, troubles

KINDS = {
    "kill": "SIGKILLs at random moments",
    "clean": "no kill: no copy at all",
    "drop": "kills, and a sink that hangs up after the dot",
    "capped": "kills under an hourly cap",
    "rotate": "kills, while the key file is rotated every half second",
    "beside": "kills, while an operator rotates, backs up, pauses, cancels",
    "smtp": "mail submitted by SMTP instead of HTTP, with SIGKILLs and without",
    "cluster": "PostgreSQL and several processes: kills of one, of all, of the database; caps; 16 without",
    "stop": "PostgreSQL: a process hangs for three leases at a chosen point of a delivery, and wakes",
    "trouble": "PostgreSQL hangs for a minute, restarts, is gone, may only be read, has no connection left",
    "apart": "PostgreSQL: two machines as network namespaces, one cut off and healed (root)",
    "caps": "caps on a moved clock, with restarts",
}


def kind_of(course: kills.Course) -> str:
    """Under which word a course is asked for."""
    if course.processes:
        return "cluster"
    if course.beside is not None:
        return "beside" if course.beside.backup_s else "rotate"
    if course.by_smtp:
        return "smtp"
    if course.drop_every:
        return "drop"
    if course.hourly_cap is not None:
        return "capped"
    return "kill" if course.kills else "clean"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 when all of it holds."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if unknown := set(given.kinds) - set(KINDS):
        parser.error(f"there is no drill called {', '.join(sorted(unknown))}")
    # The engine of the cap drill runs in this process; what it says is not the drill's result.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    wanted = given.kinds or list(KINDS)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="drill-"))
    results: list[dict[str, object]] = []
    failed = 0
    for number, course in enumerate(kills.courses(given.messages, given.kills, given.seed)):
        if kind_of(course) in wanted:
            verdict = asyncio.run(kills.run(_fresh(folder / str(number)), course))
            results.append({"line": verdict.line(), **asdict(verdict)})
            failed += _tell(verdict.line(), verdict.problems())
    for number, stop in enumerate(stops.courses(given.rounds, given.seed) if "stop" in wanted else ()):
        hung = asyncio.run(stops.run(_fresh(folder / f"stop{number}"), stop))
        results.append({"line": hung.line(), **asdict(hung)})
        failed += _tell(hung.line(), hung.problems())
    for number, trouble in enumerate(troubles.courses() if "trouble" in wanted else ()):
        told = asyncio.run(troubles.run(_fresh(folder / f"trouble{number}"), trouble))
        results.append({"line": told.line(), **asdict(told)})
        failed += _tell(told.line(), told.problems())
    for number, cut in enumerate(apart.courses(given.rounds, given.seed) if "apart" in wanted else ()):
        try:
            healed = asyncio.run(apart.run(_fresh(folder / f"apart{number}"), cut))
        except apart.Missing as missing:
            print(f"The drill called apart cannot be run here: {missing}", file=sys.stderr)
            if given.kinds == ["apart"]:
                return 2
            break
        results.append({"line": healed.line(), **asdict(healed)})
        failed += _tell(healed.line(), healed.problems())
    for number, plan in enumerate(caps.PLANS if "caps" in wanted else ()):
        result = asyncio.run(caps.run(_fresh(folder / f"caps{number}"), plan))
        results.append({"line": result.line(), **asdict(plan)})
        failed += _tell(result.line(), [] if result.holds else ["over the cap, or too much room wasted"])
    if given.json:
        given.json.write_text(json.dumps(results, indent=2, default=str) + "\n", "utf-8")
    if failed:
        print(f"{failed} of {len(results)} failed; everything is kept in {folder}")
    elif given.folder is None:
        shutil.rmtree(folder)
    return 1 if failed else 0


def _tell(line: str, problems: Sequence[str]) -> bool:
    print("FAILED" if problems else "ok    ", line, flush=True)
    for problem in problems:
        print("       ", problem, flush=True)
    return bool(problems)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="drills", description="The long drills; docs/drills.md explains them."
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=_kinds())
    parser.add_argument("--messages", type=int, default=10_000, help="of each purpose in the kill drill")
    parser.add_argument("--kills", type=int, default=50, help="for each purpose")
    parser.add_argument("--rounds", type=int, default=2, help="stops at each point, and cuts")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where data and logs are kept; else a temporary one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    return parser


def _kinds() -> str:
    return "all, or: " + "; ".join(f"{name} ({text})" for name, text in KINDS.items())


if __name__ == "__main__":
    sys.exit(main())
