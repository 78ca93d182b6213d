"""`postroom doctor`: is everything well here? Exit code 0 well, 1 warnings, 2 broken."""

from __future__ import annotations

import typer

from postroom.cli import checks, database_checks
from postroom.cli.checks import Check, Level
from postroom.cli.command import command
from postroom.cli.reach import NoData
from postroom.cli.terminal import Terminal, plain
from postroom.control.lock import SERVE, holder_of
from postroom.errors import PostroomError
from postroom.keyring import KeyringError

_MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.BROKEN: "BROKEN"}


def add_doctor(root: typer.Typer) -> None:
    """`postroom doctor`."""

    @command(root, "doctor", all_settings=True)
    def doctor(terminal: Terminal) -> int:
        """Look at Python, data folder, key file, database, disk, clocks, ports, connections, senders.

        Exit code 0: well; 1: warnings; 2: something is broken. May run beside `serve`.
        """
        settings = terminal.settings
        with terminal.working("Looking ..."):
            holder = holder_of(settings.data)
            found = list(checks.outside(settings, holder))
            found += _inside(terminal)
        worst = max(one.level for one in found)

        def for_people() -> None:
            for one in found:
                terminal.say(f"{_MARKS[one.level]:<8} {one.name}: {plain(one.text)}")

        document = {
            "level": worst.name.lower(),
            "serving": holder is not None and holder.role == SERVE,
            "checks": [
                {"name": one.name, "level": one.level.name.lower(), "text": one.text} for one in found
            ],
        }
        terminal.show(document, for_people)
        return int(worst)


def _inside(terminal: Terminal) -> list[Check]:
    try:
        health = terminal.call("health")
        beside = []
        if health["database"]["kind"] == "postgresql":
            beside = list(database_checks.database(health["database"], terminal.settings))
        return [*beside, *checks.inside(health)]
    except NoData:
        return []
    except (PostroomError, KeyringError) as error:
        return [Check("health", Level.BROKEN, str(error))]
