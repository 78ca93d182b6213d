"""`DATA/lock`: who may write to the data folder's database. One process at a time, by flock(2).

The lock lives as long as its process, so a dead one leaves nothing to clean up. The file's text says who
took it last, for people; whether it is held only the system knows.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from postroom.errors import Unavailable

LOCK_NAME = "lock"
SERVE = "serve"
COMMAND = "command"
_MOST_BYTES = 1000
_ASKED_S = 0.001


class Locked(Unavailable):
    """Another process uses this data folder. `pid` 0: not known; `role`: serve or command."""

    def __init__(self, folder: Path, pid: int, role: str) -> None:
        self.pid, self.role = pid, role
        who = f"process {pid} ({role})" if pid else "another process"
        super().__init__(f"the data folder {folder} is in use by {who}")

    @property
    def by_serve(self) -> bool:
        """A `serve` that runs holds it. What the file says of one that ended is the former holder's word."""
        if self.role != SERVE or not self.pid:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        return True


@dataclass(frozen=True)
class FolderLock:
    """A held lock. `release` gives it up; so does the end of the process."""

    folder: Path
    descriptor: int

    @classmethod
    def take(cls, folder: Path, role: str) -> FolderLock:
        """Take the lock of an existing folder. Raises Locked, Unavailable."""
        path = folder / LOCK_NAME
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise Unavailable(f"the data folder {folder} cannot be used: {error.strerror}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if _only_asked(descriptor):
                    os.close(descriptor)
                    time.sleep(_ASKED_S)
                    continue
                pid, held_as = _holder(descriptor)
                os.close(descriptor)
                raise Locked(folder, pid, held_as) from error
            if _is_still_there(path, descriptor):
                break
            os.close(descriptor)  # somebody removed the file between open and flock
        text = json.dumps({"pid": os.getpid(), "role": role}).encode()
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)
        except OSError as error:
            os.close(descriptor)
            raise Unavailable(f"the data folder {folder} cannot be written: {error.strerror}") from error
        return cls(folder, descriptor)

    def release(self) -> None:
        """Give it up. Once."""
        os.close(self.descriptor)


def holder_of(folder: Path) -> Locked | None:
    """Who holds the folder's lock now, or None: nobody, or there is no such folder."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, so that two who only ask do not take each other for a holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return Locked(folder, *_holder(descriptor))
    finally:
        os.close(descriptor)
    return None


def _only_asked(descriptor: int) -> bool:
    """Nobody holds it: somebody asks who does (`holder_of`), and has done so in a moment."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> tuple[int, str]:
    try:
        found = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
        return int(found["pid"]), str(found["role"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0, ""
