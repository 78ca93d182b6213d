"""What `make run` starts, as somebody meets it: keys once, three lines to paste, mail in the inbox."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.inbound.inbox_folder import list_mails, read_mail
from tests.e2e.conftest import ask
from tests.support.serve import Serve, clean_environment, serving, start_serve, wait_for

FLAGS = ("--inbox", "127.0.0.1:0", "--first-run")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("first") / "data", *FLAGS) as serve:
        yield serve


def shell(line: str) -> str:
    """Run one printed line as a person would."""
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys_in(text: str) -> list[str]:
    return re.findall(r"pr[as]_[a-z0-9]{36}", text)


def test_the_address_comes_before_any_other(first: Serve) -> None:
    urls = re.findall(r"https?://\S+", first.text)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", urls[0])
    assert urls[0] in first.lines[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed lines are curl's")
def test_the_printed_lines_send_a_mail_that_can_be_seen(first: Serve) -> None:
    connect, test, send = [line for line in first.lines if line.startswith("curl ")]
    assert json.loads(shell(connect))["id"] == 1
    assert json.loads(shell(test))["success"] is True
    assert json.loads(shell(send))["recipient_email"] == "you@example.com"

    inbox = first.data / "inbox"
    mail = wait_for(lambda: list_mails(inbox), "the mail at the inbox")[0]
    assert (mail.recipients, mail.subject) == (("you@example.com",), "Hello")
    default_sender = first.ask("server.show", server=1)["default_sender"]
    assert f"From: {default_sender}".encode() in read_mail(inbox, mail.number)

    look, show = [line.strip() for line in first.lines if " inbox " in line and line.startswith("  ")]
    assert "you@example.com" in shell(look)
    assert "It works." in shell(show)


def test_a_second_start_has_the_same_data_and_shows_no_keys(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *FLAGS) as serve:
        account_key, server_key = sorted(set(keys_in(serve.text)))
    assert (account_key[:4], server_key[:4]) == ("pra_", "prs_")
    with serving(tmp_path / "data", *FLAGS) as serve:
        assert keys_in(serve.text) == []
        assert "key create" in serve.text
        assert ask(f"{serve.url}/api/v1/email_servers", server_key)[0] == 200
        assert len(serve.ask("account.list")["data"]) == 1
    assert not keys_in(serve.log.read_text())


def test_without_the_flag_nothing_is_made(live: Serve) -> None:
    assert keys_in(live.text) == []


def test_an_interrupt_from_the_terminal_ends_it_well(tmp_path: Path) -> None:
    serve = start_serve(tmp_path / "data")
    assert serve.stop(signal.SIGINT) == 0
    assert not (tmp_path / "data" / "control.sock").exists()
    assert list((tmp_path / "data" / "journals").iterdir()) == []


def test_with_json_it_says_the_same_in_one_document(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "postroom", "serve", "--json", "--first-run", "--http", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--data", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=clean_environment(),
    ) as process:
        assert process.stdout is not None
        said = ""
        while not said.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, said
            said += line
        document = json.loads(said)
        assert ask(f"{document['url']}/readyz", "")[0] == 200
        process.terminate()
        assert process.stdout.read() == ""
    assert process.returncode == 0
    assert document["bootstrap"]["server_key"].startswith("prs_")
    assert (document["inbox"], document["pid"]) == (None, process.pid)
    assert document["smtp"].startswith("127.0.0.1:")
