"""Who does something, and from where: what the audit trail says of each change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """`key 12`, `command line`, `engine`. source: an address, a user of this machine; empty: from inside."""

    name: str
    source: str = ""


ENGINE = Actor("engine")
HOUSEKEEPING = Actor("housekeeping")
