"""What a run found and on what machine, as a file; and whether another run did worse by its ratios.

    python -m bench.results OLD NEW [--worse 0.85]

Only ratios are compared, never times: of each peer to the better Postfix of its own run. Exits with 1 when
one of Postroom's fell below `--worse` times what it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_OURS = "postroom"


def write(path: Path, found: Mapping[str, object]) -> None:
    """A file of what was found, with the machine, the commit and the time."""
    told = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
    }
    path.write_text(json.dumps({**told, **found}, indent=2) + "\n", "utf-8")


def machine() -> dict[str, object]:
    """What it ran on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    asked = ["git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def ratios(told: Mapping[str, Any]) -> dict[str, float]:  # Any: JSON
    """Of each of Postroom's rows to the better Postfix of the same run, by name."""
    found: dict[str, float] = told["ratios"]
    return {name: value for name, value in found.items() if name.startswith(_OURS)}


def worse(old: Mapping[str, Any], new: Mapping[str, Any], least: float) -> list[str]:  # Any: JSON
    """A sentence for each ratio that fell below `least` times what it was, or is gone."""
    before, after = ratios(old), ratios(new)
    return [
        f"{name}: {value:.2f} x Postfix before, {after.get(name, 0.0):.2f} now"
        for name, value in before.items()
        if after.get(name, 0.0) < least * value
    ]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--worse", type=float, default=0.85, help="how much of an old ratio is enough")
    given = parser.parse_args()
    old, new = (json.loads(path.read_text("utf-8")) for path in (given.old, given.new))
    found = worse(old, new, given.worse)
    sys.stdout.write("".join(f"{line}\n" for line in found) or "no ratio is worse\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
