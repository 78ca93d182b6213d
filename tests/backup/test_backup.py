"""A backup: one moment's data, whole or not there at all, and a look over it that finds every change."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
import stat
import tarfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postroom import wiring
from postroom.backup import make, manifest
from postroom.backup.make import make_backup
from postroom.backup.manifest import Damaged
from postroom.backup.read import Unpacked, in_place, unpack, verify
from postroom.clock import to_iso
from postroom.control.operations import run
from postroom.errors import Conflict, Invalid, NotFound, Unavailable
from postroom.keyring import KeyRing, KeyringError
from tests.backup.conftest import secrets_in, settings_of
from tests.support.clock import START_US, FakeClock

CLOCK = FakeClock()


def back_up(data: Path, target: Path, *, with_key_file: bool = False) -> manifest.Manifest:
    return make_backup(data, target, CLOCK, with_key_file=with_key_file)


def unpacked(source: Path, tmp_path: Path) -> Unpacked:
    (tmp_path / "unpacked").mkdir()
    return unpack(source, tmp_path / "unpacked")


@pytest.mark.parametrize("name", ["b", "b.tar"])
def test_what_was_backed_up_is_told_and_comes_out_again(data: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    made = back_up(data, target)
    assert (made.messages, made.deliveries, made.schema) == (3, {"ready": 3}, "0001")
    assert made.taken_at == to_iso(START_US)
    assert made.keys == {KeyRing.load(data / "keys.ring").active_id: secrets_in(data)}
    assert target.stat().st_mode & 0o077 == 0

    found = unpacked(target, tmp_path)
    assert found.manifest == made
    assert found.key_file is None
    assert sorted(path.name for path in found.folder.iterdir()) == ["postroom.db"]
    assert stat.S_IMODE(found.database.stat().st_mode) == 0o600
    assert verify(found, None, CLOCK) is None
    assert verify(found, data / "keys.ring", CLOCK) == secrets_in(data)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["data", "unpacked", name])
    assert b"hunter2-canary" not in found.database.read_bytes()


def test_the_key_file_is_in_it_only_where_it_was_asked_for(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "with.tar", with_key_file=True)
    found = unpacked(tmp_path / "with.tar", tmp_path)
    assert found.key_file is not None
    assert found.key_file.read_bytes() == (data / "keys.ring").read_bytes()
    assert verify(found, None, CLOCK) == secrets_in(data)


def test_journals_and_all_else_of_the_folder_stay_out(data: Path, tmp_path: Path) -> None:
    for name in ("journals", "inbox", "tls"):
        (data / name).mkdir(exist_ok=True)
        (data / name / "1-1-1.journal").write_text("x")
    back_up(data, tmp_path / "b", with_key_file=True)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "keys.ring",
        "manifest.json",
        "postroom.db",
    ]


async def test_beside_a_running_post_room_it_has_what_was_committed(data: Path, tmp_path: Path) -> None:
    async with wiring.opened(settings_of(data)) as room:
        await run(room.desk, "message.send", {"to": ["x@example.net"], "text": "x"})
        # Its write-ahead log is not in the main file yet, and its lock is held.
        made = await asyncio.to_thread(back_up, data, tmp_path / "b")
    assert made.messages == 4
    assert verify(in_place(tmp_path / "b"), data / "keys.ring", CLOCK) == secrets_in(data)


def test_after_a_kill_it_has_what_the_write_ahead_log_has(data: Path, tmp_path: Path) -> None:
    alive = sqlite3.connect(data / "postroom.db")
    alive.execute("PRAGMA wal_autocheckpoint=0")
    alive.execute("UPDATE servers SET name = 'in the log'")
    alive.commit()
    shutil.copytree(data, tmp_path / "killed")
    alive.close()
    assert (tmp_path / "killed" / "postroom.db-wal").stat().st_size
    back_up(tmp_path / "killed", tmp_path / "b")
    copy = sqlite3.connect(tmp_path / "b" / "postroom.db")
    assert copy.execute("SELECT name FROM servers").fetchone() == ("in the log",)
    copy.close()


Usage = namedtuple("Usage", "total used free")


def _taken(target: Path) -> None:
    target.mkdir()
    (target / "mine").touch()


@pytest.mark.parametrize(
    ("name", "prepare", "error", "said"),
    [
        ("b", _taken, Conflict, "is there already"),
        ("b.tar", Path.touch, Conflict, "is there already"),
        ("b", lambda target: target.symlink_to("nowhere"), Conflict, "is there already"),
        ("no/such/b", lambda target: None, Invalid, "no folder"),
    ],
)
def test_a_target_that_is_there_is_never_touched(
    data: Path, tmp_path: Path, name: str, prepare: Callable[[Path], None], error: type[Exception], said: str
) -> None:
    prepare(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=said):
        back_up(data, tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["b", "b.tar"])
def test_a_target_that_appears_meanwhile_is_not_touched_either(
    data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, real = tmp_path / name, make._manifest

    def meanwhile(*given: Any) -> manifest.Manifest:
        target.mkdir()
        (target / "mine").touch()
        return real(*given)

    monkeypatch.setattr(make, "_manifest", meanwhile)
    with pytest.raises((Conflict, Unavailable)):
        back_up(data, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "data"])
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_without_room_nothing_is_begun(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (data / "postroom.db").stat().st_size
    free = size + make._SPARE_BYTES + 4096 * 16
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))
    back_up(data, tmp_path / "b")
    with pytest.raises(Unavailable, match="bytes"):  # a .tar needs twice the room while it is made
        back_up(data, tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "data"]


def test_a_damaged_database_is_told_and_nothing_is_left(data: Path, tmp_path: Path) -> None:
    for pages in (range(5, 40), range(50, 60), range(1)):
        with (data / "postroom.db").open("r+b") as file:
            for page in pages:
                file.seek(page * 4096)
                file.write(b"\xff" * 64)
        with pytest.raises(Conflict, match="damaged"):
            back_up(data, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_key_file_that_does_not_open_the_data_is_not_put_in(data: Path, tmp_path: Path) -> None:
    (data / "keys.ring").unlink()
    with pytest.raises(KeyringError, match="no key file"):
        back_up(data, tmp_path / "b", with_key_file=True)
    KeyRing.create(data / "keys.ring")
    with pytest.raises(KeyringError, match="back up again afterwards"):
        back_up(data, tmp_path / "b", with_key_file=True)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# --- looking over one ------------------------------------------------------------------------------------


def test_every_changed_byte_is_found(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "b")
    database = tmp_path / "b" / "postroom.db"
    whole = database.read_bytes()
    for at in (0, 100, len(whole) // 2, len(whole) - 1):
        database.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Damaged, match="not what was backed up"):
            in_place(tmp_path / "b")
    for other in (whole[:-4096], whole + b"x", b""):
        database.write_bytes(other)
        with pytest.raises(Damaged, match="not what was backed up"):
            in_place(tmp_path / "b")
    database.unlink()
    with pytest.raises(Damaged, match="lacks"):
        in_place(tmp_path / "b")


def test_looking_leaves_nothing_beside_the_database(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "b")
    before = {path: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    verify(in_place(tmp_path / "b"), data / "keys.ring", CLOCK)
    assert {path: path.read_bytes() for path in (tmp_path / "b").iterdir()} == before


def test_a_damage_that_was_backed_up_and_another_key_file_are_found(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "b")
    KeyRing.create(tmp_path / "other.ring")
    with pytest.raises(KeyringError, match="is this the key file"):
        verify(in_place(tmp_path / "b"), tmp_path / "other.ring", CLOCK)
    database = tmp_path / "b" / "postroom.db"
    with sqlite3.connect(database) as copy:
        copy.execute("PRAGMA writable_schema=ON")
        changed = copy.execute(
            "UPDATE sqlite_master SET rootpage = 2 WHERE name = 'ix_deliveries_message_id_account_id'"
        )
        assert changed.rowcount == 1
    copy.close()
    written = json.loads((tmp_path / "b" / "manifest.json").read_text())
    found = manifest.file_of(database)
    written["files"]["postroom.db"] = {"size_bytes": found.size_bytes, "sha256": found.sha256}
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(written))
    with pytest.raises(Damaged, match="is damaged"):
        verify(in_place(tmp_path / "b"), None, CLOCK)


@pytest.fixture
def packed(data: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a whole backup."""
    back_up(data, tmp_path / "whole")
    return {path.name: path.read_bytes() for path in sorted((tmp_path / "whole").iterdir())}


