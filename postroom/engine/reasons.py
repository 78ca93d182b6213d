"""The reasons of routing in words: for explaining one message, and for showing what waits."""

from __future__ import annotations

import shlex

from postroom.clock import to_iso
from postroom.engine.routing import Candidate, Decision, Facts, Judged, Paused, Reason

MEANING: dict[Reason, str] = {
    Reason.CHOSEN: "first in rank: it may send this and has the most unused room",
    Reason.ALSO_ELIGIBLE: "may send this too; stands behind by rank and takes what is too much for the first",
    Reason.DELETED: "deleted",
    Reason.SWITCHED_OFF: "switched off by its owner",
    Reason.FAILED: "failed: its login or its test failed, or it had no success for ten minutes",
    Reason.DISABLED: "disabled for its bounce rate",
    Reason.PAUSED: "paused by a person, until it is resumed",
    Reason.SERVER_PAUSED: "its server is paused by a person, until it is resumed",
    Reason.ALL_PAUSED: "everything is paused by a person, until it is resumed",
    Reason.HELD: "held after ten equal refusals without a success",
    Reason.BACKING_OFF: "had trouble a moment ago; it is tried again by itself",
    Reason.REFUSES_SENDER: "the peer refused this From within the hour",
    Reason.PURPOSE_NOT_ALLOWED: "not switched on for this purpose",
    Reason.SENDER_NOT_PROVEN: "nobody vouched for this From",
    Reason.NO_SENDER: "the mail names no From, and this connection has none of its own",
    Reason.CANNOT_CARRY: "its server lacks what the message needs; asked again after an hour",
    Reason.NO_TRANSPORT: "its delivery method cannot be spoken by this version",
    Reason.NEEDS_PARTS: "its vendor's API takes parts of a message, and this mail is true only as a whole",
    Reason.QUOTA_FULL: "the vendor's own sending quota is used up",
    Reason.HOUR_FULL: "no room left in its hourly cap for this kind of mail",
    Reason.DAY_FULL: "no room left in today's cap",
}

# What a person can do about it, as a command to paste; only what ends by a person's hand has one.
_NEXT: dict[Reason, str] = {
    Reason.SWITCHED_OFF: "postroom connection update {connection} --enabled",
    Reason.FAILED: "postroom connection test {connection}",
    Reason.BACKING_OFF: "postroom connection test {connection}",
    Reason.PAUSED: "postroom connection resume {connection}",
    Reason.SERVER_PAUSED: "postroom queue resume --server {server}",
    Reason.ALL_PAUSED: "postroom queue resume --all",
    Reason.PURPOSE_NOT_ALLOWED: "postroom connection update {connection} --{purpose}",
    Reason.SENDER_NOT_PROVEN: "postroom identity trust {sender} --server {server}",
    Reason.NO_SENDER: "postroom connection update {connection} --sender MAILBOX",
    Reason.HOUR_FULL: "postroom connection update {connection} --hourly-cap NUMBER",
    Reason.DAY_FULL: "postroom connection update {connection} --daily-cap NUMBER",
}


def next_step(judged: Judged, facts: Facts, server_id: int) -> str | None:
    """The command that ends this verdict, or says more of its cause; None where there is none."""
    step = _NEXT.get(judged.reason)
    return step and step.format(
        connection=judged.connection_id,
        server=server_id,
        purpose=facts.purpose,
        sender=shlex.quote(facts.sender),
    )


def next_steps(facts: Facts, decision: Decision, server_id: int) -> tuple[str, ...]:
    """What a person can do so that mail which nothing may send now goes out; empty where something may."""
    if not facts.candidates:
        return (f"postroom connection create --server {server_id}",)
    if decision.chosen:
        return ()
    steps = (next_step(one, facts, server_id) for one in decision.judged)
    return tuple(dict.fromkeys(step for step in steps if step))


def candidate_of(facts: Facts, connection_id: int) -> Candidate | None:
    """What routing knew of this one."""
    return next((one for one in facts.candidates if one.connection_id == connection_id), None)


def pause_behind(judged: Judged, facts: Facts) -> Paused | None:
    """The pause that a verdict comes from, or None where it comes from something else."""
    if judged.reason is Reason.ALL_PAUSED:
        return facts.all_paused
    if judged.reason is Reason.SERVER_PAUSED:
        return facts.server_paused
    candidate = candidate_of(facts, judged.connection_id)
    return candidate.paused if candidate is not None and judged.reason is Reason.PAUSED else None


def paused_by(pause: Paused) -> str:
    """Who, when and why, in words."""
    said = f" ({pause.reason})" if pause.reason else ""
    return f"by {pause.by} at {to_iso(pause.since)}{said}"


def waits_for(due_us: int, facts: Facts, decision: Decision, *, serving: bool) -> str:
    """What mail that is due then waits for, in a sentence; `serving`: an engine runs."""
    whole = facts.all_paused or facts.server_paused
    if whole is not None:
        what = "everything" if facts.all_paused is not None else "its server"
        return f"a person to resume {what}, paused {paused_by(whole)}"
    if due_us > facts.at:
        return f"its next try at {to_iso(due_us)}"
    if not serving:
        return "an engine: `postroom serve` does not run"
    if not facts.candidates:
        return "a connection: its server and account have none"
    if decision.chosen:
        return f"its turn on connection {decision.chosen[0]}"
    reasons = sorted({one.reason.value for one in decision.judged})
    until = min((one.until for one in decision.judged if one.until), default=None)
    return f"a connection that may send it ({', '.join(reasons)})" + (
        f"; the first changes at {to_iso(until)}" if until else ""
    )
