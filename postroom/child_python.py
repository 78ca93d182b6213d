"""Starting Python again for a part of this package in a process of its own."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import postroom


def command(module: str) -> tuple[str, ...]:
    """What runs a module of ours; nothing of the folder we were started in is imported (-P)."""
    return sys.executable, "-P", "-m", module


def environment() -> dict[str, str]:
    """Ours; and the child finds this package, wherever it lies."""
    package = str(Path(postroom.__file__).parent.parent)
    if package == sysconfig.get_path("purelib"):
        return dict(os.environ)
    rest = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": package + (os.pathsep + rest if rest else "")}
