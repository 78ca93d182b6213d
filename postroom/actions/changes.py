"""How an action tells a field that was left out from one that was given as null."""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeVar

T = TypeVar("T")


class Unset(Enum):
    """The type of `UNSET`, for annotations: `name: str | None | Unset = UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


def given(value: T | Unset, otherwise: T) -> T:
    """The value if there is one, else `otherwise`."""
    return otherwise if isinstance(value, Unset) else value
