"""What a recipient's local part makes the sink do; words after `+` that mean nothing tell addresses apart.

bounce550.1.1@   550 5.1.1 to RCPT           bounce@   550      bounce554.6.0+dot@   after the dot
defer451.4.1@    451 4.4.1 to RCPT           defer@    451      defer451+data+x@     to DATA
hang@            never an answer to RCPT     hang+dot@     received and logged, never answered
drop@            closed at RCPT              drop+dot@     received and logged, closed unanswered
+once            the first time only: `defer451+once+x@` is taken at the second try
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TROUBLE = re.compile(
    r"(?P<kind>bounce|defer|hang|drop)(?P<code>[45][0-9]{2})?(?:\.(?P<subject>[0-9]{1,3})\.(?P<detail>[0-9]{1,3}))?"
    r"(?P<words>(?:\+[^@]*)?)@"
)


@dataclass(frozen=True)
class Trouble:
    """What is to happen to a recipient; `phase` is rcpt, data or dot."""

    kind: str
    phase: str
    reply: bytes
    once: bool


def trouble_of(recipient: str) -> Trouble | None:
    """What the local part asks for, or None: a recipient like any other."""
    found = _TROUBLE.match(recipient)
    if found is None:
        return None
    kind = found["kind"]
    words = found["words"].split("+")
    code = found["code"] or ("451" if kind == "defer" else "550")
    status = f"{code[0]}.{found['subject'] or 0}.{found['detail'] or 0}"
    phase = next((word for word in words if word in ("data", "dot")), "rcpt")
    return Trouble(kind, phase, f"{code} {status} As the address asks\r\n".encode(), "once" in words)
