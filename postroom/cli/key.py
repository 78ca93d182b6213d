"""`postroom key`: API keys of accounts and servers."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from postroom.cli import completion
from postroom.cli.command import Account, Server, command, group
from postroom.cli.terminal import Terminal
from postroom.core.key import Scope

app = group("key", "API keys of accounts and servers.")


@command(app, "create")
def create(
    terminal: Terminal,
    label: Annotated[str, Option("--label", help="What it is for, for people.")] = "command line",
    scope: Annotated[
        list[str] | None,
        Option(
            "--scope",
            help="What it may do, such as transactionals_write; repeat; unsaid: all.",
            autocompletion=completion.words(*Scope),
        ),
    ] = None,
    account: Account = None,
    server: Server = None,
) -> None:
    """Make a key: of a server with --server, else of the account. It is shown this once."""
    made = terminal.call("key.create", label=label, scopes=scope or None, account=account, server=server)
    whose = f"server {made['server_id']}" if made["server_id"] else f"account {made['account_id']}"

    def for_people() -> None:
        terminal.say(made["key"])
        terminal.say(f"Key {made['key_id']} of {whose}. It is not shown again.")

    terminal.show(made, for_people)


@command(app, "list")
def list_keys(terminal: Terminal, account: Account = None, server: Server = None) -> None:
    """List the keys in force, of one server or of the whole account."""
    found = terminal.call("key.list", account=account, server=server)
    terminal.show(
        found,
        lambda: terminal.table(
            ("id", "server", "label", "scopes", "hint", "last used"),
            (
                (
                    one["key_id"],
                    one["server_id"],
                    one["label"],
                    one["scopes"],
                    f"{one['hint'][:4]}…{one['hint'][4:]}",
                    one["last_used_at"],
                )
                for one in found["data"]
            ),
            "There are no keys.",
        ),
    )


@command(app, "revoke")
def revoke(
    terminal: Terminal,
    key_id: Annotated[int, Argument(metavar="ID", help="The key's number.")],
    account: Account = None,
) -> None:
    """Revoke a key: it opens nothing any more when this command ends."""
    done = terminal.call("key.revoke", key_id=key_id, account=account)
    terminal.show(done, lambda: terminal.say(f"Key {key_id} was revoked."))
