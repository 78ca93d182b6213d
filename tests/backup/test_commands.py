"""`postroom backup` as people and cron use it: words, documents, exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from postroom.cli import exits
from postroom.cli.app import run_app
from postroom.control.lock import SERVE, FolderLock
from postroom.keyring import KeyRing
from tests.backup.conftest import secrets_in


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Done:
        code = run_app([str(one) for one in arguments])
        told = capsys.readouterr()
        return Done(code, told.out, told.err)

    return run


def test_a_backup_and_a_look_over_it(command: Run, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.tar"
    done = command("backup", target, "--data", data)
    assert done.code == 0
    assert "3 messages" in done.out
    assert "3 deliveries wait" in done.out
    assert "The key file is not in it" in done.out
    assert "was not tried" in command("backup", "verify", target).out
    looked = command("backup", "verify", target, "--key-file", data / "keys.ring")
    assert f"opens all {secrets_in(data)} secrets" in looked.out
    assert list(tmp_path.glob(".*")) == []


def test_documents(command: Run, data: Path, tmp_path: Path) -> None:
    made = command("backup", "create", tmp_path / "b", "--with-key-file", "--data", data, "--json").document
    looked = command("backup", "verify", tmp_path / "b", "--json").document
    assert (made["deliveries"], made["key_file"], looked["opened"]) == ({"ready": 3}, True, secrets_in(data))
    assert looked["instance"] == made["instance"]
    assert made["size_bytes"] > 100_000


def test_exit_codes(command: Run, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "b"
    assert command("backup", target, "--data", tmp_path / "nothing").code == exits.NOT_FOUND
    assert command("backup", target, "--data", data).code == exits.OK
    assert command("backup", target, "--data", data).code == exits.REFUSED
    assert command("backup", "verify", tmp_path / "nothing").code == exits.NOT_FOUND
    KeyRing.create(tmp_path / "other.ring")
    assert command("backup", "verify", target, "--key-file", tmp_path / "other.ring").code == exits.USAGE
    with (target / "postroom.db").open("ab") as file:
        file.write(b"x")
    done = command("backup", "verify", target, "--json")
    assert (done.code, done.document["error"]["kind"]) == (exits.REFUSED, "conflict")


def test_a_restore_says_what_waits_and_how_it_goes_on(command: Run, data: Path, tmp_path: Path) -> None:
    source, new = tmp_path / "b", tmp_path / "new"
    assert command("backup", source, "--data", data).code == 0
    refused = command("restore", source, "--data", new)
    assert (refused.code, "--key-file" in refused.err) == (exits.USAGE, True)
    done = command("restore", source, "--key-file", data / "keys.ring", "--data", new)
    assert done.code == 0, done.err
    assert "Everything is paused" in done.out
    assert re.search(r"waiting now +3\n", done.out)
    assert f"postroom queue resume --all --data {new}" in done.out
    assert command("restore", source, "--data", new).code == exits.REFUSED
    assert command("restore", source, "--data", new, "--mark-unsettled-as", "sent").code == exits.REFUSED
    again = command(
        "restore", source, "--data", new, "--replace", "--mark-unsettled-as", "unverified", "--json"
    )
    assert (again.document["marked"], again.document["deliveries"]) == (3, {"unverified": 3})
    assert Path(again.document["aside"]).is_dir()
    paused = command("queue", "resume", "--all", "--data", new, "--json").document
    assert paused["ended"]["reason"] == "restored"


def test_a_folder_in_use_is_not_restored_into(command: Run, data: Path, tmp_path: Path) -> None:
    assert command("backup", tmp_path / "b", "--data", data).code == 0
    held = FolderLock.take(data, SERVE)
    done = command("restore", tmp_path / "b", "--replace", "--data", data)
    held.release()
    assert (done.code, "in use" in done.err) == (exits.UNAVAILABLE, True)


@pytest.mark.parametrize("arguments", [("backup",), ("backup", "--help")])
def test_help_names_both(command: Run, arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert "create" in done.out + done.err
    assert "verify" in done.out + done.err
