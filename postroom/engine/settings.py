"""What the engine is told, in seconds and counts; `wiring` fills it from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.engine.retry import Policy


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
    look_every_s: float = 1.0  # how often the engine looks for what no call told it
