"""What a message needs of whoever carries it, beyond plain SMTP; and what a connection was found to lack.

A need is a word: `smtputf8`, `8bitmime`, or `size>N`: larger than N bytes, N being the limit it met. A lack
is the same word, said of a connection: `size>N` is its limit.
"""

from __future__ import annotations

from collections.abc import Iterable

SMTPUTF8 = "smtputf8"
EIGHT_BIT = "8bitmime"
_SIZE = "size>"


def larger_than(limit_bytes: int) -> str:
    """The need of a message above this limit; the lack of a connection that has it."""
    return f"{_SIZE}{limit_bytes}"


def with_need(needs: Iterable[str], need: str) -> tuple[str, ...]:
    """These and this one, in a fixed order; of sizes the largest counts."""
    found = {*needs, need}
    sizes = sorted(_limit(one) for one in found if one.startswith(_SIZE))
    return tuple(
        sorted(
            {one for one in found if not one.startswith(_SIZE)} | {larger_than(size) for size in sizes[-1:]}
        )
    )


def stands_against(lack: str, needs: Iterable[str]) -> bool:
    """Whether a connection with this lack cannot carry what has these needs.

    One with a larger limit than what was met so far may carry it: nobody knows until it is tried.
    """
    if not lack.startswith(_SIZE):
        return lack in needs
    return any(one.startswith(_SIZE) and _limit(lack) <= _limit(one) for one in needs)


def _limit(size: str) -> int:
    return int(size.removeprefix(_SIZE))