def pack(path: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = info.size or len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_a_hostile_tar_gives_nothing_but_an_error(packed: dict[str, bytes], tmp_path: Path) -> None:
    head, body = ("manifest.json", packed["manifest.json"]), ("postroom.db", packed["postroom.db"])
    outside = tmp_path / "outside"
    cases: list[tuple[list[tuple[str | tarfile.TarInfo, bytes]], str]] = [
        ([], "it is empty"),
        ([body, head], "does not begin with manifest.json"),
        ([head], "lacks postroom.db"),
        ([head, ("../outside", b"x"), body], "does not name"),
        ([head, (str(outside), b"x"), body], "does not name"),
        ([head, ("keys.ring", b"x"), body], "does not name"),
        ([head, body, body], "does not name"),
        ([head, (_link("postroom.db", str(outside)), b"")], "no plain file"),
        ([head, ("postroom.db", packed["postroom.db"] + b"x")], "not what was backed up"),
        ([("manifest.json", b"{}"), body], "not a backup's manifest"),
        ([("manifest.json", b"[" * 100_000), body], "not a backup's manifest"),
        (
            [("manifest.json", packed["manifest.json"].replace(b'"format": 1', b'"format": 2')), body],
            "format 2",
        ),
        (
            [("manifest.json", packed["manifest.json"].replace(b"postroom.db", b"../outside")), body],
            "other files",
        ),
    ]
    for number, (members, said) in enumerate(cases):
        into = tmp_path / f"into{number}"
        into.mkdir()
        with pytest.raises(Damaged, match=said):
            unpack(pack(tmp_path / f"{number}.tar", *members), into)
        assert not outside.exists()
    assert pack(tmp_path / "good.tar", head, body)
    (tmp_path / "good").mkdir()
    assert unpack(tmp_path / "good.tar", tmp_path / "good").manifest.messages == 3


def test_a_cut_tar_and_what_is_none(packed: dict[str, bytes], tmp_path: Path) -> None:
    whole = pack(tmp_path / "b.tar", *sorted(packed.items())).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tar").write_text("no tar at all, " * 100)
    (tmp_path / "folder").mkdir()
    for name in ("cut.tar", "text.tar", "folder"):
        into = tmp_path / f"into-{name}"
        into.mkdir()
        with pytest.raises(Damaged):
            unpack(tmp_path / name, into)
    with pytest.raises(NotFound):
        unpack(tmp_path / "nothing", tmp_path)
