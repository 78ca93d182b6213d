"""Bringing a database to the schema this version needs; forward only.

The revisions in `versions/` are Alembic's, read from inside this package, so that an installed Postroom
needs no checkout and no alembic.ini. All that a database lacks is applied in one transaction: a process
that is killed half way leaves the database as it was, and the next start tries again.

Versions side by side: each revision says by `beside` the oldest one whose Postroom works on the schema it
makes. The database keeps the highest of them (`schema_floor` in `instance`), so a version that has never
heard of the newest revision knows whether it may work here: while a new one comes, and on the way back.

Alembic is imported only where something is to be done: a start on a database that is up to date costs
two small queries. How a new revision is made is said in CONTRIBUTING.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from postroom.errors import Unavailable
from postroom.storage.sqlite import Database

HEAD = "0001"  # the newest file in versions/, held against it by a test
FLOOR = "schema_floor"


@dataclass(frozen=True)
class Line:
    """The revisions a version of Postroom knows. head: the newest; folders: where they are."""

    head: str
    folders: tuple[Path, ...]

    def knows(self, found: str) -> bool:
        """Whether it is one of them, or an older one: they are numbered."""
        return found <= self.head

    def works_on(self, found: str, floor: str | None) -> bool:
        """Whether this version can work on a database at `found` as it is."""
        return found == self.head or (found > self.head and floor is not None and self.head >= floor)


OURS = Line(HEAD, (Path(__file__).parent / "versions",))

NEWER = (
    "this database was written by a newer Postroom (its schema is {found}, this version knows up to {head}"
    " and the oldest that can work beside it knows {floor}): start that version again, or restore a backup"
    " made before it ran"
)
FOREIGN = "this database holds tables and no schema version, so Postroom did not make it; choose another one"
_FLOOR = "SELECT value FROM instance WHERE name = 'schema_floor'"


def upgrade(database: Database, line: Line = OURS) -> None:
    """Make the schema, or bring it up to date. Run before anything else uses the file.

    One that is newer is left as it is where this version can work beside it. Raises Unavailable when it
    cannot, when the database is not ours, or cannot be written, with nothing changed; sqlite3.Error when it
    cannot be opened at all.
    """
    if _is_fit(database, stored_revision(database), line):
        return
    from postroom.storage.migrations.apply import apply_missing

    database.begin(write=True)
    try:
        found = stored_revision(database)  # again: another process may have been quicker
        if not _is_fit(database, found, line):
            apply_missing(database.core, found, line)
        database.commit()
    except BaseException:
        database.rollback()
        raise


def _is_fit(database: Database, found: str | None, line: Line) -> bool:
    floor = stored_floor(database) if found is not None and not line.knows(found) else None
    return is_fit(found, floor, line)


def is_fit(found: str | None, floor: str | None, line: Line) -> bool:
    """Whether nothing is to be done. Raises Unavailable where nothing can be done."""
    if found is None:
        return False
    if line.works_on(found, floor):
        return True
    if not line.knows(found):
        raise Unavailable(NEWER.format(found=found, head=line.head, floor=floor or found))
    return False


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


def stored_floor(database: Database) -> str | None:
    """The oldest revision whose Postroom can work on this database."""
    rows = _rows(database, _FLOOR)
    return str(rows[0][0]) if rows else None


def _rows(database: Database, text: str) -> list[tuple[str]]:
    return [tuple(row) for row in database.core.exec_driver_sql(text).all()]
