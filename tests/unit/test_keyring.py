"""Sealing and the key file: what opens, what is refused, and the steps of a rotation."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import re
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.keyring import KeyRing, KeyringError, KeyState, file, key_id_of

UID = bytes(range(16))
RAW = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key"


@pytest.fixture
def ring(path: Path) -> KeyRing:
    return KeyRing.create(path)


@pytest.fixture(scope="module")
def shared_ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.create(tmp_path_factory.mktemp("ring") / "key")


def seal(ring: KeyRing, plain: bytes = b"hunter2") -> bytes:
    return ring.seal(plain, uid=UID, table="connections", field="password")


def open_(ring: KeyRing, sealed: bytes) -> bytes:
    return ring.open(sealed, uid=UID, table="connections", field="password")


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@given(
    plain=st.binary(max_size=200), uid=st.binary(min_size=1, max_size=20), table=st.text(), field=st.text()
)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_what_is_sealed_opens_in_its_place(
    shared_ring: KeyRing, plain: bytes, uid: bytes, table: str, field: str
) -> None:
    sealed = shared_ring.seal(plain, uid=uid, table=table, field=field)

    assert shared_ring.open(sealed, uid=uid, table=table, field=field) == plain
    assert len(sealed) == len(plain) + 33


def test_the_same_plain_text_seals_differently_each_time(ring: KeyRing) -> None:
    assert len({seal(ring) for _ in range(100)}) == 100


def test_a_sealed_value_names_its_key_and_hides_its_content(ring: KeyRing) -> None:
    sealed = seal(ring)

    assert sealed[0] == 1
    assert key_id_of(sealed) == ring.active_id == sealed[1:5].hex()
    assert b"hunter2" not in sealed


def test_every_changed_bit_is_noticed(ring: KeyRing) -> None:
    sealed = seal(ring)

    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(KeyringError):
            open_(ring, bytes(changed))


@pytest.mark.parametrize("short", [b"", b"\x01", b"\x01" * 32, b"\x02" * 60])
def test_what_was_never_sealed_is_refused(ring: KeyRing, short: bytes) -> None:
    with pytest.raises(KeyringError, match="not a value sealed"):
        open_(ring, short)


@pytest.mark.parametrize(
    ("uid", "table", "field"),
    [
        (UID[::-1], "connections", "password"),
        (UID, "servers", "password"),
        (UID, "connections", "username"),
        (UID + b"c", "onnections", "password"),
        (UID, "connectionsp", "assword"),
    ],
)
def test_a_value_moved_to_another_place_does_not_open(
    ring: KeyRing, uid: bytes, table: str, field: str
) -> None:
    with pytest.raises(KeyringError, match="moved from another place"):
        ring.open(seal(ring), uid=uid, table=table, field=field)


def test_a_record_without_uid_is_a_mistake_of_ours(ring: KeyRing) -> None:
    with pytest.raises(ValueError, match="uid"):
        ring.seal(b"x", uid=b"", table="connections", field="password")


def test_another_ring_says_that_the_key_is_not_there(ring: KeyRing, tmp_path: Path) -> None:
    other = KeyRing.create(tmp_path / "other")

    with pytest.raises(KeyringError, match=f"{ring.active_id}.*is this the key file that belongs"):
        open_(other, seal(ring))


def test_a_created_file_is_private_complete_and_loads(ring: KeyRing, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_(KeyRing.load(path), seal(ring)) == b"hunter2"
    assert os.listdir(path.parent) == ["key"]


def test_create_makes_the_file_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        KeyRing.create(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_create_never_replaces_a_file(ring: KeyRing, path: Path) -> None:
    text = path.read_text()

    with pytest.raises(KeyringError, match="exists already"):
        KeyRing.create(path)
    assert path.read_text() == text
    assert os.listdir(path.parent) == ["key"]


def test_of_many_who_create_at_once_one_wins(path: Path) -> None:
    made: list[KeyRing] = []
    refused: list[str] = []
    barrier = threading.Barrier(8)

    def create() -> None:
        barrier.wait(10)
        try:
            made.append(KeyRing.create(path))
        except KeyringError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert (len(made), len(refused)) == (1, 7)
    assert KeyRing.load(path).active_id == made[0].active_id


def test_create_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="cannot be made: No such file"):
        KeyRing.create(tmp_path / "nowhere" / "key")


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(KeyringError, match="no key file at"):
        KeyRing.load(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o620])
def test_a_file_others_may_use_is_refused(ring: KeyRing, path: Path, mode: int) -> None:
    path.chmod(mode)

    with pytest.raises(KeyringError, match=f"mode {mode:04o}, so others may use it; run: chmod 600"):
        KeyRing.load(path)


def test_a_read_only_file_loads(ring: KeyRing, path: Path) -> None:
    path.chmod(0o400)

    assert KeyRing.load(path).active_id == ring.active_id


def test_a_file_of_another_user_is_refused(
    ring: KeyRing, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)

    with pytest.raises(KeyringError, match=r"belongs to user \d+, but Postroom runs as user \d+"):
        KeyRing.load(path)


def test_what_is_not_a_regular_file_is_refused_without_waiting(path: Path) -> None:
    os.mkfifo(path, 0o600)

    with pytest.raises(KeyringError, match="not a regular file"):
        KeyRing.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "exactly one active key, it has 0"),
        ("# nothing\n", "exactly one active key, it has 0"),
        (f"00000001 active {RAW}\n00000002 active {RAW}\n", "exactly one active key, it has 2"),
        (f"00000001 active {RAW}\n00000001 added {RAW}\n", "line 2"),
        (f"\n00000001 open {RAW}\n", "line 2"),
        (f"0000001 active {RAW}\n", "line 1"),
        (f"0000000G active {RAW}\n", "line 1"),
        (f"ABCDEF01 active {RAW}\n", "line 1"),
        (f"00000001 active {RAW[:-4]}\n", "line 1"),
        (f"00000001 active {RAW[:-5]}!====\n", "line 1"),
        ("00000001 active\n", "line 1"),
        (f"00000001 active {RAW} more\n", "line 1"),
        (f"00000001 active {RAW}\n" + "#" * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_broken_file_is_refused_without_showing_its_keys(path: Path, text: str, said: str) -> None:
    with pytest.raises(KeyringError) as caught:
        KeyRing.load(write(path, text))

    assert said in str(caught.value)
    assert RAW[:12] not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_file_that_is_not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)

    with pytest.raises(KeyringError, match="not UTF-8"):
        KeyRing.load(path)


def test_a_rotation_from_the_first_key_to_the_second(ring: KeyRing, path: Path) -> None:
    old_id, old = ring.active_id, seal(ring)

    new_id = ring.add()
    assert ring.states == {old_id: KeyState.ACTIVE, new_id: KeyState.ADDED}
    assert key_id_of(seal(ring)) == old_id

    ring.activate(new_id)
    assert ring.states == {old_id: KeyState.RETIRING, new_id: KeyState.ACTIVE}
    assert key_id_of(seal(ring)) == new_id
    assert open_(ring, old) == b"hunter2"

    ring.retire(old_id)
    assert ring.states == {old_id: KeyState.RETIRED, new_id: KeyState.ACTIVE}
    with pytest.raises(KeyringError, match=f"{old_id}, which was retired"):
        open_(ring, old)
    assert KeyRing.load(path).states == ring.states
    assert f"{old_id} retired -" in path.read_text()


def test_each_step_may_be_repeated(ring: KeyRing) -> None:
    old_id = ring.active_id
    new_id = ring.add()
    assert ring.add() == new_id
    for _ in range(2):
        ring.activate(new_id)
    for _ in range(2):
        ring.retire(old_id)

    assert ring.states == {old_id: KeyState.RETIRED, new_id: KeyState.ACTIVE}


def test_a_rotation_may_turn_back(ring: KeyRing) -> None:
    old_id = ring.active_id
    ring.activate(ring.add())
    ring.activate(old_id)

    assert ring.active_id == old_id
    assert list(ring.states.values()).count(KeyState.RETIRING) == 1


def test_what_a_rotation_refuses(ring: KeyRing) -> None:
    old_id = ring.active_id
    with pytest.raises(KeyringError, match="is the active one"):
        ring.retire(old_id)
    with pytest.raises(KeyringError, match="no key ffffffff"):
        ring.activate("ffffffff")
    ring.activate(ring.add())
    ring.retire(old_id)
    with pytest.raises(KeyringError, match="cannot become active"):
        ring.activate(old_id)


def test_a_key_may_be_kept_for_older_backups_and_retired_later(ring: KeyRing, path: Path) -> None:
    old_id, old = ring.active_id, seal(ring)
    with pytest.raises(KeyringError, match="is not retiring"):
        ring.keep(old_id)
    ring.activate(ring.add())
    for _ in range(2):
        ring.keep(old_id)

    assert KeyRing.load(path).states[old_id] is KeyState.KEPT
    assert open_(KeyRing.load(path), old) == b"hunter2"
    ring.retire(old_id)
    assert ring.states[old_id] is KeyState.RETIRED


def test_each_key_says_when_it_was_made_through_every_step(ring: KeyRing, path: Path) -> None:
    old_id = ring.active_id
    made = ring.created[old_id]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made)
    new_id = ring.add()
    ring.activate(new_id)
    ring.retire(old_id)

    assert KeyRing.load(path).created == ring.created
    assert ring.created[old_id] == made


def test_however_often_it_is_rotated_the_file_stays_small_and_loads(ring: KeyRing, path: Path) -> None:
    first = ring.active_id
    other = KeyRing.load(path)
    for _ in range(60):
        old = ring.active_id
        ring.activate(ring.add())
        ring.retire(old)
    assert len(ring.states) < 60
    assert first not in KeyRing.load(path).states
    assert list(ring.states.values()).count(KeyState.ACTIVE) == 1
    with pytest.raises(KeyringError, match="another key file"):
        other.reload()  # it slept through all of it
    ring.reload()


def test_a_key_file_of_another_database_is_never_taken_over(ring: KeyRing, path: Path) -> None:
    sealed, old_id = seal(ring), ring.active_id
    for text in (f"00000001 active {RAW}\n", f"{old_id} active {RAW}\n"):
        write(path, text)
        for step in (ring.add, ring.reload, lambda: ring.activate("00000001")):
            with pytest.raises(KeyringError, match=f"another key file.*{old_id}"):
                step()
        assert path.read_text() == text
        assert ring.active_id == old_id
        assert open_(ring, sealed) == b"hunter2"


def test_another_process_sees_the_change_after_reload(ring: KeyRing, path: Path) -> None:
    other = KeyRing.load(path)
    ring.activate(ring.add())
    sealed = seal(ring)

    with pytest.raises(KeyringError, match="not in"):
        open_(other, sealed)
    other.reload()
    assert open_(other, sealed) == b"hunter2"


def test_who_read_the_file_before_it_was_changed_does_not_have_the_last_word(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit of work reads the file again while a rotation, in a thread of its own, changes it."""
    new, was_read, go_on, read = ring.add(), threading.Event(), threading.Event(), file.read

    def read_slowly(path: Path, descriptor: int) -> list[file.Line]:
        lines = read(path, descriptor)
        if threading.current_thread() is reading:
            was_read.set()
            assert go_on.wait(10)
        return lines

    monkeypatch.setattr(file, "read", read_slowly)
    reading = threading.Thread(target=ring.reload)
    changing = threading.Thread(target=lambda: ring.activate(new))
    reading.start()
    assert was_read.wait(10)
    changing.start()
    changing.join(0.1)  # it waits for the other, or is done
    go_on.set()
    for thread in (reading, changing):
        thread.join(10)
    assert ring.active_id == new


