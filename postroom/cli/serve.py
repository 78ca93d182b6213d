"""`postroom serve`: in one process, or several on PostgreSQL, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import Annotated, Any

import typer
from typer import Option

from postroom.cli.command import command
from postroom.cli.exits import INTERNAL, OK
from postroom.cli.first_run import again_lines, curl_lines, fresh_lines
from postroom.cli.terminal import Terminal, command_name


def add_serve(root: typer.Typer) -> None:
    """`postroom serve`."""

    @command(root, "serve", all_settings=True)
    def serve(
        terminal: Terminal,
        first_run: Annotated[
            bool,
            Option("--first-run", help="On fresh data: make an account, a server and keys, and show them."),
        ] = False,
    ) -> int:
        """Start Postroom: the APIs, submission by SMTP, the engine, and the test inbox if --inbox names one.

        SIGTERM or SIGINT stops it: it takes nothing more, lets what is on its way end within --drain, and
        exits with 0. A second signal ends it at once; what was accepted is safe either way. With --database,
        --processes N runs N of them on the same addresses, and --role says what they do here.
        """
        settings = terminal.settings
        from postroom import logs  # with what follows: no other command needs them, and they take a while
        from postroom.serving.ready import Ready

        logs.configure(settings.log_level, logs.wants_json(settings.log_format))

        def ready(found: Ready) -> None:
            terminal.show(found.document(), lambda: _tell(terminal, found))

        if settings.processes > 1:
            from postroom.serving.supervisor import Supervisor

            with asyncio.Runner() as runner:
                supervisor = Supervisor(
                    settings, terminal.flags, terminal.config, first_run=first_run, ready=ready
                )
                return OK if runner.run(supervisor.run()) else INTERNAL
        from postroom.serving.child import loop_factory
        from postroom.serving.process import Serving

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return OK if runner.run(Serving(settings, first_run=first_run, ready=ready).run()) else INTERNAL


def _tell(terminal: Terminal, ready: Any) -> None:  # Any: serving.Ready, imported late
    say = terminal.say
    says = f"Postroom is running: {ready.url or ', '.join(ready.roles)}"
    say(says + (f" ({len(ready.children)} processes)" if ready.children else ""))
    for note in ready.notes:
        say(note)
    if ready.public_url:
        say(f"Links in mail use {ready.public_url}")
    if ready.inbox is not None:
        host, port = ready.inbox
        say(f"The test inbox takes SMTP on {host}:{port}; it sends nothing on.")
    if ready.smtp is not None:
        say(f"Programs send by SMTP on {ready.smtp}, with a server key as user name and password.")
    if ready.smtps is not None:
        say(f"With TLS from the first byte they do so on {ready.smtps}.")
    if ready.operations is not None:
        say(f"Health and metrics: {ready.operations}")
    data = f" --data {shlex.quote(ready.data)}" if terminal.settings.sources.get("data") else ""
    if ready.made is not None:
        inbox = ready.inbox
        curls = (
            []
            if inbox is None or ready.url is None
            else curl_lines(ready.url, ready.made["server_key"], *inbox)
        )
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
