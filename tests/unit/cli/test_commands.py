"""Every command, run in this process on a folder nobody serves: one JSON document, the right exit code."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from postroom.cli import exits, run
from postroom.cli.app import app
from postroom.cli.reach import call
from postroom.cli.terminal import plain, written
from postroom.config import load
from postroom.control.lock import COMMAND, SERVE, FolderLock, Locked
from postroom.control.protocol import kind_of
from postroom.inbound.inbox_folder import InboxFolder


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)  # fails on anything before or after the one document


Run = Callable[..., Done]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))

    def run_one(*arguments: str) -> Done:
        code = run(arguments)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run_one


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything."""
    data = tmp_path_factory.mktemp("template") / "data"
    for arguments in (
        ("bootstrap",),
        ("message", "send", "--to", "a@example.net", "--subject", "Hi", "--text", "hello"),
        ("message", "send", "--to", "b@example.net", "--subject", "Bounced", "--text", "hello"),
        ("message", "send", "--to", "c@example.net", "--subject", "Unverified", "--text", "hello"),
        ("connection", "create", "--host", "127.0.0.1", "--port", "9", "--server", "1"),
        ("identity", "trust", "example.com"),
    ):
        assert run([*arguments, "--data", str(data)]) == 0
    with closing(sqlite3.connect(data / "postroom.db")) as database, database:
        database.execute("UPDATE deliveries SET state = 'bounced' WHERE message_id = 2")
        database.execute("UPDATE deliveries SET state = 'unverified' WHERE message_id = 3")
    folder = InboxFolder(data / "inbox", 10, fsync=False)
    folder.open()
    folder.add(
        {"sender": "a@example.net", "recipients": ["b@example.net"], "received_at_us": 1},
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Odd: a\x1b[2Jb\r\n\r\nhello \x1b[31mthere\r\n",
    )
    folder.close()
    return data


@pytest.fixture
def filled(command: Run, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, on a copy of the folder with one of everything."""
    for name in ("HTTP", "SMTP"):  # `doctor` looks at them, and something else may run on this machine
        monkeypatch.setenv(f"POSTROOM_{name}", "127.0.0.1:0")
    shutil.copytree(template, tmp_path / "data")
    return command


WORKING: tuple[tuple[str, ...], ...] = (
    ("bootstrap", "--sender", "Shop <shop@example.com>"),
    ("account", "create", "Ada"),
    ("account", "list"),
    ("account", "show", "1"),
    ("account", "update", "1", "--max-servers", "none", "--no-server-deletion"),
    ("server", "create", "two", "--sender", "two@example.com", "--sandbox"),
    ("server", "list"),
    ("server", "show", "1"),
    ("server", "update", "1", "--name", "shop"),
    ("server", "delete", "1", "--yes"),
    ("key", "create", "--label", "app", "--server", "1", "--scope", "transactionals_write"),
    ("key", "list"),
    ("key", "revoke", "1"),
    (
        "connection",
        "create",
        "--host",
        "mail.example.com",
        "--port",
        "587",
        "--username",
        "u",
        "--password",
        "p",
    ),
    ("connection", "list"),
    ("connection", "show", "1"),
    ("connection", "update", "1", "--hourly-cap", "100", "--daily-cap", "none", "--disabled"),
    ("connection", "delete", "1"),
    ("connection", "pause", "1", "--reason", "odd bounces"),
    ("connection", "resume", "1"),
    ("connection", "reset-window", "1", "--yes"),
    ("queue", "show"),
    ("queue", "show", "--server", "1", "--connection", "1"),
    ("queue", "pause", "--all"),
    ("queue", "resume", "--server", "1"),
    ("vendor", "list"),
    ("vendor", "show", "aws_ses"),
    ("identity", "trust", "me@example.com", "--server", "1"),
    ("identity", "list"),
    ("identity", "forget", "1"),
    ("identity", "dkim", "example.com", "--ed25519"),
    ("suppression", "add", "a@example.com", "b@example.com", "--reason", "complaint"),
    ("suppression", "remove", "a@example.com", "--stream", "broadcast"),
    ("suppression", "check", "a@example.com"),
    ("suppression", "list", "--search", "exam", "--stream", "broadcast"),
    ("message", "send", "--to", "x@example.net", "--text", "yo", "--purpose", "broadcast"),
    ("message", "list"),
    ("message", "list", "--state", "captured", "--recipient", "@example.net", "--since", "2d"),
    ("message", "show", "1"),
    ("message", "cancel", "1"),
    ("message", "release", "1"),
    ("message", "retry", "2"),
    ("message", "resend", "3", "--recipient", "c@example.net", "--yes"),
    ("message", "settle", "3", "--as", "sent"),
    ("audit", "list", "--since", "1d", "--action", "key."),
    ("explain", "1"),
    ("inbox", "list"),
    ("inbox", "show"),
    ("inbox", "show", "1"),
    ("key-file", "show"),
    ("key-file", "rotate", "--keep-old"),
    ("housekeeping", "--dry-run"),
    ("housekeeping",),
    ("config",),
    ("doctor",),
    ("notices", "--open"),
)


def named(arguments: tuple[str, ...]) -> str:
    return " ".join(arguments[:2])


@pytest.mark.parametrize("arguments", WORKING, ids=named)
def test_with_json_there_is_one_document_and_nothing_else(filled: Run, arguments: tuple[str, ...]) -> None:
    done = filled(*arguments, "--json")
    assert done.code == 0, done.out + done.err
    assert isinstance(done.document, dict)
    assert done.err == ""


@pytest.mark.parametrize("arguments", WORKING, ids=named)
def test_without_json_people_are_told_something_plain(filled: Run, arguments: tuple[str, ...]) -> None:
    done = filled(*arguments)
    assert done.code == 0, done.err
    assert done.out.strip()
    assert "\x1b" not in done.out
    assert "{" not in done.out


def commands_of(group: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command's words, out of the parser itself (Any: its types are private)."""
    if not hasattr(group, "commands"):
        return [prefix]
    return [one for name, inner in group.commands.items() for one in commands_of(inner, (*prefix, name))]


@pytest.mark.parametrize("more", [(), ("--finish", "--back"), ("--password", "new", "--back")])
def test_a_rotation_is_told_exactly_one_thing(filled: Run, more: tuple[str, ...]) -> None:
    done = filled("connection", "rotate", "1", *more, "--json")
    assert done.code == exits.REFUSED
    assert [one["field"] for one in done.document["error"]["fields"]] == ["secret"]


def test_new_secrets_that_are_not_let_in_change_nothing(filled: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = str(taken.getsockname()[1])
        login = ("--username", "u", "--password", "old")
        made = filled("connection", "create", "--host", "127.0.0.1", "--port", port, *login, "--json")
        number = str(made.document["connection_id"])
        done = filled("connection", "rotate", number, "--password", "new")
    assert done.code == exits.REFUSED
    assert "Nothing was changed" in done.out
    assert filled("connection", "show", number, "--json").document["kept_secrets"] == []
    assert filled("connection", "rotate", number, "--finish", "--json").code == exits.REFUSED


def test_no_command_is_left_out_here() -> None:
    tried = {tuple(word for word in one[:2] if word[:1].isalpha()) for one in WORKING}
    tried |= {one[:1] for one in WORKING}
    all_commands = set(commands_of(typer.main.get_command(app)))
    # Tried elsewhere: what needs listeners, a running `serve`, other folders, other databases, a key
    # whose id is random.
    elsewhere = {
        ("db", "copy"),
        ("db", "reopen"),
        ("db", "status"),
        ("db", "upgrade"),
        ("serve",),
        ("status",),
        ("top",),
        ("connection", "test"),
        ("connection", "rotate"),
        ("key-file", "retire"),
    }
    assert all_commands - tried == elsewhere | {("backup", "create"), ("backup", "verify"), ("restore",)}


@pytest.mark.parametrize("words", commands_of(typer.main.get_command(app)), ids=" ".join)
def test_every_command_has_help_and_the_common_flags(command: Run, words: tuple[str, ...]) -> None:
    done = command(*words, "--help")
    assert done.code == 0
    for flag in ("--data", "--config", "--json"):
        assert flag in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("account", "show", "99"), exits.NOT_FOUND, "not_found"),
        (("key", "revoke", "99"), exits.NOT_FOUND, "not_found"),
        (("message", "show", "nothing"), exits.NOT_FOUND, "not_found"),
        (("inbox", "show", "99"), exits.NOT_FOUND, "not_found"),
        (("account", "create", " "), exits.REFUSED, "invalid"),
        (("identity", "trust", "no domain"), exits.REFUSED, "invalid"),
        (("key", "create", "--scope", "everything"), exits.REFUSED, "invalid"),
        (
            ("message", "send", "--to", "a@example.net", "--from", "x@evil.example", "--text", "x"),
            1,
            "denied",
        ),
        (("message", "send", "--to", "a@example.net", "--header", "nonsense", "--text", "x"), 1, "invalid"),
        (
            ("message", "send", "--to", "a@example.net", "--attach", "/nonexistent", "--text", "x"),
            1,
            "invalid",
        ),
        (("connection", "create", "--host", "x.example", "--port", "25", "--hourly-cap", "3"), 1, "invalid"),
        (("connection", "create", "--password", "p", "--ask-password"), exits.REFUSED, "invalid"),
        (("connection", "create", "--option", "nonsense"), exits.REFUSED, "invalid"),
        (("account", "show", "one"), exits.USAGE, "usage"),
        (("account", "fly"), exits.USAGE, "usage"),
        (("account", "create"), exits.USAGE, "usage"),
        (("fly",), exits.USAGE, "usage"),
        (("suppression", "add", "a@example.com", "--reason", "dislike"), exits.USAGE, "usage"),
        (("audit", "list", "--since", "soon"), exits.REFUSED, "invalid"),
        (("serve", "--processes", "4"), exits.USAGE, "configuration"),
        (("serve", "--role", "http"), exits.USAGE, "configuration"),
        (("serve", "--drain", "soon"), exits.USAGE, "configuration"),
        (("config", "--config", "/nonexistent.toml"), exits.USAGE, "configuration"),
    ],
)
def test_errors_are_one_document_and_an_exit_code(
    filled: Run, arguments: tuple[str, ...], code: int, kind: str
) -> None:
    done = filled(*arguments, "--json")
    assert (done.code, list(done.document), done.document["error"]["kind"]) == (code, ["error"], kind)
    done = filled(*arguments)
    assert done.code == code
    assert done.out == ""
    assert "Error" in done.err


def test_postgresql_is_named_where_more_processes_are_wanted(command: Run) -> None:
    for flags in (("--processes", "2"), ("--role", "deliver")):
        assert "PostgreSQL" in command("serve", *flags).err


@pytest.mark.parametrize("words", [("backup", "copy"), ("restore", "copy")])
def test_what_is_for_sqlite_alone_names_the_tools_of_postgresql(
    command: Run, words: tuple[str, ...], tmp_path: Path
) -> None:
    done = command(*words, "--database", "postgresql://127.0.0.1:1/none")
    assert done.code == exits.REFUSED
    assert "pg_dump" in done.err
    assert "keys.ring" in done.err
    assert not (tmp_path / "data").exists()


def test_a_folder_without_data_is_not_made_by_looking(command: Run, tmp_path: Path) -> None:
    done = command("account", "list", "--json")
    assert (done.code, done.document["error"]["kind"]) == (exits.NOT_FOUND, "not_found")
    assert not (tmp_path / "data").exists()


async def test_a_folder_in_use_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    held = FolderLock.take(tmp_path, SERVE)
    with pytest.raises(Locked, match=str(os.getpid())) as refused:
        await call(load({"data": str(tmp_path)}, {}), "bootstrap", {}, patience_s=0.1)
    held.release()
    assert exits.exit_code(kind_of(refused.value)) == exits.UNAVAILABLE


async def test_a_folder_another_command_uses_is_waited_for(tmp_path: Path) -> None:
    held = FolderLock.take(tmp_path, COMMAND)
    asked = asyncio.create_task(call(load({"data": str(tmp_path)}, {}), "bootstrap", {}))
    asyncio.get_running_loop().call_later(0.1, held.release)
    assert (await asked)["account_id"] == 1


def test_a_lost_key_file_is_a_configuration_error(filled: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "keys.ring").unlink()
    done = filled("account", "list", "--json")
    assert (done.code, done.document["error"]["kind"]) == (exits.USAGE, "configuration")
    assert filled("doctor").code == exits.USAGE


def test_settings_come_from_flag_environment_file_default_in_this_order(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "postroom.toml"
    file.write_text('drain = "1s"\nlog_level = "error"\nhelo_name = "file.example"\n')
    monkeypatch.setenv("POSTROOM_DRAIN", "2s")
    monkeypatch.setenv("POSTROOM_LOG_LEVEL", "warning")
    done = command("config", "--config", str(file), "--drain", "3s", "--json")
    found = {one["name"]: (one["value"], one["source"]) for one in done.document["settings"]}
    assert found["drain"] == ("3s", "flag")
    assert found["log_level"] == ("warning", "environment")
    assert found["helo_name"] == ("file.example", f"file {file}")
    assert found["unknown_wait"] == ("30s", "default")
    assert set(done.document["settings"][0]) == {"name", "value", "default", "unit", "meaning", "source"}


def test_a_key_nobody_knows_is_an_error_wherever_it_stands(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "postroom.toml"
    file.write_text('drian = "1s"\n')
    done = command("config", "--config", str(file))
    assert done.code == exits.USAGE
    assert "did you mean drain?" in done.err
    monkeypatch.setenv("POSTROOM_DRIAN", "1s")
    assert "POSTROOM_DRIAN" in command("account", "list").err


def test_passwords_come_from_a_file_and_are_never_shown(filled: Run, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("hunter2\n")
    made = filled(
        "connection", "create", "--host", "mail.example.com", "--port", "587", "--username", "u",
        "--password-file", str(tmp_path / "pw"), "--label", "x", "--json",
    )  # fmt: skip
    assert made.code == 0, made.out
    assert made.document["auth"] == "plain"
    shown = filled("connection", "show", str(made.document["connection_id"]), "--json")
    assert "hunter2" not in made.out + shown.out
    assert shown.document["secrets"] == ["smtp_password", "smtp_username"]


def test_a_message_takes_text_and_attachments_from_files(filled: Run, tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_text("from a file")
    (tmp_path / "data.csv").write_bytes(b"a,b\n")
    sent = filled(
        "message", "send", "--to", "a@example.net", "--text-file", str(tmp_path / "body.txt"),
        "--attach", str(tmp_path / "data.csv"), "--header", "X-One: 1", "--json",
    )  # fmt: skip
    shown = filled("message", "show", sent.document["public_id"], "--json").document
    assert shown["content"]["text"] == "from a file"
    assert shown["content"]["attachments"] == [
        {"name": "data.csv", "content_type": "text/csv", "size_bytes": 4}
    ]
    assert shown["content"]["headers"] == [["X-One", "1"]]


def test_hostile_mail_cannot_touch_the_terminal(filled: Run) -> None:
    shown = filled("inbox", "show", "1")
    assert "Subject: Grüße" in shown.out
    assert "\x1b" not in shown.out
    assert "\x1b" in filled("inbox", "show", "1", "--raw").out


def test_doctor_counts_warnings_and_breakage(filled: Run, tmp_path: Path) -> None:
    assert filled("doctor").code == 0
    filled("server", "create", "two", "--sender", "who@nobody.example")
    trusted = filled("identity", "list", "--server", "2", "--json").document["data"]
    (own,) = (one for one in trusted if one["value"] == "who@nobody.example")
    assert filled("identity", "forget", str(own["identity_id"])).code == 0
    (tmp_path / "data").chmod(0o755)
    done = filled("doctor", "--json")
    levels = {one["name"]: one["level"] for one in done.document["checks"]}
    assert (done.code, done.document["level"]) == (1, "warning")
    assert (levels["data folder"], levels["server 2"]) == ("warning", "warning")
    (tmp_path / "data" / "keys.ring").chmod(0o644)
    assert filled("doctor").code == 2


def test_giving_nothing_shows_help(command: Run) -> None:
    done = command("account")
    assert done.code == exits.USAGE
    assert "create" in done.out + done.err


def test_the_version_is_told(command: Run) -> None:
    assert command("--version").out.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        ([1, "b"], "1, b"),
        ({"a": 1, "b": None}, "a=1"),
        ("a\nb", "a\ufffdb"),
    ],
)
def test_values_are_written_on_one_line(value: object, shown: str) -> None:
    assert written(value) == shown


def test_plain_text_keeps_lines_only_where_asked() -> None:
    assert plain("a\tb\nc\x07", lines=True) == "a\tb\nc\ufffd"