def test_a_reload_that_fails_keeps_the_keys_at_hand(ring: KeyRing, path: Path) -> None:
    sealed = seal(ring)
    path.write_text("garbage")

    with pytest.raises(KeyringError):
        ring.reload()
    assert open_(ring, sealed) == b"hunter2"


def test_a_change_starts_from_the_file_as_it_is_now(ring: KeyRing, path: Path) -> None:
    stale = KeyRing.load(path)
    new_id = ring.add()

    assert stale.add() == new_id
    stale.activate(new_id)
    assert KeyRing.load(path).states == stale.states


def test_changes_at_once_lose_nothing(ring: KeyRing, path: Path) -> None:
    rings = [KeyRing.load(path) for _ in range(6)]
    barrier = threading.Barrier(6)

    def rotate(mine: KeyRing) -> None:
        barrier.wait(10)
        for _ in range(3):
            mine.activate(mine.add())

    threads = [threading.Thread(target=rotate, args=(each,)) for each in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    final = KeyRing.load(path)
    assert ring.active_id in final.states
    assert {key_id for each in rings for key_id in each.states} <= set(final.states)
    assert os.listdir(path.parent) == ["key"]


def test_comments_and_blank_lines_survive_a_change(path: Path) -> None:
    ring = KeyRing.load(write(path, f"# mine\n\n00000001 active {RAW}\n  # made in spring\n"))
    new_id = ring.add()

    lines = path.read_text().splitlines()
    assert lines[:4] == ["# mine", "", f"00000001 active {RAW}", "  # made in spring"]
    assert lines[4].startswith(f"{new_id} added ")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_to_the_file_stays_a_link(ring: KeyRing, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    new_id = KeyRing.load(link).add()

    assert link.is_symlink()
    assert new_id in KeyRing.load(path).states


def test_a_write_that_fails_leaves_the_file_as_it_was(
    ring: KeyRing, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    text, states = path.read_text(), ring.states
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(KeyringError, match="cannot be written: No space left"):
        ring.add()
    assert path.read_text() == text
    assert ring.states == states
    assert os.listdir(path.parent) == ["key"]


def test_repr_and_pickle_give_no_key_away(ring: KeyRing, path: Path) -> None:
    assert repr(ring) == f"KeyRing({ring.active_id} active)"
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(ring)


@pytest.mark.parametrize("ends", ["\n", ";"])
def test_a_ring_that_is_given_as_a_text_opens_what_its_file_sealed(
    ring: KeyRing, path: Path, ends: str
) -> None:
    sealed = ring.seal(b"secret", uid=b"u", table="t", field="f")
    given = KeyRing.given(path.read_text().replace("\n", ends), "POSTROOM_KEY_RING")
    assert given.open(sealed, uid=b"u", table="t", field="f") == b"secret"
    given.reload()
    assert given.states == ring.states


def test_a_ring_that_is_given_as_a_text_is_changed_by_nobody(ring: KeyRing, path: Path) -> None:
    given = KeyRing.given(path.read_text(), "POSTROOM_KEY_RING")
    for change in (given.add, lambda: given.retire(ring.active_id), lambda: given.keep(ring.active_id)):
        with pytest.raises(KeyringError, match="POSTROOM_KEY_RING"):
            change()
    assert given.states == ring.states


def test_a_text_that_is_no_ring_is_refused_without_a_word_of_it() -> None:
    with pytest.raises(KeyringError) as caught:
        KeyRing.given(f"00000001 active {RAW} x y z", "POSTROOM_KEY_RING")
    assert RAW not in str(caught.value)
    assert "line 1 of the key file POSTROOM_KEY_RING" in str(caught.value)
