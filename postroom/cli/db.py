"""`postroom db`: the database itself: its schema, and moving it."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option

from postroom.cli.command import command, group
from postroom.cli.exits import REFUSED
from postroom.cli.reach import require_data
from postroom.cli.terminal import Terminal
from postroom.config import Settings
from postroom.control.lock import COMMAND, FolderLock
from postroom.folder import DATABASE_NAME
from postroom.storage.migrations import OURS
from postroom.storage.places import PostgresDatabase, SqliteFile

app = group("db", "The database: what schema it has, bringing it up to date, moving it.")


@command(app, "status")
def status(terminal: Terminal) -> int:
    """Say what schema the database has and whether this version works on it; changes nothing.

    Exit code 1 where it does not as it is: an older schema is brought up to date by `db upgrade` or `serve`.
    """
    found = _look(terminal.settings)

    terminal.show(found, lambda: _tell(terminal, found))
    return 0 if found["works"] else REFUSED


@command(app, "upgrade")
def upgrade(terminal: Terminal) -> None:
    """Make the schema, or bring it up to date. `serve` does so too when it starts.

    On PostgreSQL beside running processes; on SQLite while no `serve` runs.
    """
    settings = terminal.settings
    before = _look(settings)
    with terminal.working("Bringing the database up to date ..."):
        _upgrade(settings)
    found = _look(settings)
    done = {**found, "former": before["schema"]}

    def for_people() -> None:
        if done["former"] != found["schema"]:
            terminal.say(f"The database was {_was(before['schema'])} and was brought up to date.")
        _tell(terminal, found)

    terminal.show(done, for_people)


@command(app, "copy")
def copy(
    terminal: Terminal,
    source: Annotated[str, Option("--from", metavar="PLACE", help="A data folder, or postgresql://…")],
    target: Annotated[
        str, Option("--to", metavar="PLACE", help="The other of the two: a new folder, or an empty database.")
    ],
) -> None:
    """Copy everything from SQLite to an empty PostgreSQL database, or back, compared row by row.

    No `serve` may run on either. Cut off, it goes on where it was when it is run again. The source is marked
    as moved at the end and is not served any more. The key file is that of the data folder; for a copy from
    PostgreSQL that is --data, and it is copied into the new folder.
    """
    from postroom.cli.moving import copy_database

    done = copy_database(terminal, source, target)

    def for_people() -> None:
        total = sum(done["rows"].values())
        terminal.say(f"{total:,} rows are in {done['to']}, compared with those in {done['from']} one by one.")
        if done["settled"]:
            terminal.say(f"{done['settled']} sendings that were cut off were settled first.")
        terminal.say(f"The key file opens all {done['secrets']} secrets in it.")
        terminal.say(f"{done['from']} is marked as moved and is not served any more. Go on with")
        terminal.say()
        terminal.say(f"  {done['serve']}")

    terminal.show(done, for_people)


@command(app, "reopen")
def reopen(
    terminal: Terminal,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Serve data here after all that was moved away by `db copy`, or give up a copy that is not done.

    What was moved is paused as a whole: what waits in it may have been sent from where it went.
    """
    from postroom.cli.moving import reopen_database

    place = _place(terminal.settings)
    terminal.confirm(f"Serve the data in {place.name} again, whatever became of its copy?", yes=yes)
    moved = reopen_database(terminal.settings, place)

    def for_people() -> None:
        terminal.say(f"The data in {place.name} can be served again.")
        if moved:
            terminal.say("Everything is paused: `postroom queue resume --all` lets what waits go.")

    terminal.show({"place": place.name, "paused": moved}, for_people)


def _tell(terminal: Terminal, found: dict[str, Any]) -> None:  # Any: JSON values
    terminal.say(_told(found))
    for table, names in found["partitions"].items():
        terminal.say(f"{table}: {len(names)} partitions, {names[0]} to {names[-1]}")


def _was(schema: str | None) -> str:
    return f"at schema {schema}" if schema else "empty"


def _told(found: dict[str, Any]) -> str:  # Any: JSON values
    schema, newest = found["schema"], found["newest"]
    if schema is None:
        return "The database is empty."
    if schema == newest:
        return f"The database is at schema {schema}, the newest this version knows."
    if not found["works"] and str(schema) > str(newest):
        return (
            f"The database is at schema {schema}; this version knows up to {newest}, and the oldest that"
            f" works on it knows {found['oldest']}."
        )
    if found["works"]:
        return f"The database is at schema {schema}, a newer version's; this version, {newest}, works on it."
    return f"The database is at schema {schema}; `postroom db upgrade` or `serve` brings it to {newest}."


def _look(settings: Settings) -> dict[str, Any]:  # Any: JSON values
    found = _place(settings).look()
    return {
        "database": "postgresql" if settings.database else "sqlite",
        "schema": found.revision,
        "newest": OURS.head,
        "oldest": found.floor,
        "works": found.works,
        "partitions": found.partitions,
    }


def _place(settings: Settings) -> SqliteFile | PostgresDatabase:
    """Raises NoData."""
    require_data(settings)
    if not settings.database:
        return SqliteFile(settings.data / DATABASE_NAME)
    direct = settings.database_direct_url.reveal()
    return PostgresDatabase(
        direct or settings.database.reveal(),
        settings.database_pooler and not direct,
        settings.database_may_forget,
    )


def _upgrade(settings: Settings) -> None:
    place = _place(settings)
    held = None if settings.database else FolderLock.take(settings.data, COMMAND)
    try:
        place.upgrade()
    finally:
        if held is not None:
            held.release()
