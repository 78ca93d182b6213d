"""Exit codes, and how an error becomes one and is told. docs/command-line.md has the same table."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping

OK = 0
REFUSED = 1
USAGE = 2
NOT_FOUND = 3
UNAVAILABLE = 4
INTERNAL = 5
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

MEANINGS: Mapping[int, str] = {
    OK: "done; also when whoever read the output had seen enough and went away (`| head`)",
    REFUSED: "refused: the input is invalid, contradicts what is stored, or a connection test did not pass;"
    " `doctor`: warnings",
    USAGE: "a wrong command line or configuration, the key file among it; `doctor`: something is broken",
    NOT_FOUND: "what was named does not exist",
    UNAVAILABLE: "not now: the data folder is in use, the database cannot be written, or no `serve` runs"
    " where one is needed; try again",
    INTERNAL: "Postroom itself failed; stderr, or the log of `serve`, says how",
    INTERRUPTED: "interrupted by Ctrl-C (SIGINT)",
}

_OF_KIND: Mapping[str, int] = {
    "usage": USAGE,
    "configuration": USAGE,
    "not_found": NOT_FOUND,
    "unavailable": UNAVAILABLE,
    "limited": UNAVAILABLE,
    "internal": INTERNAL,
    "interrupted": INTERRUPTED,
}


def exit_code(kind: str) -> int:
    """The exit code for an error of this kind."""
    return _OF_KIND.get(kind, REFUSED)


def tell(error: Mapping[str, object], as_json: bool, for_people: str = "") -> int:
    """Print an error (`kind`, `text` and what else belongs to it) and return its exit code.

    for_people: better words than `text`, for those who typed the command.
    """
    try:
        if as_json:
            print(json.dumps({"error": error}, ensure_ascii=False, indent=2), flush=True)
        else:
            print(f"Error: {for_people or error['text']}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        nobody_reads()
    return exit_code(str(error["kind"]))


def nobody_reads() -> int:
    """The reader has seen enough: what is left goes nowhere, and Python does not complain at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return OK
