"""`postroom notices`: the troubles of which notice was given, and those that come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer import Option

from postroom.cli.command import command
from postroom.cli.exits import OK
from postroom.cli.reach import must_serve
from postroom.cli.terminal import Terminal, plain
from postroom.errors import Invalid

_EVERY_S = 2.0
_SEEN_AT_ONCE = 500
Shown = Mapping[str, Any]  # Any: JSON values


def add_notices(root: typer.Typer) -> None:
    """`postroom notices`."""

    @command(root, "notices")
    def notices(
        terminal: Terminal,
        limit: Annotated[int, Option("--limit", help="Most of them to show.", min=1, max=500)] = 50,
        only_open: Annotated[bool, Option("--open", help="Only of troubles that last.")] = False,
        follow: Annotated[
            bool, Option("--follow", help="Go on, and print what comes, until Ctrl-C.")
        ] = False,
    ) -> int:
        """List notices, the newest first: what went wrong, since when, and whether it is over."""
        if follow and terminal.as_json:
            raise Invalid("--follow", "prints lines for people; take the log of `serve` for JSON")
        if follow:
            must_serve(terminal.settings)
        document = terminal.call("notices", limit=limit, only_open=only_open)
        if follow:
            return _follow(terminal, document["data"])
        rows = [
            (one["notice_id"], one["began_at"], one["ended_at"] or "lasts", one["kind"], one["text"])
            for one in document["data"]
        ]
        empty = "No trouble lasts." if only_open else "There was no trouble."
        terminal.show(
            document, lambda: terminal.table(("id", "began", "ended", "kind", "what happened"), rows, empty)
        )
        return OK


def _follow(terminal: Terminal, first: Sequence[Shown]) -> int:
    """Print those and then each beginning and each end, the oldest first."""
    known: dict[int, str | None] = {}
    try:
        for line in news(known, first):
            terminal.say(line)
        while True:
            time.sleep(_EVERY_S)
            must_serve(terminal.settings)
            for line in news(known, terminal.call("notices", limit=_SEEN_AT_ONCE)["data"]):
                terminal.say(line)
    except KeyboardInterrupt:
        return OK


def news(known: dict[int, str | None], found: Sequence[Shown]) -> Iterator[str]:
    """What `found`, the newest first, has that `known` (id to end) has not; `known` learns it."""
    for one in reversed(found):
        number, ended = one["notice_id"], one["ended_at"]
        if number not in known:
            yield f"{one['began_at']}  {one['kind']}: {plain(one['text'])}"
        if ended is not None and ended != one["began_at"] and known.get(number) is None:
            yield f"{ended}  {one['kind']}: over, {plain(one['about'])}"
        known[number] = ended
