"""Putting finished files in the place of others so that a crash in between leaves nothing half done.

A marker in the data folder, made once everything lies ready, names what goes where. Whoever opens the folder
next carries it to the end (`finish`); each step may be repeated. What was there goes to a folder of its own
beside, and is never deleted.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from postroom.errors import Unavailable
from postroom.folder import DATABASE_BESIDE, DATABASE_NAME, JOURNALS_NAME, KEY_RING_NAME, sync

MARKER_NAME = "restoring.json"


class Placing(msgspec.Struct, frozen=True):
    """stage: the folder with the new files; aside: where the former ones go; both below the data folder."""

    stage: str
    aside: str


def place(folder: Path, placing: Placing) -> None:
    """Begin, and carry it to the end; the stage is durable, the folder's lock held. Raises OSError."""
    beside = folder / placing.stage / MARKER_NAME
    beside.write_bytes(msgspec.json.encode(placing))
    sync(beside)
    os.rename(beside, folder / MARKER_NAME)
    sync(folder)
    finish(folder)


def finish(folder: Path) -> bool:
    """Carry a placing that stopped to its end; False where there is none. The caller holds the lock.

    Raises Unavailable.
    """
    marker = folder / MARKER_NAME
    if not marker.exists():
        return False
    try:
        placing = msgspec.json.decode(marker.read_bytes(), type=Placing)
        stage, aside = folder / placing.stage, folder / placing.aside
        if stage.parent != folder or aside.parent != folder:
            raise Unavailable(f"{marker} was changed; restore again into another folder")
        aside.mkdir(mode=0o700, exist_ok=True)
        # The database last: until it is there, what lies beside the former one is the former one's.
        _put(folder, stage, aside, KEY_RING_NAME)
        if (stage / DATABASE_NAME).exists():
            for name in (*DATABASE_BESIDE, JOURNALS_NAME):
                _move(folder / name, aside / name)
        _put(folder, stage, aside, DATABASE_NAME)
        sync(aside)
        sync(folder)
        shutil.rmtree(stage, ignore_errors=True)
        if not any(aside.iterdir()):
            aside.rmdir()
        marker.unlink()
        sync(folder)
    except (OSError, msgspec.DecodeError) as error:
        raise Unavailable(f"the restore into {folder} could not be brought to its end: {error}") from error
    return True


def _put(folder: Path, stage: Path, aside: Path, name: str) -> None:
    if (stage / name).exists():
        _move(folder / name, aside / name)
        os.rename(stage / name, folder / name)


def _move(path: Path, aside: Path) -> None:
    if os.path.lexists(path) and not os.path.lexists(aside):
        os.rename(path, aside)
