"""Searching many rows of one server: slice after slice, up to a bound."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from postroom.actions.context import Context
from postroom.storage.interface import Work
from postroom.storage.looking import Slice

Found = TypeVar("Found")
Place = TypeVar("Place")
MOST_FOUND = 10_000
MOST_SLICES = 25  # so many times 2000 rows are looked through in one search


async def look_through(
    ctx: Context,
    look: Callable[[Place | None], Work[Slice[Found, Place]]],
    before: Place | None,
    fits: Callable[[Found], bool] | None = None,
) -> list[Found]:
    """What `look` finds older than `before` and `fits`, newest first, at most MOST_FOUND.

    fits: what SQL cannot tell alike on both databases. Each slice is a reading of its own.
    """
    found: list[Found] = []
    for _ in range(MOST_SLICES):
        looked = await ctx.store.read(partial(look, before))
        found += looked.found if fits is None else [one for one in looked.found if fits(one)]
        before = looked.last
        if before is None or len(found) >= MOST_FOUND:
            break
    return found[:MOST_FOUND]
