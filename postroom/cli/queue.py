"""`postroom queue`: what waits to be sent; pause and resume it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from typer import Option

from postroom.cli.command import Account, command, group
from postroom.cli.terminal import Terminal, plain

app = group("queue", "What waits to be sent: show it, pause it, resume it.")

Everything = Annotated[bool, Option("--all", help="Everything that is sent from here.")]
OfServer = Annotated[int | None, Option("--server", metavar="ID", help="One server's mail.")]
OfConnection = Annotated[
    int | None, Option("--connection", metavar="ID", help="One connection; others go on.")
]
ForConnection = Annotated[
    int | None, Option("--connection", metavar="ID", help="What this connection may take.")
]
Reason = Annotated[str, Option("--reason", metavar="TEXT", help="Why, for whoever looks later.")]


@command(app, "show")
def show(
    terminal: Terminal,
    server: OfServer = None,
    connection: ForConnection = None,
    account: Account = None,
) -> None:
    """Show what waits to be sent, what for, and the room of the connections it may take."""
    found = terminal.call("queue.show", account=account, server=server, connection=connection)

    def for_people() -> None:
        for one in found["pauses"]:
            terminal.say(f"{_named(one)} is paused {_who(one)}.")
        _lanes(terminal, found)
        if found["connections"]:
            terminal.say()
            _connections(terminal, found)
        _next_steps(terminal, found)
        if not found["serving"]:
            terminal.say("`postroom serve` does not run: nothing is sent now.")

    terminal.show(found, for_people)


def _lanes(terminal: Terminal, found: Mapping[str, Any]) -> None:
    terminal.table(
        ("server", "purpose", "from", "now", "later", "claimed", "unknown", "held", "oldest", "waits for"),
        (
            (
                one["server"],
                one["purpose"],
                one["sender"],
                f"more than {one['now']}" if one["more"] else one["now"],
                one["later"],
                one["claimed"],
                one["unknown"],
                one["held"],
                one["oldest_at"],
                one["waits_for"],
            )
            for one in found["lanes"]
        ),
        "Nothing waits.",
    )
    if found["lanes_left_out"]:
        terminal.say(f"And {found['lanes_left_out']} lanes with less in them.")


def _connections(terminal: Terminal, found: Mapping[str, Any]) -> None:
    terminal.table(
        (
            "connection",
            "label",
            "state",
            "hour left",
            "day left",
            "sessions",
            "claimed",
            "room comes back",
            "trouble",
        ),
        (
            (
                one["connection"],
                one["label"],
                one["state"],
                _of(one["hour_left"], one["hourly_cap"]),
                _of(one["day_left"], one["daily_cap"]),
                one["sessions"],
                one["claimed"],
                one["room_comes_back_at"],
                one["trouble"],
            )
            for one in found["connections"]
        ),
        "",
    )


def _next_steps(terminal: Terminal, found: Mapping[str, Any]) -> None:
    """What lets the lanes go on, each command once."""
    steps = dict.fromkeys(step for one in found["lanes"] for step in one["next_steps"])
    if steps:
        terminal.say("\nWhat you can do:\n")
    for step in steps:
        terminal.say(f"  {plain(step)}")


def _of(left: int | None, cap: int | None) -> str:
    return "no cap" if cap is None else f"{left} of {cap}"


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
