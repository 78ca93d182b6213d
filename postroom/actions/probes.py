"""What a connection test found, for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from postroom.transports.interface import Fault, Outcome, Phase


class Trouble(StrEnum):
    """Why a test failed, as a closed list."""

    TIMEOUT = "timeout"  # no answer in time, at any step
    REFUSED = "refused"  # nobody listens there, or who does turned us away
    TLS = "tls"
    AUTH = "auth"
    UNREACHABLE = "unreachable"  # no such name, no route, not allowed to be dialled
    INTERRUPTED = "interrupted"  # by us


_LATE = re.compile(r"timed out|within [0-9.]+ s|took longer")
_REFUSED = re.compile(r"\brefused\b|\breset\b|closed")


def trouble(outcome: Outcome) -> Trouble:
    """The class of a failed test."""
    if outcome.fault is Fault.OURS:
        return Trouble.INTERRUPTED
    if _LATE.search(outcome.text) and not outcome.code:
        return Trouble.TIMEOUT
    if outcome.phase is Phase.TLS:
        return Trouble.TLS
    if outcome.phase is Phase.AUTH:
        return Trouble.AUTH
    if outcome.code or outcome.phase is not Phase.CONNECT or _REFUSED.search(outcome.text):
        return Trouble.REFUSED
    return Trouble.UNREACHABLE


_WHERE: Mapping[Phase, str] = {
    Phase.CONNECT: "Could not connect",
    Phase.BANNER: "The server did not greet as an SMTP server",
    Phase.EHLO: "The server refused our greeting",
    Phase.TLS: "TLS failed",
    Phase.AUTH: "The login failed",
}


def sentence(outcome: Outcome) -> str:
    """Why a test failed, in one sentence: where it stopped and what the server said."""
    said = " ".join(str(part) for part in (outcome.code or "", outcome.enhanced, outcome.text) if part)
    if outcome.fault is Fault.OURS:
        return outcome.text or "The test was broken off"
    where = _WHERE.get(outcome.phase, "The test failed")
    return f"{where}: {said}" if said else where
