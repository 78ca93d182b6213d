"""A text that must not be seen: a password, token or key on its way to where it is used.

Every accidental way out (repr, str, format, JSON by repr, pickle) shows bullets or fails; `reveal()` is
the one way in, so a search for it finds each place that handles the real value.
"""

from __future__ import annotations

import hmac
from typing import NoReturn

BULLETS = "•" * 8


class Secret:
    """Holds `value`; compares in constant time; is false when empty; has no length, so none is shown."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The real text."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret('{BULLETS}')" if self._value else "Secret('')"

    def __str__(self) -> str:
        return BULLETS if self._value else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
