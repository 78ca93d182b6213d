"""`python -m postroom.storage.migrations`: what a new revision has to do, for developers.

Prints, as Alembic operations, the difference between what the revisions make and what `storage.tables`
says. It is a start, to be read and finished by hand: Alembic cannot tell a renamed column from a dropped
and an added one, and does not see a changed default (the tests do).

`--rewrite-first` writes the body of revision 0001 anew instead, which is right until the first release and
never after it; `ruff format` then brings it into shape.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations.ops import UpgradeOps
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from postroom.storage.migrations.apply import apply_missing
from postroom.storage.tables import metadata

FIRST = Path(__file__).parent / "versions" / "r0001_first.py"
_BEGINS = '"""Make every table."""\n'
_ENDS = "    first_postgres.apply()\n"
_SPELT_OUT = "sa.BigInteger().with_variant(sa.Integer(), 'sqlite')"


def difference(*, from_nothing: bool = False) -> str:
    """The body of `upgrade()`; `_INT` stands for the integer type as revision 0001 defines it.

    from_nothing: all that the tables say, as if there were no revision yet.
    """
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            if not from_nothing:
                apply_missing(connection, None)
            # Defaults are not compared: Alembic takes SQLite's '' for a difference where there is none.
            context = MigrationContext.configure(connection)
            operations = produce_migrations(context, metadata).upgrade_ops
            assert isinstance(operations, UpgradeOps)
            written = render_python_code(operations, migration_context=context).replace(_SPELT_OUT, "_INT")
    finally:
        engine.dispose()
    lines = [line for line in written.splitlines() if not line.strip().startswith("# ###")]
    return "".join(f"    {line.removeprefix('    ')}\n" for line in lines)


def rewrite_first(path: Path = FIRST) -> None:
    """Replace the body of revision 0001 with what the tables say now."""
    head = path.read_text("utf-8").partition(_BEGINS)[0]
    path.write_text(head + _BEGINS + difference(from_nothing=True) + _ENDS, "utf-8")


def main(arguments: Sequence[str]) -> int:
    """Print the difference or write revision 0001; the exit code."""
    if arguments == ["--rewrite-first"]:
        rewrite_first()
    elif arguments:
        print("usage: python -m postroom.storage.migrations [--rewrite-first]", file=sys.stderr)
        return 2
    else:
        print(difference(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
