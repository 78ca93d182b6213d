"""`postroom server`: the containers of an account."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from postroom.cli import completion
from postroom.cli.command import Account, Limit, Offset, command, group
from postroom.cli.terminal import Terminal

app = group("server", "Servers: containers of streams, keys, connections and mail.")

Id = Annotated[int, Argument(metavar="ID", help="The server's number.", autocompletion=completion.servers)]
Sender = Annotated[
    str | None,
    Option("--sender", metavar="MAILBOX", help="From of messages that name none: `Name <address>`."),
]
Sandbox = Annotated[
    bool | None, Option("--sandbox/--no-sandbox", help="Capture its mail instead of sending it.")
]


@command(app, "create")
def create(
    terminal: Terminal,
    name: Annotated[str, Argument(help="Its name, for people.")],
    sender: Sender = None,
    sandbox: Sandbox = None,
    account: Account = None,
) -> None:
    """Make a server, with the streams outbound, inbound and broadcast."""
    made = terminal.call(
        "server.create", name=name, account=account, default_sender=sender, sandbox=bool(sandbox)
    )
    terminal.show(made, lambda: terminal.say(f"Server {made['server_id']} was made."))


@command(app, "list")
def list_servers(terminal: Terminal, account: Account = None, limit: Limit = 500, offset: Offset = 0) -> None:
    """List an account's servers, oldest first."""
    found = terminal.call("server.list", account=account, limit=limit, offset=offset)
    terminal.show(
        found,
        lambda: terminal.table(
            ("id", "name", "default sender", "sandbox"),
            ((one["server_id"], one["name"], one["default_sender"], one["sandbox"]) for one in found["data"]),
            "There are no servers.",
        ),
    )


@command(app, "show")
def show(terminal: Terminal, server: Id, account: Account = None) -> None:
    """Show one server and its streams."""
    found = terminal.call("server.show", server=server, account=account)
    streams = [f"{one['stream']} ({one['type']})" for one in found["streams"]]
    terminal.show(found, lambda: terminal.facts({**found, "streams": streams}))


@command(app, "update")
def update(
    terminal: Terminal,
    server: Id,
    name: Annotated[str | None, Option("--name", help="Its name, for people.")] = None,
    sender: Sender = None,
    sandbox: Sandbox = None,
    smtp: Annotated[
        bool | None, Option("--smtp/--no-smtp", help="Whether its keys may submit by SMTP.")
    ] = None,
    account: Account = None,
) -> None:
    """Change a server; an empty --sender removes its default sender."""
    changed = terminal.call(
        "server.update",
        server=server,
        account=account,
        name=name,
        default_sender=sender,
        sandbox=sandbox,
        smtp_enabled=smtp,
    )
    terminal.show(changed, lambda: terminal.facts(changed))


@command(app, "delete")
def delete(
    terminal: Terminal,
    server: Id,
    account: Account = None,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a server with its keys, connections and identities, and cancel what waits."""
    terminal.confirm(f"Delete server {server} and everything that is its own?", yes=yes)
    with terminal.working("Cancelling what waits ..."):
        done = terminal.call("server.delete", server=server, account=account)

    def for_people() -> None:
        terminal.say(f"Server {server} was deleted; {done['cancelled']} deliveries were cancelled.")
        if done["past_dot"]:
            terminal.say(f"Too late to stop: deliveries {', '.join(map(str, done['past_dot']))}.")

    terminal.show(done, for_people)
