"""What a command works with: the settings, a way to ask for an operation, and how to show the answer.

With --json exactly one JSON document goes to stdout. Without, tables and facts; in colour and boxes only on
a terminal, plain columns anywhere else. Progress goes to stderr, and only to a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from postroom.config import Settings, load
from postroom.errors import Invalid


class Terminal:
    """Handed to every command. flags, config: where settings come from besides the environment.

    `as_json`: exactly one document on stdout, nothing for people.
    """

    def __init__(self, flags: Mapping[str, str | None], config: Path | None, as_json: bool) -> None:
        self.flags, self.config = dict(flags), config
        self.as_json = as_json

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings in force for this command. Raises ConfigError."""
        return load(self.flags, os.environ, self.config)

    def call(self, operation: str, /, **args: object) -> Any:  # Any: JSON values
        """Ask for an operation, of `serve` or done here. Raises PostroomError, ConfigError, KeyringError."""
        from postroom.cli.reach import call

        return asyncio.run(call(self.settings, operation, args))

    def show(self, document: object, for_people: Callable[[], None]) -> None:
        """The document with --json, else what `for_people` prints."""
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False, indent=2), flush=True)
        else:
            for_people()

    def say(self, text: str = "") -> None:
        """One line for people."""
        print(text, flush=True)

    def facts(self, values: Mapping[str, object]) -> None:
        """Names and values, one a line."""
        width = max((len(name) for name in values), default=0)
        for name, value in values.items():
            self.say(f"{name:<{width}}  {written(value)}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
        """Rows under their columns; `empty`: what to say where there are none."""
        texts = [[written(value) for value in row] for row in rows]
        if not texts:
            self.say(empty)
        elif sys.stdout.isatty():
            _rich_table(columns, texts)
        else:
            widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
            for row in ([*columns], *texts):
                self.say(
                    "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
                )

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before what cannot be taken back; `yes`: do not ask.

        Raises typer.Abort, and Invalid where nobody is there to answer: silence is no yes.
        """
        if yes:
            return
        if self.as_json or not sys.stdin.isatty():
            raise Invalid("yes", f"must be given where nobody can be asked: {question}")
        typer.confirm(question, abort=True)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show on a terminal's stderr that something takes its time."""
        if self.as_json or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(text):
            yield


def written(value: object) -> str:
    """A JSON value on one line of text; nothing in it can move the cursor or forge a line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(written(one) for one in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}={written(one)}" for name, one in value.items() if one is not None) or "-"
    return plain(str(value))


def plain(text: str, *, lines: bool = False) -> str:
    """Text without characters that do not print; with `lines`, line ends and tabs stay."""
    kept = "\n\t" if lines else ""
    return "".join(
        char if char.isprintable() or char in kept else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def read_secret(path: str, field: str) -> str:
    """A secret out of a file, or of stdin for `-`, without its last line end. Raises Invalid."""
    return read_text(path, field).removesuffix("\n").removesuffix("\r")


def read_text(path: str, field: str) -> str:
    """A file's text, or that of stdin for `-`. Raises Invalid."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise Invalid(field, f"cannot be read from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(field, f"in {path} is not UTF-8 text") from error


def command_name() -> str:
    """How this program was started, to be shown in a command that works when pasted."""
    if not sys.argv or Path(sys.argv[0]).name != "__main__.py":
        return "postroom"
    interpreter = sys.executable
    with contextlib.suppress(ValueError):
        interpreter = str(Path(interpreter).relative_to(Path.cwd()))
    return f"{shlex.quote(interpreter)} -m postroom"
