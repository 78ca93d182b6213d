"""Applying revisions with Alembic, on a connection whose transaction is the caller's.

Apart from `migrations` itself so that a start with nothing to do does not pay for importing Alembic.
"""

from __future__ import annotations

import functools
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from postroom.errors import Unavailable
from postroom.storage import migrations


@functools.cache
def directory() -> ScriptDirectory:
    """The revisions of this package, wherever it is installed."""
    return ScriptDirectory(str(Path(__file__).parent))


def apply_missing(connection: Connection, found: str | None) -> None:
    """Run every revision after `found` (None: all) and note the newest. Neither begins nor commits.

    Raises Unavailable when `found` is not one of ours, or a statement fails.
    """
    scripts = directory()
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise Unavailable(migrations.NEWER.format(found=found, head=migrations.HEAD))
    context = MigrationContext.configure(connection)
    missing = list(scripts.iterate_revisions(migrations.HEAD, found or "base"))
    try:
        with Operations.context(context):
            for script in reversed(missing):
                script.module.upgrade()
                context.stamp(scripts, script.revision)
    except DBAPIError as error:
        raise Unavailable(
            f"the database cannot be brought to schema {migrations.HEAD}: {error.orig}"
        ) from error
