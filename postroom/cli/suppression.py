"""`postroom suppression`: addresses a server sends nothing to, one by one or out of a file."""

from __future__ import annotations

import codecs
import contextlib
import csv
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Annotated

from typer import Argument, Option

from postroom.actions.suppressions import MOST_AT_ONCE
from postroom.cli.command import Account, Limit, Offset, Server, command, group
from postroom.cli.exits import REFUSED
from postroom.cli.terminal import Terminal, plain
from postroom.core.suppression import Reason
from postroom.errors import Invalid

app = group("suppression", "Addresses a server sends nothing to.")

MOST_LINE_CHARACTERS = 64 << 10
_MOST_SHOWN = 20  # of the lines that hold no address
_COLUMNS = ("email", "email address", "email_address", "e-mail", "address", "recipient", "emailaddress")

Addresses = Annotated[list[str] | None, Argument(metavar="[ADDRESS]...", help="Addresses; or --file.")]
File = Annotated[
    str | None,
    Option(
        "--file",
        metavar="FILE",
        help="Read addresses: one a line, or CSV with a column `email`; - is stdin. Any length.",
    ),
]
Stream = Annotated[str | None, Option("--stream", help="Only mail of this stream; unsaid: all mail.")]


@command(app, "add")
def add(
    terminal: Terminal,
    addresses: Addresses = None,
    file: File = None,
    reason: Annotated[Reason, Option("--reason", help="What the list will say.")] = Reason.MANUAL,
    stream: Stream = None,
    account: Account = None,
    server: Server = None,
) -> int:
    """Send nothing more to these addresses; mail that waits for them does not leave either.

    Exit code 1 when something given is no address; the others are on the list all the same.
    """
    done = _Totals()
    for part in _parts(addresses, file):
        done.count(
            terminal.call(
                "suppression.add",
                addresses=part,
                reason=reason.value,
                stream=stream or "",
                account=account,
                server=server,
            )
        )
    return done.show(terminal, "put on the list", "there already")


@command(app, "remove")
def remove(
    terminal: Terminal,
    addresses: Addresses = None,
    file: File = None,
    stream: Stream = None,
    account: Account = None,
    server: Server = None,
) -> int:
    """Let mail go to these addresses again: off the list of all mail, or with --stream of one stream.

    Exit code 1 when something given is no address; the others are off the list all the same.
    """
    done = _Totals()
    for part in _parts(addresses, file):
        done.count(
            terminal.call(
                "suppression.remove", addresses=part, stream=stream or "", account=account, server=server
            )
        )
    return done.show(terminal, "taken off the list", "not on it")


@command(app, "check")
def check(
    terminal: Terminal,
    address: Annotated[str, Argument(help="The address.")],
    account: Account = None,
    server: Server = None,
) -> None:
    """Say whether mail to an address is held back, on which streams and why."""
    found = terminal.call("suppression.check", address=address, account=account, server=server)

    def for_people() -> None:
        if not found["suppressed"]:
            terminal.say(f"{plain(found['address'])} is not suppressed.")
        for one in found["data"]:
            where = f"stream {one['stream']}" if one["stream"] else "all mail"
            since = f"{one['reason']}, since {one['created_at']}"
            terminal.say(f"{plain(one['address'])} is suppressed for {where}: {since}.")

    terminal.show(found, for_people)


@command(app, "list")
def list_suppressions(
    terminal: Terminal,
    stream: Stream = None,
    search: Annotated[str, Option("--search", metavar="TEXT", help="Only addresses with this in them.")] = "",
    account: Account = None,
    server: Server = None,
    limit: Limit = 500,
    offset: Offset = 0,
) -> None:
    """List a server's suppressed addresses, by stream and address."""
    found = terminal.call(
        "suppression.list",
        stream=stream,
        containing=search,
        account=account,
        server=server,
        limit=limit,
        offset=offset,
    )
    terminal.show(
        found,
        lambda: terminal.table(
            ("address", "stream", "reason", "origin", "since"),
            (
                (one["address"], one["stream"] or "all", one["reason"], one["origin"], one["created_at"])
                for one in found["data"]
            ),
            "No address is suppressed.",
        ),
    )


