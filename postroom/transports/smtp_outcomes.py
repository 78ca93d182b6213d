"""What a reply, or its absence, means for a delivery: pure functions to `Outcome`.

The class of a reply is its first digit (RFC 5321 4.2.1); whose fault it is depends on the step it
answers. Refusals before RCPT are the way out's unless they name the message; 421 is the connection's
wherever it comes (RFC 5321 3.8); after the final dot only a read reply settles anything (RFC 1047).
"""

from __future__ import annotations

import re

from postroom.transports.interface import Fault, Outcome, Phase, Result
from postroom.transports.outcomes import cannot_carry, cannot_open, stopped, trouble
from postroom.transports.smtp_reply import Reply

__all__ = ["cannot_carry", "cannot_open", "stopped", "trouble"]

CLOSING = 421  # "service not available, closing transmission channel"

# The sender's own address, or the right to use it (RFC 3463 X.1.7, X.1.8; X.7.1 at MAIL is about the sender).
_SENDER_ENHANCED = frozenset({"5.1.7", "5.1.8", "5.7.1"})
_SENDER_WORDS = re.compile(
    r"\bsenders?\b|\breturn.?path\b|\bmail from\b|\bfrom[: ](address|domain|header|<|is\b|not\b)"
    r"|\bsend (mail )?(as|from)\b|\bnot (owned|verified)\b",
    re.IGNORECASE,
)
# "Authentication required" and its kin (RFC 4954 6): a matter of this connection's login.
_LOGIN_CODES = frozenset({530, 534, 535, 538})
_LOGIN_ENHANCED = frozenset({"5.7.8", "5.7.9", "5.7.11"})
_BAD_SEQUENCE = 503  # at MAIL: the session is out of step, the message is not to blame


def at_mail(reply: Reply) -> Outcome | None:
    """The reply to MAIL; None: accepted."""
    if reply.kind == 2:
        return None
    enhanced = reply.enhanced
    if reply.kind != 5 or reply.code == _BAD_SEQUENCE:
        return connection(reply, Phase.MAIL, usable=reply.kind == 4 and reply.code != CLOSING)
    if reply.code in _LOGIN_CODES or enhanced in _LOGIN_ENHANCED:
        return _of(reply, Result.RETURNED, Fault.LOGIN, Phase.MAIL, usable=False)
    if reply.code == 553 or enhanced in _SENDER_ENHANCED or _SENDER_WORDS.search(reply.text):
        return _of(reply, Result.RETURNED, Fault.SENDER, Phase.MAIL)
    return _of(reply, Result.BOUNCED, Fault.MESSAGE, Phase.MAIL)


def at_rcpt(reply: Reply) -> Outcome | None:
    """The reply to RCPT; None: accepted."""
    if reply.kind == 2:
        return None
    if reply.kind == 3 or reply.code == CLOSING:
        return connection(reply, Phase.RCPT)
    if reply.code in _LOGIN_CODES:
        return _of(reply, Result.RETURNED, Fault.LOGIN, Phase.RCPT, usable=False)
    result = Result.DEFERRED if reply.kind == 4 else Result.BOUNCED
    return _of(reply, result, Fault.RECIPIENT, Phase.RCPT)


def at_data(reply: Reply) -> Outcome | None:
    """The reply to DATA; None: go on with the body."""
    if reply.kind == 3:
        return None
    if reply.kind == 2 or reply.code == CLOSING:
        return connection(reply, Phase.DATA)
    result = Result.DEFERRED if reply.kind == 4 else Result.BOUNCED
    return _of(reply, result, Fault.MESSAGE, Phase.DATA)


def in_body(reply: Reply) -> Outcome:
    """A reply in mid-body, which nobody asked for; the final dot was not written.

    Some servers refuse a message as too large while it comes and drop the connection. Taken for the
    connection's trouble, the same message would be tried again for ever.
    """
    if reply.kind in (2, 3) or reply.code == CLOSING:
        return connection(reply, Phase.BODY, begun=True)
    result = Result.DEFERRED if reply.kind == 4 else Result.BOUNCED
    return _of(reply, result, Fault.MESSAGE, Phase.BODY, begun=True, usable=False)


def after_dot(reply: Reply) -> Outcome:
    """The reply to the final dot."""
    if reply.kind == 2:
        return Outcome(
            result=Result.SENT,
            fault=Fault.NONE,
            phase=Phase.DONE,
            code=reply.code,
            enhanced=reply.enhanced,
            text=reply.text,
            remote_id=reply.remote_id,
            begun=True,
        )
    if reply.kind == 3:
        return _of(reply, Result.UNKNOWN, Fault.CONNECTION, Phase.DOT, begun=True, usable=False)
    if reply.code == CLOSING:
        # The message was refused for now, so it takes a step of its schedule: else one that always gets
        # this answer would be tried for ever. But it is the way out that must rest.
        return _of(reply, Result.DEFERRED, Fault.CONNECTION, Phase.DONE, begun=True, usable=False)
    result = Result.DEFERRED if reply.kind == 4 else Result.BOUNCED
    return _of(reply, result, Fault.MESSAGE, Phase.DONE, begun=True)


def connection(reply: Reply, phase: Phase, *, begun: bool = False, usable: bool = False) -> Outcome:
    """The way out's trouble, in the peer's words: 421, 4xx to MAIL, a reply of a class that cannot be."""
    return _of(reply, Result.RETURNED, Fault.CONNECTION, phase, begun=begun, usable=usable)


def login(reply: Reply) -> Outcome:
    """A refusal at AUTH (RFC 4954 4): 4xx is the server's trouble, 5xx the login's."""
    fault = Fault.LOGIN if reply.kind == 5 else Fault.CONNECTION
    return _of(reply, Result.RETURNED, fault, Phase.AUTH, usable=False)


def _of(
    reply: Reply, result: Result, fault: Fault, phase: Phase, *, begun: bool = False, usable: bool = True
) -> Outcome:
    return Outcome(
        result=result,
        fault=fault,
        phase=phase,
        code=reply.code,
        enhanced=reply.enhanced,
        text=reply.text,
        begun=begun,
        session_usable=usable,
    )
