"""`postroom queue`: pause and resume what is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from typer import Option

from postroom.cli.command import Account, command, group
from postroom.cli.terminal import Terminal, plain

app = group("queue", "What waits to be sent: pause and resume it.")

Everything = Annotated[bool, Option("--all", help="Everything that is sent from here.")]
OfServer = Annotated[int | None, Option("--server", metavar="ID", help="One server's mail.")]
OfConnection = Annotated[
    int | None, Option("--connection", metavar="ID", help="One connection; others go on.")
]
Reason = Annotated[str, Option("--reason", metavar="TEXT", help="Why, for whoever looks later.")]


@command(app, "pause")
def pause(
    terminal: Terminal,
    everything: Everything = False,
    server: OfServer = None,
    connection: OfConnection = None,
    reason: Reason = "",
    account: Account = None,
) -> None:
    """Send nothing more of it until it is resumed; mail is still accepted and waits."""
    pause_it(terminal, reason, everything=everything, server=server, connection=connection, account=account)


@command(app, "resume")
def resume(
    terminal: Terminal,
    everything: Everything = False,
    server: OfServer = None,
    connection: OfConnection = None,
    account: Account = None,
) -> None:
    """End a pause; its mail goes on at once."""
    resume_it(terminal, everything=everything, server=server, connection=connection, account=account)


def pause_it(terminal: Terminal, reason: str, **what: object) -> None:
    """Pause, and say what came of it."""
    done = terminal.call("queue.pause", reason=reason, **what)

    def for_people() -> None:
        if done["made"]:
            terminal.say(f"{_named(done)} is paused: nothing more of it is sent until it is resumed.")
        else:
            terminal.say(f"{_named(done)} was paused already {_who(done)}.")
        count = done["on_their_way"]
        if count:
            some = "1 delivery is" if count == 1 else f"{count} deliveries are"
            terminal.say(f"{some} on the way and will end.")

    terminal.show(done, for_people)


def resume_it(terminal: Terminal, **what: object) -> None:
    """Resume, and say what came of it."""
    done = terminal.call("queue.resume", **what)

    def for_people() -> None:
        if done["resumed"]:
            terminal.say(f"{_named(done['ended'])} is resumed.")
        else:
            terminal.say("It was not paused.")
        for one in done["still"]:
            terminal.say(f"Still paused: {one['what']}, {_who(one)}.")

    terminal.show(done, for_people)


def _named(pause: Mapping[str, Any]) -> str:
    name = str(pause["what"])
    return name[:1].upper() + name[1:]


def _who(pause: Mapping[str, Any]) -> str:
    said = f" ({plain(pause['reason'])})" if pause["reason"] else ""
    return f"by {pause['by']} at {pause['since']}{said}"
