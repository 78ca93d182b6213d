"""Reading what callers send: names without regard to case, null and "" as absent, types checked.

`Fields` is one level of a JSON object, or a query string. What lies below a name is the caller's own again: a
template's model keeps its names as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from postroom.dialects.postmark.errors import ApiError
from postroom.http.json import Malformed

_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_PART_BYTES = 16  # what a number, a name or an object is in JSON, about
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


class Fields:
    """The fields of one object by name. A value of another type than asked for is ErrorCode 403."""

    def __init__(self, given: Mapping[str, object]) -> None:
        """Raises Malformed where two names are one but for their case: nobody knows which is meant."""
        self._fields = {name.lower(): value for name, value in given.items()}
        if len(self._fields) != len(given):
            raise Malformed("The JSON has the same name twice in one object")

    def __contains__(self, name: str) -> bool:
        return self.value(name) is not None

    def sent(self, name: str) -> bool:
        """Whether it was sent at all, be it as null or as an empty text."""
        return name.lower() in self._fields

    @property
    def weight(self) -> int:
        """About how many bytes it was in its request, however deep they lie."""
        return _weight(self._fields)

    def any_of(self, names: Iterable[str]) -> bool:
        """Whether one of these was sent with a value or as an empty text."""
        return any(self._fields.get(name.lower()) is not None for name in names)

    def value(self, name: str) -> object:
        """As it was sent; None for absent, null and an empty text."""
        value = self._fields.get(name.lower())
        return None if value == "" else value

    def text(self, name: str) -> str | None:
        """A text, or None. A number counts as what it looks like."""
        value = self._fields.get(name.lower())
        if value is None or isinstance(value, str):
            return value or None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        raise ApiError(403, name)

    def is_cleared(self, name: str) -> bool:
        """Whether it was sent as an empty text."""
        return self._fields.get(name.lower()) == ""

    def flag(self, name: str, code: int = 403) -> bool | None:
        """True or false, also as a text or as 1 and 0; or None. code: of the error for anything else."""
        value = self.value(name)
        if value is None or isinstance(value, bool):
            return value
        truth = _TRUTHS.get(str(value).lower()) if isinstance(value, int | str) else None
        if truth is None:
            raise ApiError(code, name)
        return truth

    def whole(self, name: str, code: int = 403) -> int | None:
        """A whole number, also as a text; or None. code: of the error for anything else."""
        value = self.value(name)
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            return int(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise ApiError(code, name)

    def one_of(self, name: str, words: Iterable[str], code: int) -> str | None:
        """One of these words as they are written here, whatever case it was sent in; or None.

        code: of the error for anything else.
        """
        value = self.value(name)
        if value is None:
            return None
        for word in words:
            if isinstance(value, str) and value.strip().lower() == word.lower():
                return word
        raise ApiError(code, name)


def _weight(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return _PART_BYTES + _weight(list(value.values()))
    if isinstance(value, list):
        return _PART_BYTES + sum(map(_weight, value))
    return _PART_BYTES


def fields_of(value: object, name: str) -> Fields:
    """The fields of an object inside another. Raises ApiError(403) naming `name` for anything else."""
    if not isinstance(value, Mapping):
        raise ApiError(403, name)
    return Fields(value)
