"""`postroom account`: customers of this installation."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

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


@command(app, "update")
def update(
    terminal: Terminal,
    account: Annotated[int, Argument(metavar="ID")],
    name: Annotated[str | None, Option("--name", help="Its name, for people.")] = None,
    max_servers: Annotated[
        str | None, Option("--max-servers", metavar="N|none", help="How many servers its keys may make.")
    ] = None,
    may_delete_servers: Annotated[
        bool | None,
        Option("--server-deletion/--no-server-deletion", help="Whether its keys may delete servers."),
    ] = None,
) -> None:
    """Change an account."""
    most = "" if max_servers is not None and max_servers.strip().lower() == "none" else max_servers
    changed = terminal.call(
        "account.update",
        account=account,
        name=name,
        max_servers=most,
        may_delete_servers=may_delete_servers,
    )
    terminal.show(changed, lambda: terminal.facts(changed))
