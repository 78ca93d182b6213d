"""`postroom key-file`: the keys that seal stored passwords."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from postroom.cli.command import command, group
from postroom.cli.terminal import Terminal

app = group("key-file", "The key file, whose keys seal stored passwords.")


@command(app, "show")
def show(terminal: Terminal) -> None:
    """Show the keys of the key file: state, when made, how many stored secrets each seals; never a key."""
    found = terminal.call("key_file.show")

    def for_people() -> None:
        terminal.say(found["path"])
        terminal.table(
            ("key", "state", "made", "seals"),
            (
                (one["key_id"], one["state"], one["created_at"], sum(one["rows"].values()))
                for one in found["data"]
            ),
            "",
        )

    terminal.show(found, for_people)


@command(app, "rotate")
def rotate(
    terminal: Terminal,
    keep_old: Annotated[
        bool,
        Option(
            "--keep-old", help="Let the former key go on opening, so that older backups open with this file."
        ),
    ] = False,
) -> None:
    """Make a new key, seal every stored secret anew, and remove the former key.

    Works while `serve` sends. Where it was stopped half way, run it again: it goes on. Without --keep-old
    a backup made before opens only with a copy of the key file from before.
    """
    with terminal.working("Sealing anew ..."):
        done = terminal.call("key_file.rotate", keep_old=keep_old)

    def for_people() -> None:
        terminal.say(f"Key {done['key_id']} seals now; {done['sealed_anew']} secrets were sealed anew.")
        if done["went_on"]:
            terminal.say("This ended a rotation that had stopped; run it again for another new key.")
        for key_id, state in done["former"].items():
            terminal.say(f"Key {key_id} is {state}.")
        terminal.say("Copy the key file to where you keep it, apart from the backups of the database.")
        if "retired" in done["former"].values():
            terminal.say("Keep its former copy as long as backups from before: they open with that one only.")

    terminal.show(done, for_people)


@command(app, "retire")
def retire(
    terminal: Terminal,
    key_id: Annotated[str, Argument(metavar="KEY", help="Its id, as `key-file show` has it.")],
) -> None:
    """Remove a kept key, unless a stored secret needs it. Backups made under it do not open any more."""
    done = terminal.call("key_file.retire", key_id=key_id)
    terminal.show(done, lambda: terminal.say(f"Key {done['key_id']} is {done['state']}."))
