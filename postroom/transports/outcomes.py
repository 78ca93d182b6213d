"""Endings every way out knows: trouble without a reply, a step not taken, what cannot be carried."""

from __future__ import annotations

from msgspec.structs import replace

from postroom.transports.interface import Fault, Outcome, Phase, Result
from postroom.transports.smtp_reply import clean_text


def trouble(
    text: str, phase: Phase, *, begun: bool = False, unanswered: bool = False, ours: bool = False
) -> Outcome:
    """Lost, timed out, or no SMTP: without a reply. `ours`: we cut it ourselves.

    unanswered: MAIL was not answered. Once the dot is handed over it is UNKNOWN, whoever cut.
    """
    return Outcome(
        result=Result.UNKNOWN if phase is Phase.DOT else Result.RETURNED,
        fault=Fault.OURS if ours else Fault.CONNECTION,
        phase=phase,
        text=clean_text(text),
        begun=begun,
        session_usable=False,
        before_mail_reply=unanswered,
    )


def stopped(text: str, phase: Phase, *, begun: bool = False, usable: bool = True) -> Outcome:
    """We did not take the next step."""
    return Outcome(
        result=Result.RETURNED,
        fault=Fault.OURS,
        phase=phase,
        text=clean_text(text),
        begun=begun,
        session_usable=usable,
    )


def cannot_carry(text: str, enhanced: str, lacks: str = "") -> Outcome:
    """This peer cannot take this message; found out before anything was said about it.

    lacks: what another peer may have (`core.need`); empty: nobody can carry it.
    """
    return Outcome(
        Result.BOUNCED, Fault.MESSAGE, Phase.MAIL, enhanced=enhanced, text=clean_text(text), lacks=lacks
    )


def cannot_open(text: str, phase: Phase, fault: Fault = Fault.CONNECTION) -> Outcome:
    """A session did not come about, without a reply that says why."""
    return Outcome(Result.RETURNED, fault, phase, text=clean_text(text), session_usable=False)


def at(outcome: Outcome, phase: Phase) -> Outcome:
    """The same trouble, met elsewhere."""
    return replace(outcome, phase=phase, session_usable=False)
