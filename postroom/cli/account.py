"""`postroom account`: customers of this installation."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from postroom.cli.command import Limit, Offset, command, group
from postroom.cli.terminal import Terminal

app = group("account", "Accounts: the customers of this installation.")


@command(app, "create")
def create(terminal: Terminal, name: Annotated[str, Argument(help="Its name, for people.")]) -> None:
    """Make an account."""
    made = terminal.call("account.create", name=name)
    terminal.show(made, lambda: terminal.say(f"Account {made['account_id']} was made."))


@command(app, "list")
def list_accounts(terminal: Terminal, limit: Limit = 500, offset: Offset = 0) -> None:
    """List the accounts, oldest first."""
    found = terminal.call("account.list", limit=limit, offset=offset)
    terminal.show(
        found,
        lambda: terminal.table(
            ("id", "name", "made"),
            ((one["account_id"], one["name"], one["created_at"]) for one in found["data"]),
            "There are no accounts.",
        ),
    )


@command(app, "show")
def show(terminal: Terminal, account: Annotated[int, Argument(metavar="ID")]) -> None:
    """Show one account."""
    found = terminal.call("account.show", account=account)
    terminal.show(found, lambda: terminal.facts(found))
