"""The keeper of a test's PostgreSQL: waits for its standard input to end, then ends server and folder.

It is a program of its own, `python postgres_keeper.py FOLDER`, in a session of its own, with a pipe from the
test run. However that run ends, kill -9 included, the pipe ends too. Standard library only: it starts with
-I -S.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 3.0


def postmaster(folder: Path) -> int | None:
    """The process of the server in `folder`, None without one. The data folder's lock file names it."""
    try:
        pid = int((folder / "data/postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def family(pid: int) -> list[int]:
    """`pid` and its children. Each backend is a session of its own, so no process group has them all."""
    return [pid, *(child for child, parent in _parents() if parent == pid)]


def _parents() -> list[tuple[int, int]]:
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True)
        return [(int(line.split()[0]), int(line.split()[1])) for line in listed.stdout.splitlines()]
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        found.append((int(stat.parent.name), int(after_name[1])))
    return found


def tell(pids: list[int], signum: signal.Signals) -> None:
    """Send it to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue


def end(folder: Path) -> None:
    """Immediate shutdown, which gives shared memory back; after three seconds no more asking."""
    pid = postmaster(folder)
    if pid is None:
        return
    everyone = family(pid)
    tell([pid], signal.SIGQUIT)
    tell(everyone, signal.SIGCONT)
    until = time.monotonic() + GRACE_S
    while postmaster(folder) is not None and time.monotonic() < until:
        time.sleep(0.02)
    if postmaster(folder) is not None:
        tell(everyone, signal.SIGKILL)


if __name__ == "__main__":
    watched = Path(sys.argv[1])
    sys.stdin.buffer.read()
    end(watched)
    shutil.rmtree(watched, ignore_errors=True)