class _Totals:
    """What several calls did together."""

    def __init__(self) -> None:
        self.changed = self.unchanged = self.invalid = 0
        self.samples: list[str] = []
        self.server_id: int | None = None

    def count(self, done: dict[str, object]) -> None:
        """Add what one call answered."""
        changed, unchanged, invalid = done["changed"], done["unchanged"], done["invalid"]
        assert isinstance(changed, int)
        assert isinstance(unchanged, int)
        assert isinstance(invalid, list)
        self.changed += changed
        self.unchanged += unchanged
        self.invalid += len(invalid)
        self.samples += [one[:100] for one in invalid[: _MOST_SHOWN - len(self.samples)]]
        self.server_id = done["server_id"]  # type: ignore[assignment]  # as the operation answers

    def show(self, terminal: Terminal, changed: str, unchanged: str) -> int:
        """Tell it; the exit code."""
        document = {
            "server_id": self.server_id,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "invalid": self.invalid,
            "invalid_samples": self.samples,
        }

        def for_people() -> None:
            terminal.say(f"{self.changed} {changed}, {self.unchanged} {unchanged}.")
            if self.invalid:
                terminal.say(f"{self.invalid} not understood: {', '.join(map(plain, self.samples))}")

        terminal.show(document, for_people)
        return REFUSED if self.invalid else 0


def _parts(addresses: list[str] | None, file: str | None) -> Iterator[list[str]]:
    """The addresses in parts as large as an operation takes; never more of a file in memory."""
    if bool(addresses) == (file is not None):
        raise Invalid("addresses", "must be given, or --file, one of the two")
    if file is None:
        yield from _cut(iter(addresses or ()))
        return
    with _opened(file) as lines:
        yield from _cut(_addresses(lines, file))


def _cut(addresses: Iterator[str]) -> Iterator[list[str]]:
    while part := list(islice(addresses, MOST_AT_ONCE)):
        yield part


@contextlib.contextmanager
def _opened(file: str) -> Iterator[IO[str]]:
    try:
        if file == "-":
            # utf-8-sig: spreadsheets write a byte order mark
            yield codecs.getreader("utf-8-sig")(sys.stdin.buffer)  # type: ignore[misc]  # it is read as text
        else:
            with Path(file).open(encoding="utf-8-sig", newline="") as lines:
                yield lines
    except OSError as error:
        raise Invalid("file", f"cannot be read from {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid("file", f"{file} is not UTF-8 text") from error


def _addresses(lines: IO[str], file: str) -> Iterator[str]:
    """One address of each line: of the column named like an address in a CSV, else the first.

    Empty lines are passed over. Raises Invalid for what is neither.
    """
    bounded = _bounded(lines, file)
    first = next((line for line in bounded if line.strip()), "")
    delimiter = next((char for char in "\t;," if char in first), ",")
    column: int | None = None
    try:
        for row in csv.reader(
            chain([first], bounded), delimiter=delimiter, skipinitialspace=True, strict=True
        ):
            if not any(cell.strip() for cell in row):
                continue
            if column is None:
                names = [cell.strip().lower() for cell in row]
                column = next((names.index(name) for name in _COLUMNS if name in names), None)
                if column is not None:
                    continue
                column = 0
            yield row[column].strip() if column < len(row) else ""
    except csv.Error as error:
        raise Invalid("file", f"{file} is neither a list nor CSV: {error}") from error


def _bounded(lines: IO[str], file: str) -> Iterator[str]:
    while line := lines.readline(MOST_LINE_CHARACTERS):
        if len(line) == MOST_LINE_CHARACTERS and not line.endswith("\n"):
            raise Invalid("file", f"{file} has a line of more than {MOST_LINE_CHARACTERS} characters")
        yield line
