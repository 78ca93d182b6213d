"""The command line: `postroom` and `python -m postroom`. Each command parses, asks for one operation, prints.

Errors become one line on stderr, or with --json one JSON document on stdout, and one of the exit codes of
`postroom.cli.exits`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main", "run"]


def main() -> NoReturn:
    """The console script: run what `sys.argv` says and exit."""
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before anything could run
        code = 130
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    from postroom.cli.app import run_app

    return run_app(arguments)
