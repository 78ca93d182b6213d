"""What a reply of a vendor's API means where the vendor's own words do not decide.

A read refusal settles an attempt, as a reply to the dot does. Trouble of the service makes the way out
rest: throttled, the message waits unchanged; a 5xx in the vendor's own words takes a step of the
message's schedule, so that one that always gets it is not tried for ever. A gateway's 502 or 504, a 500
nobody signed, or a yes that cannot be read say nothing about the message: unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from postroom.transports.http_client import HttpReply
from postroom.transports.interface import Fault, Outcome, Phase, Result

NOTHING: Mapping[str, object] = {}


def read_object(reply: HttpReply) -> Mapping[str, object]:
    """The JSON object of a reply; empty when there is none that can be read."""
    if not reply.complete or reply.header("content-encoding").lower() not in ("", "identity"):
        return NOTHING
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return NOTHING
    return found if isinstance(found, dict) else NOTHING


def text_of(found: Mapping[str, object], *names: str) -> str:
    """The first of these members that is text."""
    for name in names:
        value = found.get(name)
        if isinstance(value, str):
            return value
    return ""


def sent(reply: HttpReply, remote_id: str, text: str) -> Outcome:
    """The vendor took it."""
    return Outcome(Result.SENT, Fault.NONE, Phase.DONE, reply.status, text=text, remote_id=remote_id)


def refused(reply: HttpReply, result: Result, fault: Fault, text: str, enhanced: str = "") -> Outcome:
    """The vendor did not take it, and said so."""
    return Outcome(result, fault, Phase.DONE, reply.status, enhanced, text)


def resting(reply: HttpReply, text: str) -> Outcome:
    """The way out needs a rest; the message waits unchanged."""
    return refused(reply, Result.RETURNED, Fault.CONNECTION, text)


def login(reply: HttpReply, text: str) -> Outcome:
    """The key, or the account behind it, may not send."""
    return refused(reply, Result.RETURNED, Fault.LOGIN, text)


def by_status(reply: HttpReply, text: str, *, signed: bool) -> Outcome:
    """From the status alone. signed: the vendor's own error was read, so it is the vendor who speaks."""
    status = reply.status
    text = text or f"HTTP status {status}"
    if status // 100 == 2:
        return _unknown(reply, "the vendor said yes in words that cannot be read")
    if status in (502, 504) or (status // 100 == 5 and status != 503 and not signed):
        return _unknown(reply, text)
    if status == 503 or status in (408, 425, 429):
        return resting(reply, text)
    if status // 100 == 5:
        return refused(reply, Result.DEFERRED, Fault.CONNECTION, text)
    if status in (401, 403):
        return login(reply, text)
    if status // 100 == 3:
        return resting(reply, f"the vendor's API redirects ({status}), which is not followed")
    if status == 413:
        return refused(reply, Result.BOUNCED, Fault.MESSAGE, text, "5.3.4")
    if signed:
        return refused(reply, Result.BOUNCED, Fault.MESSAGE, text, "5.6.0")
    return resting(reply, text)  # something in between, or no such API: not a word about the message


def _unknown(reply: HttpReply, text: str) -> Outcome:
    return Outcome(Result.UNKNOWN, Fault.CONNECTION, Phase.DOT, reply.status, text=text)
