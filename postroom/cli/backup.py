"""`postroom backup`: copies of the data folder. Works beside a running `serve` and asks nothing of it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from postroom.backup.make import make_backup
from postroom.backup.manifest import Manifest
from postroom.backup.read import in_place, unpack, verify
from postroom.cli.command import appearance, command
from postroom.cli.reach import require_data
from postroom.cli.terminal import Terminal
from postroom.clock import SystemClock
from postroom.config import Settings
from postroom.errors import Conflict, Unavailable
from postroom.folder import KEY_RING_NAME

_SHORT = "create"
_WAITING = ("ready", "claimed", "unknown")


class _WithShortForm(TyperGroup):
    """`backup TARGET` is short for `backup create TARGET`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: typer's own type is private
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_SHORT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="backup",
    help="Back up the data folder; look over a backup. `backup TARGET` means `backup create TARGET`.",
    no_args_is_help=True,
    cls=_WithShortForm,
    **appearance(),
)

KeyFile = Annotated[
    Path | None,
    Option("--key-file", metavar="FILE", help="The key file, where it is not part of the backup."),
]


@command(app, _SHORT)
def create(
    terminal: Terminal,
    target: Annotated[
        Path, Argument(metavar="TARGET", help="A folder to be made, or a file whose name ends with .tar.")
    ],
    with_key_file: Annotated[
        bool,
        Option("--with-key-file", help="Put the key file in: whoever has the backup can read the passwords."),
    ] = False,
) -> None:
    """Back up the data folder as it is at this moment, while `serve` runs or not.

    The key file is not part of it: keep a copy of that apart.
    """
    settings = terminal.settings
    refuse_postgresql(settings, "a backup copies the data folder of SQLite")
    require_data(settings)
    with terminal.working("Copying ..."):
        made = make_backup(settings.data, target, SystemClock(), with_key_file=with_key_file)

    def for_people() -> None:
        terminal.say(f"{target} holds {told(made)}.")
        if not made.has_key_file:
            terminal.say(f"The key file is not in it: keep a copy of {settings.data / KEY_RING_NAME} apart.")

    terminal.show({"target": str(target), **shown(made)}, for_people)


@command(app, "verify")
def verify_backup(
    terminal: Terminal,
    source: Annotated[Path, Argument(metavar="BACKUP", help="The folder or the .tar.")],
    key_file: KeyFile = None,
) -> None:
    """Look over a backup: hashes, the database's integrity, whether the key file opens its secrets."""
    with terminal.working("Looking ..."), ExitStack() as stack:
        try:
            if source.is_dir():
                found = in_place(source)
            else:
                # Beside the backup, where there is room for such things.
                scratch = tempfile.TemporaryDirectory(prefix=".verify-", dir=source.absolute().parent)
                found = unpack(source, Path(stack.enter_context(scratch)))
            opened = verify(found, key_file, SystemClock())
        except OSError as error:
            raise Unavailable(f"{source} cannot be looked over: {error.strerror or error}") from error

    def for_people() -> None:
        terminal.say(f"{source} is whole: {told(found.manifest)}.")
        if opened is None:
            terminal.say("Whether a key file opens its secrets was not tried: give it with --key-file.")
        else:
            terminal.say(f"The key file opens all {opened} secrets in it.")

    terminal.show({"source": str(source), "opened": opened, **shown(found.manifest)}, for_people)


def refuse_postgresql(settings: Settings, why: str) -> None:
    """Raises Conflict where the data lies in PostgreSQL, which has tools of its own for that."""
    if settings.database:
        raise Conflict(
            f"{why}, but this data lies in PostgreSQL: use pg_dump and pg_restore, or the snapshots of"
            f" whoever runs it, and keep a copy of the key file {settings.data / KEY_RING_NAME} apart;"
            " docs/postgresql.md has the steps"
        )


def shown(manifest: Manifest) -> dict[str, object]:
    """A manifest as JSON values."""
    return {
        "taken_at": manifest.taken_at,
        "postroom": manifest.postroom,
        "schema": manifest.schema,
        "instance": manifest.instance,
        "size_bytes": sum(one.size_bytes for one in manifest.files.values()),
        "key_file": manifest.has_key_file,
        "keys": manifest.keys,
        "messages": manifest.messages,
        "newest_message_at": manifest.newest_message_at,
        "deliveries": manifest.deliveries,
    }


def told(manifest: Manifest) -> str:
    """A manifest in half a sentence."""
    waiting = sum(manifest.deliveries.get(state, 0) for state in _WAITING)
    newest = f", the newest of {manifest.newest_message_at}" if manifest.newest_message_at else ""
    return (
        f"the data of {manifest.taken_at}, {manifest.database.size_bytes:,} bytes: "
        f"{manifest.messages} messages{newest}; {waiting} deliveries wait"
    )
