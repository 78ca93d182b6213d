"""Bringing a database to the schema this version needs; forward only.

The revisions in `versions/` are Alembic's, read from inside this package, so that an installed Postroom
needs no checkout and no alembic.ini. All that a database lacks is applied in one transaction: a process
that is killed half way leaves the database as it was, and the next start tries again.

Alembic is imported only where something is to be done: a start on a database that is up to date costs
two small queries. How a new revision is made is said in CONTRIBUTING.md.
"""

from __future__ import annotations

from postroom.errors import Unavailable
from postroom.storage.sqlite import Database

HEAD = "0001"  # the newest file in versions/, held against it by a test

NEWER = (
    "this database was written by a newer Postroom (its schema is {found}, this version knows up to {head}):"
    " start that version again, or restore a backup made before it ran"
)
FOREIGN = "this database holds tables and no schema version, so Postroom did not make it; choose another one"


def upgrade(database: Database) -> None:
    """Make the schema, or bring it up to date. Run before anything else uses the file.

    Raises Unavailable when the database is a newer version's, is not ours, or cannot be written, with
    nothing changed; sqlite3.Error when it cannot be opened at all.
    """
    if stored_revision(database) == HEAD:
        return
    from postroom.storage.migrations.apply import apply_missing

    database.begin(write=True)
    try:
        found = stored_revision(database)  # again: another process may have been quicker
        if found != HEAD:
            apply_missing(database.core, found)
        database.commit()
    except BaseException:
        database.rollback()
        raise


def stored_revision(database: Database) -> str | None:
    """The revision the database is at; None: it is empty.

    Raises Unavailable when it holds something else than a Postroom's tables.
    """
    tables = {row[0] for row in _rows(database, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    found = _rows(database, "SELECT version_num FROM alembic_version") if "alembic_version" in tables else []
    if len(found) != 1:
        raise Unavailable(FOREIGN)
    return str(found[0][0])


def _rows(database: Database, text: str) -> list[tuple[str]]:
    return [tuple(row) for row in database.core.exec_driver_sql(text).all()]
