"""Applying revisions with Alembic, on a connection whose transaction is the caller's.

Apart from `migrations` itself so that a start with nothing to do does not pay for importing Alembic.
"""

from __future__ import annotations

import functools
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from postroom.errors import Unavailable
from postroom.storage import migrations
from postroom.storage.migrations import OURS, Line

_PUT_FLOOR = text(
    "INSERT INTO instance (name, value) VALUES (:name, :floor)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


@functools.cache
def directory(line: Line = OURS) -> ScriptDirectory:
    """The revisions of this package, wherever it is installed."""
    return ScriptDirectory(
        str(Path(__file__).parent), version_locations=[str(folder) for folder in line.folders]
    )


def floor_of(line: Line = OURS) -> str:
    """The oldest revision whose Postroom can work on what these revisions make."""
    return max(str(script.module.beside) for script in directory(line).walk_revisions())


def apply_missing(connection: Connection, found: str | None, line: Line = OURS) -> None:
    """Run every revision after `found` (None: all) and note the newest. Neither begins nor commits.

    Raises Unavailable when `found` is not one of ours, or a statement fails.
    """
    scripts = directory(line)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise Unavailable(migrations.NEWER.format(found=found, head=line.head, floor=found))
    context = MigrationContext.configure(connection)
    missing = list(scripts.iterate_revisions(line.head, found or "base"))
    try:
        with Operations.context(context):
            for script in reversed(missing):
                script.module.upgrade()
                context.stamp(scripts, script.revision)
            connection.execute(_PUT_FLOOR, {"name": migrations.FLOOR, "floor": floor_of(line)})
    except DBAPIError as error:
        raise Unavailable(f"the database cannot be brought to schema {line.head}: {error.orig}") from error
