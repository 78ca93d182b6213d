"""The command in a real shell: completion at TAB, a pipe whose reader goes away, Ctrl-C."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postroom.cli import run
from postroom.cli.completion import SHELLS
from postroom.control.lock import COMMAND, FolderLock
from tests.support.serve import clean_environment, serving

PATIENCE_S = 30.0
HOSTILE = "\\\\\"; touch pwned; $(touch pwned) `touch pwned` '"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with `postroom` on it."""
    program = tmp_path / "bin" / "postroom"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m postroom "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def shell(script: str, path: str, home: Path, program: str = "bash") -> subprocess.CompletedProcess[str]:
    environment = clean_environment({"PATH": path, "HOME": str(home)})
    return subprocess.run(
        [program, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def at_tab(path: str, home: Path, *lines: str) -> list[list[str]]:
    """What bash offers for the last word of each line, in one shell."""
    script = "source <(postroom --show-completion bash)\n"
    for line in lines:
        words = line.split(" ")
        script += f"""
            COMP_WORDS=({" ".join(shlex.quote(one) for one in words)})
            COMP_CWORD={len(words) - 1}
            _postroom_completion postroom
            echo "${{COMPREPLY[*]}}"
        """
    done = shell(script + "complete -p postroom >&2", path, home)
    assert done.stderr == "complete -o default -F _postroom_completion postroom\n"
    return [one.split() for one in done.stdout.splitlines()]


def test_bash_completes_commands_flags_and_words(path: str, tmp_path: Path) -> None:
    """And nothing where nobody serves, which makes no folder."""
    data = tmp_path / "nothing"
    group, flags, words, numbers = at_tab(
        path,
        tmp_path,
        "postroom supp",
        "postroom connection create --h",
        "postroom connection create --auth x --vendor ma",
        f"postroom connection show --data {data} ",
    )
    assert (group, words, numbers) == (["suppression"], ["mailgun"], [])
    assert "--hourly-cap" in flags
    assert not data.exists()


def test_completion_offers_the_numbers_a_running_serve_has_and_no_shell_trusts_a_label(
    path: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with serving(data) as serve:
        serve.ask("bootstrap")
        for label in ("Relay", HOSTILE):
            fields = {"label": label, "host": "127.0.0.1", "port": 9, "for_broadcast": True}
            serve.ask("connection.create", fields=fields)
        line = f"postroom connection show --data {data} "
        assert at_tab(path, tmp_path, line) == [["1", "2"]]
        asked = f"_TYPER_COMPLETE_ARGS={shlex.quote(line)} _POSTROOM_COMPLETE=complete_zsh postroom"
        done = shell(asked, path, tmp_path)  # what zsh would evaluate; zsh itself need not be here
    assert done.stderr == ""
    offered = dict(re.findall(r'"(\d+)":"(.*?)"[)\n]', done.stdout))
    assert offered["1"] == "Relay"
    assert re.fullmatch(r"[A-Za-z0-9 ?]*touch pwned[A-Za-z0-9 ?]*", offered["2"])


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_is_installed(name: str, path: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    installed = shell(f"postroom --install-completion {name}", path, home)
    assert installed.returncode == 0, installed.stderr
    written = [one for one in home.rglob("*") if one.is_file() and "_POSTROOM_COMPLETE" in one.read_text()]
    assert len(written) == 1
    assert str(written[0]) in installed.stdout
    if shutil.which(name) is not None:
        checked = subprocess.run([name, "-n", str(written[0])], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_a_shell_nobody_knows_is_a_usage_error(path: str, tmp_path: Path) -> None:
    done = shell("postroom --show-completion csh", path, tmp_path)
    assert done.returncode == 2
    assert "bash, zsh, fish" in done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a message longer than a pipe holds."""
    folder = tmp_path_factory.mktemp("data")
    text = folder / "long.txt"
    text.write_text("x" * 300_000)
    assert run(["bootstrap", "--data", str(folder)]) == 0
    assert (
        run(["message", "send", "--to", "a@b.example", "--text-file", str(text), "--data", str(folder)]) == 0
    )
    return folder


@pytest.mark.parametrize("command", ["--help", "message show 1 --data DATA", "config --json --data DATA"])
def test_a_reader_that_goes_away_is_no_error(command: str, data: Path, path: str, tmp_path: Path) -> None:
    command = command.replace("DATA", str(data))
    # The reader closes its end before anything is written.
    done = shell(f"postroom {command} | exec 0<&-; echo ${{PIPESTATUS[0]}}", path, tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_ctrl_c_ends_a_waiting_command_with_130(tmp_path: Path) -> None:
    """It waits for a folder that another command holds, and says so of itself when it is interrupted."""
    held = FolderLock.take(tmp_path, COMMAND)
    try:
        for flags in ((), ("--json",)):
            process = subprocess.Popen(
                [sys.executable, "-m", "postroom", "bootstrap", "--data", str(tmp_path), *flags],
                env=clean_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            _until_it_sleeps(process.pid)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 130, err
            assert "Traceback" not in err
            assert "interrupted" in (out if flags else err)
    finally:
        held.release()


def _until_it_sleeps(pid: int) -> None:
    """Until it waits in its loop: it has an epoll descriptor, which nothing before has."""
    deadline = time.monotonic() + PATIENCE_S
    while not any("eventpoll" in _target(one) for one in Path(f"/proc/{pid}/fd").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""
