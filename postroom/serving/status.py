"""The status of several processes as one. Each tells its own as JSON values; whoever is asked joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Told = Mapping[str, Any]  # Any: JSON values, as `serving.seeing` makes them

SENDING = "sending"
_SUMS = ("unsettled_attempts", "journal_bytes")
_MOST = ("grants_pause_s", "event_loop_lag_s")
_OF_CONNECTION = ("busy", "idle", "opening", "claimed")
_LATEST = ("full_until", "backoff_until")


def joined(told: Sequence[Told]) -> dict[str, Any]:
    """What all of them do. The first is the one that was asked."""
    first = told[0]
    return {
        "version": first["version"],
        "pid": first["pid"],
        "started_at": min(one["started_at"] for one in told),
        "state": SENDING if any(one["state"] == SENDING for one in told) else first["state"],
        "processes": [
            {name: one[name] for name in ("pid", "version", "started_at", "roles", "state")} for one in told
        ],
        "listening": {name: at for one in told for name, at in one["listening"].items()},
        "rates": {span: _sums([one["rates"][span] for one in told]) for span in first["rates"]},
        "since_start": _sums([one["since_start"] for one in told]),
        "connections": _connections(told),
        **{name: sum(one[name] for one in told) for name in _SUMS},
        **{name: max(one[name] for one in told) for name in _MOST},
        "commit_s": _commit_s(told),
        "write_queue": _sums([one["write_queue"] for one in told]),
        "troubles": _most([one["troubles"] for one in told]),
    }


def of_lane(told: Sequence[Told], lane_id: int) -> Mapping[str, list[Any]]:
    """Who may send a lane's mail, and what it waits for where nobody may."""
    known = [one["lanes"][str(lane_id)] for one in told if str(lane_id) in one["lanes"]]
    connections = [each for one in known for each in one["connections"]]
    reasons = {reason for one in known for reason in one["waits_for"]}
    return {
        "connections": list(dict.fromkeys(connections)),
        "waits_for": [] if connections else sorted(reasons),
    }


def _connections(told: Sequence[Told]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for one in (each for process in told for each in process["connections"]):
        known = found.get(one["connection_id"])
        if known is None:
            found[one["connection_id"]] = dict(one)
            continue
        known["off"] = list(dict.fromkeys([*known["off"], *one["off"]]))
        known["attempts"] = _sums([known["attempts"], one["attempts"]])
        known["trouble"] = known["trouble"] or one["trouble"]
        known.update({name: known[name] + one[name] for name in _OF_CONNECTION})
        known.update({name: max(known[name] or "", one[name] or "") or None for name in _LATEST})
    return [found[connection_id] for connection_id in sorted(found)]


def _commit_s(told: Sequence[Told]) -> float | None:
    commits = sum(one["minute"]["commits"] for one in told)
    return round(sum(one["minute"]["commit_s"] for one in told) / commits, 5) if commits else None


def _sums(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in values for name in one)
    return {name: round(sum(one.get(name, 0) for one in values), 2) for name in names}


def _most(values: Sequence[Mapping[str, int]]) -> dict[str, int]:
    # Each process sees the troubles of the same database.
    names = dict.fromkeys(name for one in values for name in one)
    return {name: max(one.get(name, 0) for one in values) for name in names}
