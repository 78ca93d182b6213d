"""The lock of a data folder: one holder, named to others, gone with its process."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest

from postroom.control.lock import COMMAND, SERVE, FolderLock, Locked, holder_of
from postroom.errors import Unavailable


def test_q3_z4_a_second_taker_is_told_who_holds_it(tmp_path: Path) -> None:
    held = FolderLock.take(tmp_path, SERVE)
    with pytest.raises(Locked, match=rf"process {os.getpid()} \(serve\)") as refused:
        FolderLock.take(tmp_path, COMMAND)
    assert (refused.value.pid, refused.value.role) == (os.getpid(), SERVE)
    held.release()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    FolderLock.take(tmp_path, SERVE).release()
    again = FolderLock.take(tmp_path, COMMAND)
    assert json.loads((tmp_path / "lock").read_text())["role"] == COMMAND
    again.release()


def test_asking_who_holds_it_takes_nothing(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    held = FolderLock.take(tmp_path, COMMAND)
    found = holder_of(tmp_path)
    assert found is not None
    assert found.role == COMMAND
    held.release()
    assert holder_of(tmp_path) is None


def test_a_lock_file_without_a_readable_holder_still_locks(tmp_path: Path) -> None:
    held = FolderLock.take(tmp_path, SERVE)
    (tmp_path / "lock").write_text("torn {")
    with pytest.raises(Locked, match="another process") as refused:
        FolderLock.take(tmp_path, COMMAND)
    assert refused.value.pid == 0
    held.release()


def test_the_lock_file_is_the_owners_alone(tmp_path: Path) -> None:
    held = FolderLock.take(tmp_path, SERVE)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    held.release()


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be used"):
        FolderLock.take(tmp_path / "nowhere", SERVE)


def test_a_lock_file_that_was_removed_and_made_anew_is_the_one_that_counts(tmp_path: Path) -> None:
    stale = FolderLock.take(tmp_path, SERVE)
    (tmp_path / "lock").unlink()
    fresh = FolderLock.take(tmp_path, COMMAND)
    assert os.path.samestat(os.fstat(fresh.descriptor), os.stat(tmp_path / "lock"))
    fresh.release()
    stale.release()


def test_one_who_only_asks_is_not_taken_for_a_holder(tmp_path: Path) -> None:
    """A command that looks who holds it must not make `serve` refuse to start."""
    (tmp_path / "lock").touch()
    asker = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(asker, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, (asker,)).start()
    FolderLock.take(tmp_path, SERVE).release()
