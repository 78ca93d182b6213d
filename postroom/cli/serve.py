"""`postroom serve`: everything in one process on SQLite, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer import Option

from postroom.cli.command import command
from postroom.cli.first_run import again_lines, curl_lines, fresh_lines
from postroom.cli.terminal import Terminal, command_name
from postroom.config import ConfigError

_ONE_PROCESS = (
    "--{} needs PostgreSQL: on SQLite one process has every role, and this version has no PostgreSQL"
)


def add_serve(root: typer.Typer) -> None:
    """`postroom serve`."""

    @command(root, "serve", all_settings=True)
    def serve(
        terminal: Terminal,
        first_run: Annotated[
            bool,
            Option("--first-run", help="On fresh data: make an account, a server and keys, and show them."),
        ] = False,
        processes: Annotated[int | None, Option("--processes", help="Needs PostgreSQL.", metavar="N")] = None,
        role: Annotated[str | None, Option("--role", help="Needs PostgreSQL.", metavar="ROLES")] = None,
    ) -> int:
        """Start Postroom: the APIs, submission by SMTP, the engine, and the test inbox if --inbox names one.

        SIGTERM or SIGINT stops it: it takes nothing more, lets what is on its way end within --drain, and
        exits with 0. A second signal ends it at once; what was accepted is safe either way.
        """
        for name, given in (("processes", processes), ("role", role)):
            if given is not None:
                raise ConfigError([_ONE_PROCESS.format(name)])
        settings = terminal.settings
        from postroom import logs  # with what follows: no other command needs them, and they take a while
        from postroom.cli.serving import Ready, Serving

        logs.configure(settings.log_level, logs.wants_json(settings.log_format))

        def ready(found: Ready) -> None:
            terminal.show(found.document(), lambda: _tell(terminal, found))

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(Serving(settings, first_run=first_run, ready=ready).run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists: not on Windows, not on every Python."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _tell(terminal: Terminal, ready: Any) -> None:  # Any: serving.Ready, imported late
    say = terminal.say
    say(f"Postroom is running: {ready.url}")
    for note in ready.notes:
        say(note)
    if ready.public_url:
        say(f"Links in mail use {ready.public_url}")
    if ready.inbox is not None:
        host, port = ready.inbox
        say(f"The test inbox takes SMTP on {host}:{port}; it sends nothing on.")
    say(f"Programs send by SMTP on {ready.smtp}, with a server key as user name and password.")
    if ready.smtps is not None:
        say(f"With TLS from the first byte they do so on {ready.smtps}.")
    data = f" --data {shlex.quote(ready.data)}" if terminal.settings.sources.get("data") else ""
    if ready.made is not None:
        inbox = ready.inbox
        curls = [] if inbox is None else curl_lines(ready.url, ready.made["server_key"], *inbox)
        where = "" if inbox is None else f"{inbox[0]}:{inbox[1]}"
        for line in fresh_lines(ready.made, curls, where, command_name(), data):
            say(line)
    elif ready.fresh:
        say(f"There is no account yet; this makes one, with keys: {command_name()} bootstrap{data}")
    elif ready.first_run:
        for line in again_lines(command_name(), data):
            say(line)
    say("Stop it with Ctrl-C.")
    sys.stdout.flush()
