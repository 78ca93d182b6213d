"""The real `python -m postroom`, as a subprocess on free ports in a folder of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postroom.cli.reach import call
from postroom.config import load

READY = "Stop it with Ctrl-C."
PATIENCE_S = 30.0


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of Postroom's, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    return {**kept, **(more or {})}


def postroom(
    *arguments: str,
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    flags = [] if data is None else ["--data", str(data)]
    return subprocess.run(
        [sys.executable, "-m", "postroom", *arguments, *flags],
        env=clean_environment(environment),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=cwd,
    )


def answer(*arguments: str, data: Path, environment: Mapping[str, str] | None = None) -> Any:
    """The one JSON document of a command that must succeed."""
    done = postroom(*arguments, "--json", data=data, environment=environment)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)


@dataclass
class Serve:
    """A running `serve`. `lines`: what it printed until it was ready."""

    process: subprocess.Popen[str]
    data: Path
    log: Path
    lines: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What it printed until it was ready."""
        return "\n".join(self.lines)

    @property
    def url(self) -> str:
        """The first URL it printed."""
        return next(word for line in self.lines for word in line.split() if word.startswith("http://"))

    def answer(self, *arguments: str) -> Any:
        """The JSON document of a command on the same folder."""
        return answer(*arguments, data=self.data, environment=self.environment)

    def ask(self, operation: str, /, **args: object) -> Any:
        """An operation on the same folder, without the price of a new process; also when it has ended."""
        return asyncio.run(call(load({"data": str(self.data)}, self.environment), operation, args))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal its process group, as a terminal or `make` does, and wait for its end; its exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
        return code


def start_serve(
    data: Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    http: str | None = "127.0.0.1:0",
    smtp: str | None = "127.0.0.1:0",
    cwd: Path | None = None,
) -> Serve:
    """Start it in a process group of its own and wait until it says that it runs."""
    log = data.parent / f"{data.name}.{time.monotonic_ns()}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-u", "-m", "postroom", "serve", "--data", str(data)),
                *(() if http is None else ("--http", http)),
                *(() if smtp is None else ("--smtp", smtp)),
                *flags,
            ],
            env=clean_environment(environment),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
            cwd=cwd,
        )
    serve = Serve(process, data, log, environment=environment or {})
    try:
        _read_until_ready(serve)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        serve.stop()
        raise
    return serve


def _read_until_ready(serve: Serve) -> None:
    stdout = serve.process.stdout
    assert stdout is not None
    deadline = time.monotonic() + PATIENCE_S
    seen = b""
    while READY.encode() not in seen:
        readable, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(stdout.fileno(), 65536) if readable else b""
        if not piece:
            raise AssertionError(f"serve did not start: {seen.decode()}\n{serve.log.read_text()}")
        seen += piece
    serve.lines = seen.decode().splitlines()


@contextlib.contextmanager
def serving(data: Path, *flags: str, **options: Any) -> Iterator[Serve]:
    """`start_serve`, stopped at the end; its exit code must be 0."""
    serve = start_serve(data, *flags, **options)
    try:
        yield serve
    finally:
        code = serve.stop()
    assert code == 0, serve.log.read_text()


def wait_for(condition: Callable[[], Any], what: str, patience_s: float = 15.0) -> Any:
    """The first true value of `condition`, asked again and again; AssertionError after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
    return found
