"""Shell completion: scripts for bash, zsh and fish, and the numbers of what a running `serve` has.

The scripts ask this very program at each press of TAB, so they never go out of date. `serve` is asked for
numbers and may take half a second or fail, without a word; no lock is taken and nothing is opened, so without
it there are none. Labels are other people's texts and a shell evaluates what it is given: only plain letters
of them are shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

PROGRAM = "postroom"
ASKS = "_POSTROOM_COMPLETE"  # in the environment when a shell asks
PATIENCE_S = 0.5
_MOST = 200
_UNSAFE = re.compile(r"[^A-Za-z0-9 .@_-]")

Found = list[tuple[str, str]]
Complete = Callable[[typer.Context, str], Found]


def prepare() -> None:
    """Let typer know the shells, where one asks: it does so by itself for options of its own alone."""
    if ASKS in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # public by its module alone

        completion_init()


def numbers(operation: str, number: str, label: str) -> Complete:
    """Completes the numbers that a list operation answers under `number`, with what it says under `label`."""

    def complete(ctx: typer.Context, incomplete: str) -> Found:
        try:
            rows = asyncio.run(_ask(ctx, operation))
        except Exception:  # a failure here would be printed into the line that is being typed
            return []
        found = [(str(int(one[number])), _plain(one[label])) for one in rows[:_MOST]]
        return [one for one in found if one[0].startswith(incomplete)]

    return complete


def words(*known: str) -> Callable[[str], list[str]]:
    """Completes one of these."""
    return lambda incomplete: [one for one in known if one.startswith(incomplete)]


async def _ask(ctx: typer.Context, operation: str) -> list[dict[str, str]]:
    from postroom.config import load
    from postroom.control.address import socket_path
    from postroom.control.client import call
    from postroom.control.lock import SERVE, holder_of

    file, data = ctx.params.get("config_file"), ctx.params.get("setting_data")
    settings = load({"data": data}, os.environ, file if file is None else Path(file))
    holder = holder_of(settings.data)
    if holder is None or holder.role != SERVE:
        return []
    args = {} if ctx.params.get("account") is None else {"account": int(ctx.params["account"])}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            rows: list[dict[str, str]] = (await call(socket_path(settings.data), operation, args))["data"]
            return rows
    return []


def _plain(text: object) -> str:
    return _UNSAFE.sub("?", str(text))[:40]


connections = numbers("connection.list", "connection_id", "label")
servers = numbers("server.list", "server_id", "name")
accounts = numbers("account.list", "account_id", "name")


def _show(shell: str | None) -> None:
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # public by its module alone

    if shell is not None:
        print(get_completion_script(prog_name=PROGRAM, complete_var=ASKS, shell=shell))
        raise typer.Exit


def _install(shell: str | None) -> None:
    from typer.completion import install  # type: ignore[attr-defined]  # public by its module alone

    if shell is not None:
        _, path = install(shell=shell, prog_name=PROGRAM, complete_var=ASKS)
        print(f"Completion for {shell} was written to {path}. It works in the next shell you open.")
        raise typer.Exit


def _shell(given: str | None) -> str | None:
    if given not in (None, *SHELLS):
        raise typer.BadParameter(f"must be one of {', '.join(SHELLS)}")
    return given


SHELLS = ("bash", "zsh", "fish")

ShowCompletion = Annotated[
    str | None,
    typer.Option(
        "--show-completion",
        metavar="SHELL",
        help="Print the completion script for bash, zsh or fish.",
        callback=lambda shell: _show(_shell(shell)),
        is_eager=True,
        autocompletion=words(*SHELLS),
    ),
]
InstallCompletion = Annotated[
    str | None,
    typer.Option(
        "--install-completion",
        metavar="SHELL",
        help="Install completion for bash, zsh or fish.",
        callback=lambda shell: _install(_shell(shell)),
        is_eager=True,
        autocompletion=words(*SHELLS),
    ),
]
