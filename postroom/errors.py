"""Every error Postroom's actions raise, as one small tree.

    PostroomError
    ├── Invalid(field, reason)        the caller's input is wrong; one or several field errors
    ├── Unauthenticated               no key, or a key nobody knows
    ├── Denied                        a known key that may not do this
    ├── NotFound(kind)                absent, or another account's: the two look the same
    ├── Conflict                      right in itself, wrong with what is stored now
    ├── TooLarge(limit_bytes)         a body or message above its size limit
    ├── Limited(retry_after_s)        too many requests
    └── Unavailable(retry_after_s)    we cannot promise durability now; ask again

Each dialect maps this tree to its vendor's status, code and body in its `errors.py`.
A delivery result is not an error: see `postroom.transports.interface.Outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PostroomError(Exception):
    """Something we refuse or cannot do; the text is safe to show to the caller."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text or (self.__class__.__doc__ or "").split("\n", 1)[0])


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with one field. `reason` reads after the field's label: "can't be blank"."""

    field: str
    reason: str


class Invalid(PostroomError):
    """The input is wrong."""

    def __init__(self, field: str, reason: str, more: Sequence[FieldError] = ()) -> None:
        self.errors: tuple[FieldError, ...] = (FieldError(field, reason), *more)
        super().__init__(", ".join(f"{e.field} {e.reason}".strip() for e in self.errors))

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> Invalid:
        """One error out of several field errors; `errors` is not empty."""
        first, *rest = errors
        return cls(first.field, first.reason, rest)


class Unauthenticated(PostroomError):
    """No valid key was given."""


class Denied(PostroomError):
    """This key may not do that."""


class NotFound(PostroomError):
    """There is no such thing here."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"{kind} not found")


class Conflict(PostroomError):
    """It contradicts what is stored now."""


class TooLarge(PostroomError):
    """The input is above its size limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"larger than the limit of {limit_bytes} bytes")


class Limited(PostroomError):
    """Too many requests."""

    def __init__(self, retry_after_s: int, text: str = "") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(text)


class Unavailable(PostroomError):
    """Postroom cannot do this durably right now; try again.

    no_room: because the disk is full, which some protocols have a code of their own for.
    """

    def __init__(self, text: str = "", retry_after_s: int = 5, *, no_room: bool = False) -> None:
        self.retry_after_s, self.no_room = retry_after_s, no_room
        super().__init__(text)
