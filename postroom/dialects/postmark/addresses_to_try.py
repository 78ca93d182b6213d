"""The product's addresses to try things with: mail to them bounces as it is told to, or is taken and dropped.

`SoftBounce@bounce-testing.postmarkapp.com` bounces as what its local part says, or, before that, the header
field X-PM-Bounce-Type; whatever else it says, as a hard bounce. Nothing is sent, so no name is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroom.core.bounce import BounceKind
from postroom.dialects.postmark.bounce_types import TYPES
from postroom.mail.address import address_key
from postroom.mail.content import Mailbox

BOUNCES, DROPS = "bounce-testing.postmarkapp.com", "blackhole.postmarkapp.com"
HEADERS = frozenset({"x-pm-bounce-type", "x-pm-bouncetype"})
_WORDS = {
    one.type.lower(): kind for kind, one in TYPES.items() if kind is not BounceKind.COMPLAINT
}  # a complaint cannot be made this way


def rehearsed_of(people: Iterable[Mailbox], asked: str | None) -> dict[str, BounceKind | None]:
    """Which of these are there to be tried, by address for comparing, and how mail to them ends.

    asked: the bounce type of the message's header. None in the answer: as delivered.
    """
    found: dict[str, BounceKind | None] = {}
    for one in people:
        key = address_key(one.address)
        local, _, domain = key.rpartition("@")
        if domain == BOUNCES:
            found[key] = _WORDS.get(_word(asked or local), BounceKind.HARD)
        elif domain == DROPS:
            found[key] = None
    return found


def _word(text: str) -> str:
    """`Hard_Bounce`, `hardbounce` and `HardBounce+1` are one."""
    return text.partition("+")[0].strip().lower().replace("_", "").replace("-", "")
