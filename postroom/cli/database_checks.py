"""What `postroom doctor` asks PostgreSQL: does it keep what it took, is there room, is its clock ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from postroom.cli.checks import Check, Level
from postroom.config import Settings

_BESIDE = 1  # each process listens on a connection of its own
_CLOCK_SLACK_S = 1.0
_SPARE = 3

Facts = Mapping[str, Any]  # Any: JSON values, as the operation `health` tells them


def database(facts: Facts, settings: Settings) -> Iterator[Check]:
    """Every check of the database."""
    yield Check(
        "database",
        Level.OK,
        f"PostgreSQL {facts['server_version']}, schema {facts['schema']}, {facts['size_bytes']:,} bytes",
    )
    yield durability(facts)
    if facts["autovacuum"] == "off":
        yield Check("autovacuum", Level.WARNING, "it is off, so the queue's tables grow without bound")
    if not settings.database_pooler:
        yield connections(facts, settings)
    yield clocks(facts["ahead_s"])


def durability(facts: Facts) -> Check:
    """Whether what was committed outlives a crash or a power cut."""
    text = ", ".join(f"{name} {facts[name]}" for name in ("fsync", "synchronous_commit", "full_page_writes"))
    if facts["fsync"] == "off" or facts["synchronous_commit"] == "off":
        return Check("durability", Level.BROKEN, f"{text}: a crash or a power cut may lose accepted mail")
    if facts["full_page_writes"] == "off":
        return Check("durability", Level.WARNING, f"{text}: a power cut may damage the database")
    return Check("durability", Level.OK, text)


def connections(facts: Facts, settings: Settings) -> Check:
    """Whether the processes of this machine can have as many as they may want."""
    wanted = settings.processes * (settings.database_connections + _BESIDE)
    most = int(facts["max_connections"]) - int(facts["superuser_reserved_connections"])
    room = most - (facts["connections"] - facts["own_connections"])
    text = (
        f"up to {wanted} wanted here (processes {settings.processes}, database_connections"
        f" {settings.database_connections}), {facts['connections']} of {most} taken now"
    )
    if wanted + _SPARE > room:
        return Check("connections", Level.WARNING, f"{text}: raise max_connections, or use a pooler")
    return Check("connections", Level.OK, text)


def clocks(ahead_s: float) -> Check:
    """Whether this machine's clock is the database's, by which Postroom goes."""
    if abs(ahead_s) <= _CLOCK_SLACK_S:
        return Check("clock of the database", Level.OK, "shows the same time as this machine's")
    side = "ahead of" if ahead_s > 0 else "behind"
    text = f"it is {abs(ahead_s):.1f} s {side} this machine's: logs will not match; run NTP on both"
    return Check("clock of the database", Level.WARNING, text)
