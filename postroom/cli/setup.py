"""`postroom bootstrap` and `postroom config`: what an installation begins with, and what it is set to."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from typer import Option

from postroom.cli.command import command
from postroom.cli.terminal import Terminal
from postroom.control.lock import SERVE, holder_of


def add_bootstrap(root: typer.Typer) -> None:
    """`postroom bootstrap`."""

    @command(root, "bootstrap")
    def bootstrap(
        terminal: Terminal,
        sender: Annotated[
            str | None,
            Option("--sender", metavar="MAILBOX", help="Default sender of the server, trusted in From."),
        ] = None,
    ) -> None:
        """Make the account and the server called default, if absent, and add a key to each.

        May run again: older keys stay valid. Works before, while and after `serve` runs.
        """
        made = terminal.call("bootstrap", sender=sender)
        terminal.show(made, lambda: terminal.facts(made))


def add_config(root: typer.Typer) -> None:
    """`postroom config`."""

    @command(root, "config", all_settings=True)
    def config(terminal: Terminal) -> None:
        """Print every setting in force: of the running `serve`, else of one started with the same flags."""
        holder = holder_of(terminal.settings.data)
        if holder is not None and holder.role == SERVE:
            found = terminal.call("config")
        else:
            found = {"settings": [asdict(one) for one in terminal.settings.explain()]}
        terminal.show(
            found,
            lambda: terminal.table(
                ("name", "value", "default", "unit", "source", "meaning"),
                (
                    (
                        one["name"],
                        one["value"],
                        one["default"],
                        one["unit"],
                        one["source"],
                        one["meaning"],
                    )
                    for one in found["settings"]
                ),
                "",
            ),
        )
