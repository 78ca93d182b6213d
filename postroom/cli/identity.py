"""`postroom identity`: addresses and domains that may appear in From."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from postroom.cli.command import Account, Server, command, group
from postroom.cli.dkim import dkim
from postroom.cli.terminal import Terminal

app = group("identity", "Addresses and domains that may appear in From.")

ForAccount = Annotated[int | None, Option("--account", metavar="ID", help="Only for this account.")]
ForServer = Annotated[int | None, Option("--server", metavar="ID", help="Only for this server.")]


@command(app, "trust")
def trust(
    terminal: Terminal,
    value: Annotated[str, Argument(metavar="ADDRESS|DOMAIN", help="A domain stands for itself alone.")],
    account: ForAccount = None,
    server: ForServer = None,
) -> None:
    """Vouch for an address or a domain: for a server, an account, or with neither for everybody."""
    made = terminal.call("identity.trust", value=value, account=account, server=server)
    terminal.show(made, lambda: terminal.say(f"{made['value']} may appear in From of {_whose(made)}."))


@command(app, "list")
def list_identities(terminal: Terminal, account: Account = None, server: Server = None) -> None:
    """List what may appear in From."""
    found = terminal.call("identity.list", account=account, server=server)
    terminal.show(
        found,
        lambda: terminal.table(
            ("id", "value", "kind", "proof", "for"),
            (
                (one["identity_id"], one["value"], one["kind"], one["proof"], _whose(one))
                for one in found["data"]
            ),
            "Nothing may appear in From yet; see `identity trust`.",
        ),
    )


@command(app, "forget")
def forget(
    terminal: Terminal,
    identity_id: Annotated[int, Argument(metavar="ID", help="The identity's number.")],
    account: Account = None,
) -> None:
    """Take an identity back; mail that was accepted keeps its From."""
    done = terminal.call("identity.forget", identity_id=identity_id, account=account)
    terminal.show(done, lambda: terminal.say(f"Identity {identity_id} was forgotten."))


command(app, "dkim")(dkim)


def _whose(identity: dict[str, object]) -> str:
    if identity["server_id"]:
        return f"server {identity['server_id']}"
    return f"account {identity['account_id']}" if identity["account_id"] else "everybody"
