"""Whether a connection that was found failed works again: tried now and then, by opening a session."""

from __future__ import annotations

from postroom.clock import MICROS, Clock
from postroom.engine.way_out import WayOut
from postroom.errors import PostroomError
from postroom.ids import ConnectionId
from postroom.logs import logger
from postroom.storage.routes import Route
from postroom.transports.interface import OpenFailed

log = logger("engine")


class Probing:
    """Of one connection."""

    def __init__(self, clock: Clock, way: WayOut, every_s: float) -> None:
        self._clock, self._way, self._every_s = clock, way, every_s
        self._tried_s = clock.steady_s() - every_s  # one that an engine finds failed at its start: at once

    def failed_now(self) -> None:
        """It was found failed: the first try comes after a whole interval."""
        self._tried_s = self._clock.steady_s()

    def begin(self, route: Route) -> bool:
        """Whether `try_it` is to be called now."""
        if not _wanted(route) or self._clock.steady_s() - self._tried_s < self._every_s:
            return False
        self._tried_s = self._clock.steady_s()
        return True

    def next_us(self, route: Route) -> int | None:
        """When it is tried next, microseconds since 1970; None: not at all."""
        if not _wanted(route):
            return None
        left_s = self._tried_s + self._every_s - self._clock.steady_s()
        return self._clock.now_us() + int(max(0.0, left_s) * MICROS)

    async def try_it(self, connection_id: ConnectionId) -> bool:
        """Opens a session and closes it; whether that worked."""
        try:
            session = await self._way.open()
        except (OpenFailed, PostroomError) as error:
            log.info("probe failed", connection=connection_id, cause=str(error))
            return False
        await session.close()
        return True


def _wanted(route: Route) -> bool:
    return route.failed_at is not None and route.enabled and not route.deleted
