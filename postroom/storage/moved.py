"""A database that was copied elsewhere, or is half a copy, is not served by mistake."""

from __future__ import annotations

from postroom.errors import Unavailable
from postroom.storage.copying import COPY, MOVED, get
from postroom.storage.interface import Work


def require_here() -> Work[None]:
    """Raises Unavailable where this database is not the one to be served."""
    if (yield from get(COPY)) is not None:
        raise Unavailable(
            "this database is being filled by `postroom db copy`, which is not done: run it again to go on"
        )
    moved = yield from get(MOVED)
    if moved is not None and moved["whole"]:
        raise Unavailable(
            f"this data was moved to {moved['to']} by `postroom db copy`: serve it from there, or run"
            " `postroom db reopen` to serve it here after all"
        )
    if moved is not None:
        raise Unavailable(
            f"this data is being copied to {moved['to']}: run `postroom db copy` again to end that, or"
            " `postroom db reopen` to give it up"
        )
