"""A restore: the data of then, another life, nothing sent unasked, and what was there is never lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postroom import wiring
from postroom.backup.make import make_backup
from postroom.backup.manifest import Damaged, file_of
from postroom.backup.placing import MARKER_NAME
from postroom.backup.restore import Restored, Unsettled, restore
from postroom.control.operations import run
from postroom.core.actor import Actor
from postroom.core.message import DeliveryState
from postroom.engine.retry import Policy
from postroom.errors import Conflict, NotFound, Unavailable
from postroom.keyring import KeyRing, KeyringError
from postroom.opening import take_folder
from tests.backup.conftest import secrets_in, settings_of
from tests.support.clock import FakeClock

ACTOR = Actor("Ada", "her desk")
DAY_S = 86_400.0


def back_up(data: Path, target: Path) -> Path:
    make_backup(data, target, FakeClock(), with_key_file=False)
    return target


def into(source: Path, folder: Path, clock: FakeClock | None = None, **options: Any) -> Restored:
    folder.mkdir(exist_ok=True)
    return restore(source, folder, clock or FakeClock(), Policy(), ACTOR, **options)


def rows(data: Path, text: str) -> list[Any]:  # Any: rows of whatever was asked
    database = sqlite3.connect(data / "postroom.db")
    try:
        found = database.execute(text).fetchall()
        database.commit()
    finally:
        database.close()
    return found


def one(data: Path, text: str) -> Any:
    (found,) = rows(data, text)
    return found[0] if len(found) == 1 else found


def claim(data: Path, delivery: int, purpose: str = "transactional") -> None:
    """As a living worker has it between claim and settle."""
    rows(data, "INSERT OR IGNORE INTO workers (worker_id, epoch) VALUES (1, 4)")
    attempt = one(
        data,
        "INSERT INTO attempts (account_id, delivery_id, connection_id, worker_id, epoch, decision_id, day,"
        f" granted_at) VALUES (1, {delivery}, 1, 1, 4, 1, 0, 0) RETURNING attempt_id",
    )
    rows(
        data,
        f"UPDATE deliveries SET state = 'claimed', worker_id = 1, epoch = 4, attempt_id = {attempt}"
        f" WHERE delivery_id = {delivery}",
    )
    rows(data, f"UPDATE messages SET purpose = '{purpose}' WHERE message_id = {delivery}")
    rows(data, f"DELETE FROM ready WHERE delivery_id = {delivery}")


@pytest.fixture
def backup(data: Path, tmp_path: Path) -> Path:
    """A backup in which message 1 waits, 2 is on its way (transactional), and 3 as well (broadcast)."""
    claim(data, 2)
    claim(data, 3, "broadcast")
    return back_up(data, tmp_path / "b.tar")


def states(data: Path) -> dict[int, str]:
    return dict(rows(data, "SELECT delivery_id, state FROM deliveries"))


def test_z3_everything_is_paused_and_what_was_on_its_way_is_unknown(
    backup: Path, data: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    done = into(backup, new, key_file=data / "keys.ring")

    assert (done.states, done.marked, done.aside) == ({"ready": 1, "unknown": 1, "unverified": 1}, 0, None)
    assert states(new) == {1: "ready", 2: "unknown", 3: "unverified"}  # by the policy of their purposes
    assert rows(new, "SELECT account_id, scope, target_id, actor, reason FROM pauses") == [
        (0, "all", 0, "Ada", "restored")
    ]
    assert one(new, "SELECT epoch FROM workers") == 5
    assert one(new, "SELECT actor FROM audit WHERE action = 'instance.restore'") == "Ada"
    instance = one(new, "SELECT value FROM instance WHERE name = 'id'")
    assert instance == done.instance != done.manifest.instance
    assert sorted(path.name for path in new.iterdir()) == ["keys.ring", "postroom.db"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in new.iterdir())

    async def open_it() -> object:
        async with wiring.opened(settings_of(new)) as room:
            return await run(room.desk, "connection.show", {"connection": 1})

    shown: Any = asyncio.run(open_it())
    assert shown["secrets"] == ["smtp_password", "smtp_username"]


def test_numbers_of_lost_mail_are_never_given_again(backup: Path, data: Path, tmp_path: Path) -> None:
    """A link in mail that left after the backup names a delivery; it must never mean somebody else's."""
    clock = FakeClock()
    clock.advance(30 * DAY_S)
    into(backup, tmp_path / "new", clock, key_file=data / "keys.ring")

    async def send() -> Any:
        async with wiring.opened(settings_of(tmp_path / "new")) as room:
            return await run(room.desk, "message.send", {"to": ["x@example.net"], "text": "x"})

    sent = asyncio.run(send())
    lost = 30 * DAY_S * 5_000  # more than one machine can have accepted since
    assert sent["message_id"] > lost
    assert one(tmp_path / "new", "SELECT MAX(delivery_id) FROM deliveries") > lost
    numbered = dict(rows(tmp_path / "new", "SELECT name, seq FROM sqlite_sequence"))
    assert 1_000 <= numbered["servers"] < 2_000
    assert numbered["attempts"] > lost
    assert numbered["events"] > lost
    counting = rows(tmp_path / "new", "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
    assert {name for (name,) in counting} == set(numbered)


@pytest.mark.parametrize(
    ("mark", "expected", "marked"),
    [
        (Unsettled.UNVERIFIED, {1: "unverified", 2: "unverified", 3: "unverified"}, 2),
        (Unsettled.READY, {1: "ready", 2: "ready", 3: "ready"}, 2),
    ],
)
def test_a_person_may_say_what_becomes_of_it(
    backup: Path, data: Path, tmp_path: Path, mark: Unsettled, expected: dict[int, str], marked: int
) -> None:
    new = tmp_path / "new"
    done = into(backup, new, key_file=data / "keys.ring", unsettled=mark)
    assert states(new) == expected
    assert done.marked == marked
    waiting = [number for number, state in expected.items() if state == DeliveryState.READY]
    assert sorted(rows(new, "SELECT delivery_id FROM ready")) == [(number,) for number in waiting]
    assert rows(new, "SELECT * FROM unknowns") == []
    assert rows(new, "SELECT 1 FROM attempts WHERE result IS NULL") == []
    kind = "resent" if mark is Unsettled.READY else "unverified"
    assert one(new, f"SELECT COUNT(*) FROM events WHERE kind = '{kind}' AND data LIKE '%Ada%'") == marked
    assert one(new, "SELECT COUNT(*) FROM pauses") == 1


def test_what_is_sent_again_may_have_gone_out_before(backup: Path, data: Path, tmp_path: Path) -> None:
    """So that neither `retry` nor a cancel takes it for what never left."""
    new = tmp_path / "new"
    into(backup, new, key_file=data / "keys.ring", unsettled=Unsettled.READY)
    assert dict(rows(new, "SELECT delivery_id, resends FROM deliveries")) == {1: 0, 2: 1, 3: 1}


def test_where_data_is_it_refuses_and_with_replace_it_moves_it_aside(
    backup: Path, data: Path, tmp_path: Path
) -> None:
    rows(data, "UPDATE servers SET name = 'later'")
    (data / "journals").mkdir(exist_ok=True)
    (data / "journals" / "1-7-1.journal").write_bytes(b"what happened later")
    (data / "postroom.db-wal").write_bytes(b"of the former one")
    files = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(Conflict, match="--replace"):
        into(backup, data)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == files

    done = into(backup, data, replace=True)
    assert done.journals == ("1-7-1.journal",)
    assert done.aside is not None
    aside = {
        path.relative_to(done.aside): path.read_bytes() for path in done.aside.rglob("*") if path.is_file()
    }
    moved = {path.relative_to(data): content for path, content in files.items()}
    stayed = {name for name in moved if name not in aside}
    assert stayed == {Path("keys.ring"), Path("lock")}  # the key file opens both
    assert {name: moved[name] for name in aside} == aside
    assert one(data, "SELECT name FROM servers") == "default"
    assert not (data / "journals").exists()


def test_a_key_file_that_is_replaced_moves_aside(backup: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    theirs = KeyRing.create(other / "keys.ring").active_id
    with pytest.raises(KeyringError, match="name the right one with --key-file"):
        into(backup, other)
    done = into(backup, other, key_file=data / "keys.ring")
    assert done.aside is not None
    assert KeyRing.load(done.aside / "keys.ring").active_id == theirs
    assert (other / "keys.ring").read_bytes() == (data / "keys.ring").read_bytes()


def tamper(source: Path, text: str) -> Path:
    """A backup whose database was changed by hand, manifest and all."""
    rows(source, text)
    written = json.loads((source / "manifest.json").read_text())
    found = file_of(source / "postroom.db")
    written["files"]["postroom.db"] = {"size_bytes": found.size_bytes, "sha256": found.sha256}
    (source / "manifest.json").write_text(json.dumps(written))
    return source


def test_what_is_refused_changes_nothing(data: Path, tmp_path: Path) -> None:
    whole = back_up(data, tmp_path / "whole")
    newer = back_up(data, tmp_path / "newer")
    rows(newer, "UPDATE instance SET value = '9999' WHERE name = 'schema_floor'")
    tamper(newer, "UPDATE alembic_version SET version_num = '9999'")
    damaged = back_up(data, tmp_path / "damaged")
    with (damaged / "postroom.db").open("r+b") as file:
        file.seek(9000)
        file.write(b"\xff")
    KeyRing.create(tmp_path / "other.ring")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    cases: list[tuple[Path, dict[str, Any], type[Exception], str]] = [
        (newer, {}, Unavailable, "newer Postroom"),
        (damaged, {}, Damaged, "not what was backed up"),
        (tmp_path / "nothing", {}, NotFound, "not found"),
        (whole, {"key_file": tmp_path / "other.ring"}, KeyringError, "right one"),
        (whole, {"key_file": tmp_path / "nothing"}, Unavailable, "No such file"),
    ]
    for source, options, error, said in cases:
        with pytest.raises(error, match=said):
            into(source, data, replace=True, **options)
        assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    with pytest.raises(KeyringError, match="--key-file"):
        into(whole, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


class Crash(BaseException):
    """Nothing after this point runs."""


@contextlib.contextmanager
def crash_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stop before or after the renames, by number; the value says how many moments there were."""
    moments = [0]
    rename: Callable[..., None] = os.rename

    def renaming(*given: Any) -> None:
        for done in (False, True):
            moments[0] += 1
            if moments[0] == step:
                raise Crash
            if not done:
                rename(*given)

    with monkeypatch.context() as patching:
        patching.setattr(os, "rename", renaming)
        # What a crash does not run: the tidying up.
        patching.setattr("postroom.backup.restore.shutil.rmtree", lambda *given, **options: None)
        with contextlib.suppress(Crash):
            yield moments


def test_wherever_it_is_cut_off_the_folder_is_the_former_or_the_restored_one(
    backup: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(data, "UPDATE servers SET name = 'later'")
    KeyRing.create(data / "other.ring")
    (data / "journals").mkdir(exist_ok=True)
    (data / "journals" / "1-7-1.journal").write_bytes(b"later")
    whole = {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    seen = set()
    for step in range(1, 40):
        folder = tmp_path / f"cut{step}"
        for name, content in whole.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
        with crash_at(step, monkeypatch) as moments:
            into(backup, folder, replace=True)
        if moments[0] < step:
            break
        take_folder(folder).release()  # as any start does

        name = one(folder, "SELECT name FROM servers")
        seen.add(name)
        assert not (folder / MARKER_NAME).exists()
        assert (folder / "journals").exists() is (name == "later")
        everything = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        assert all(content in everything for content in whole.values()), step
        assert one(folder, "PRAGMA integrity_check") == "ok"
        if name == "default":
            assert one(folder, "SELECT COUNT(*) FROM pauses") == 1
    assert step > 6
    assert seen == {"later", "default"}


@pytest.mark.parametrize("trouble", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_an_error_while_files_change_places_leaves_all_of_them_to_the_next_start(
    backup: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    rows(data, "UPDATE servers SET name = 'later'")
    rename: Callable[..., None] = os.rename

    def failing(source: Path, target: Path) -> None:
        if target == data / "postroom.db":
            raise trouble
        rename(source, target)

    with monkeypatch.context() as patching:
        patching.setattr(os, "rename", failing)
        with pytest.raises((Unavailable, KeyboardInterrupt)):
            into(backup, data, replace=True)
    take_folder(data).release()
    assert one(data, "SELECT name FROM servers") == "default"
    assert sorted(path.name for path in data.glob(".restore-*")) == []


def test_what_a_killed_restore_left_is_swept_by_the_next(backup: Path, data: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    (new / ".restore-abcd").mkdir(parents=True)
    (new / ".restore-abcd" / "postroom.db").touch()
    into(backup, new, key_file=data / "keys.ring")
    assert sorted(path.name for path in new.iterdir()) == ["keys.ring", "postroom.db"]
    assert secrets_in(new) == secrets_in(data)
