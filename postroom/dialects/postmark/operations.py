"""Every call of this API once: what routes it, what it needs, and how the document describes it."""

from __future__ import annotations

from postroom.core.key import Scope
from postroom.dialects.postmark import servers
from postroom.dialects.postmark.calls import Op

_READ, _WRITE = Scope.CHANNEL_SETTINGS_READ, Scope.CHANNEL_SETTINGS_WRITE

OPERATIONS: tuple[Op, ...] = (
    Op("GET", "/server", servers.show_own, _READ, "Show the token's server", "Server"),
)  # fmt: skip
