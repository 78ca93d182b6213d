"""What the engine is told, in seconds and counts; `of_settings` fills it from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.engine.retry import Policy


@dataclass(frozen=True)
class Leases:
    """How many deliver processes share one database. Names and defaults are those of the settings."""

    lease_s: float = 90.0
    lease_renew_s: float = 15.0
    lease_margin_s: float = 10.0  # by how much a worker believes itself alive for less long than others do
    sibling_look_s: float = 2.0


@dataclass(frozen=True)
class EngineSettings:
    """Names and defaults are those of the settings of the same names."""

    policy: Policy = field(default_factory=Policy)
    sessions_per_connection: int = 10
    session_idle_s: float = 30.0
    session_max_deliveries: int = 1000
    backoff_first_s: float = 1.0
    backoff_longest_s: float = 600.0
    probe_every_s: float = 600.0
    failed_after_s: float = 600.0
    helo_name: str = "localhost"
    leases: Leases | None = None  # None: nobody else uses the database
    look_every_s: float = 1.0  # how often the engine looks for what no call told it
