"""`postroom restore`: a backup becomes the data folder; nothing is sent until a person says so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from postroom.cli.backup import refuse_postgresql, shown
from postroom.cli.command import command
from postroom.cli.terminal import Terminal
from postroom.clock import SystemClock
from postroom.control.desk import BY_COMMAND
from postroom.control.peer import this_user
from postroom.core.actor import Actor
from postroom.errors import Invalid

_MARKS = ("unverified", "ready")


def add_restore(root: typer.Typer) -> None:
    """`postroom restore`."""

    @command(root, "restore")
    def restore(
        terminal: Terminal,
        source: Annotated[Path, Argument(metavar="BACKUP", help="The folder or the .tar.")],
        key_file: Annotated[
            Path | None,
            Option(
                "--key-file", metavar="FILE", help="The key file, if neither the backup nor --data has it."
            ),
        ] = None,
        replace: Annotated[
            bool, Option("--replace", help="Move the data that is there aside; nothing of it is deleted.")
        ] = False,
        mark_unsettled_as: Annotated[
            str | None,
            Option(
                "--mark-unsettled-as",
                metavar="STATE",
                help="unverified: all that waits counts as sent. ready: what was on its way is sent again.",
            ),
        ] = None,
    ) -> None:
        """Restore a backup into the data folder. Nothing is sent until `postroom queue resume --all`.

        What left after the backup was made waits in it still and would leave again: look first.
        """
        if mark_unsettled_as not in (None, *_MARKS):
            raise Invalid("mark-unsettled-as", f"must be one of {', '.join(_MARKS)}")
        refuse_postgresql(terminal.settings, "a restore replaces the data folder of SQLite")
        with terminal.working("Restoring ..."):
            done = _restore(terminal, source, key_file, replace, mark_unsettled_as)
        terminal.show(done, lambda: _tell(terminal, done))


def _restore(
    terminal: Terminal, source: Path, key_file: Path | None, replace: bool, mark: str | None
) -> dict[str, Any]:
    # With the engine, which other commands do not need.
    from postroom.backup.restore import Unsettled
    from postroom.backup.restore import restore as restore_backup
    from postroom.of_settings import engine_settings
    from postroom.opening import take_folder

    settings = terminal.settings
    held = take_folder(settings.data)
    try:
        done = restore_backup(
            source,
            settings.data,
            SystemClock(),
            engine_settings(settings, "").policy,
            Actor(BY_COMMAND, this_user()),
            key_file=key_file,
            replace=replace,
            unsettled=None if mark is None else Unsettled(mark),
        )
    finally:
        held.release()
    return {
        "data": str(terminal.settings.data),
        "backup": shown(done.manifest),
        "instance": done.instance,
        "deliveries": dict(done.states),
        "marked": done.marked,
        "aside": None if done.aside is None else str(done.aside),
        "journals_aside": list(done.journals),
    }


def _tell(terminal: Terminal, done: dict[str, Any]) -> None:
    say, backup, now = terminal.say, done["backup"], done["deliveries"]
    then = backup["deliveries"]
    say(f"{done['data']} holds the data of {backup['taken_at']} now.")
    say("Everything is paused: nothing is sent before you resume it.")
    if done["aside"]:
        say(f"What was there is in {done['aside']}.")
    if done["journals_aside"]:
        say(f"Journals of the former instance are there, not replayed: {', '.join(done['journals_aside'])}.")
    say()
    terminal.facts(
        {
            "newest message": backup["newest_message_at"],
            "waited then": then.get("ready", 0),
            "on their way then": then.get("claimed", 0),
            "unknown then": then.get("unknown", 0),
            "waiting now": now.get("ready", 0),
            "unknown now": now.get("unknown", 0),
            "unverified now": now.get("unverified", 0),
        }
    )
    say()
    if now.get("ready", 0) + now.get("unknown", 0):
        say("Mail that left after the backup was made still waits in it, and would leave a second time.")
    say("Mail accepted after the backup was made is not in it, and neither are suppressions of that time.")
    say("Look, then let it go:")
    say()
    for words in ("doctor", "queue show", "message list", "queue resume --all"):
        say(f"  postroom {words} --data {done['data']}")
