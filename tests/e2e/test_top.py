"""`postroom top` on a real terminal (a pty), beside a real `serve`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.cli import run
from tests.support.serve import PATIENCE_S, Serve, clean_environment, serving


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("top")
    with serving(folder / "data", "--first-run") as running:
        yield running


@dataclass
class Terminal:
    """A process on a terminal of 80 by 24, and what it has drawn so far."""

    process: subprocess.Popen[bytes]
    master: int
    drawn: bytes = b""

    def until(self, what: Callable[[bytes], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what(self.drawn):
            readable, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"waited in vain: {self.drawn!r}"
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # its end, on Linux
                piece = b""
            assert piece, f"it ended: {self.drawn!r}"
            self.drawn += piece


@contextlib.contextmanager
def on_terminal(*arguments: str, data: Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "postroom", *arguments, "--data", str(data)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=clean_environment({"TERM": "xterm"}),
        start_new_session=True,
    )
    before = termios.tcgetattr(slave)
    try:
        yield Terminal(process, master)
        assert termios.tcgetattr(slave) == before, "the terminal is left as it was found"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(slave)
        os.close(master)


def frames(drawn: bytes) -> int:
    return drawn.count(b"since start")


def test_it_draws_again_and_again_and_q_ends_it(serve: Serve) -> None:
    with on_terminal("top", "--interval", "0.2", data=serve.data) as terminal:
        terminal.until(lambda drawn: frames(drawn) >= 3)
        os.write(terminal.master, b"xq")
        process = terminal.process
        terminal.until(lambda drawn: b"\x1b[?1049l" in drawn)  # back from the screen of its own
        assert process.wait(PATIENCE_S) == 0
    assert b"\x1b[?1049h" in terminal.drawn
    assert b"sending" in terminal.drawn


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_the_terminal_in_order(serve: Serve, number: signal.Signals) -> None:
    with on_terminal("top", data=serve.data) as terminal:
        terminal.until(lambda drawn: frames(drawn) >= 1)
        terminal.process.send_signal(number)
        terminal.until(lambda drawn: b"\x1b[?1049l" in drawn)
        assert terminal.process.wait(PATIENCE_S) == 0


def test_in_a_pipe_it_prints_once(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("top",), ("top", "--once"), ("status",)):
        assert run([*arguments, "--data", str(serve.data)]) == 0
        out, err = capsys.readouterr()
        assert (frames(out.encode()), err) == (1, "")
        assert "\x1b" not in out
    for command in ("top", "status"):
        assert run([command, "--json", "--data", str(serve.data)]) == 0
        assert json.loads(capsys.readouterr().out)["pid"] == serve.process.pid


def test_metrics_are_there_for_this_machine(serve: Serve) -> None:
    with urllib.request.urlopen(f"{serve.url}/metrics", timeout=PATIENCE_S) as answered:
        text = answered.read().decode()
    assert "postroom_lease_held 1.0" in text
    assert 'postroom_smtp_sessions{listener="submission"} 0.0' in text


def test_when_serve_ends_it_ends_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    flags = ["--data", str(data)]
    assert run(["status", *flags]) == 3
    with serving(data) as running, on_terminal("top", "--interval", "0.2", data=data) as terminal:
        terminal.until(lambda drawn: frames(drawn) >= 1)
        running.stop()
        terminal.until(lambda drawn: b"no `serve` is running" in drawn)
        assert terminal.process.wait(PATIENCE_S) == 4
    for arguments in (["top"], ["status"], ["notices", "--follow"]):
        capsys.readouterr()
        assert run([*arguments, *flags]) == 4
        assert "no `serve` is running" in capsys.readouterr().err
    assert run(["notices", *flags]) == 0
    assert run(["notices", "--follow", "--json", *flags]) == 1
