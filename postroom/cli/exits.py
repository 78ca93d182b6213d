"""Exit codes, and how an error becomes one and is told. docs/command-line.md has the same table."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

OK = 0
REFUSED = 1  # refused, invalid, or a test that did not pass; `doctor`: warnings
USAGE = 2  # a wrong command line or configuration; `doctor`: broken
NOT_FOUND = 3
UNAVAILABLE = 4  # the data folder is in use, the database cannot be written now
INTERNAL = 5  # a fault of Postroom's own
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

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


def tell(error: Mapping[str, object], as_json: bool) -> int:
    """Print an error (`kind`, `text` and what else belongs to it) and return its exit code."""
    if as_json:
        print(json.dumps({"error": error}, ensure_ascii=False, indent=2), flush=True)
    else:
        print(f"Error: {error['text']}", file=sys.stderr, flush=True)
    return exit_code(str(error["kind"]))
