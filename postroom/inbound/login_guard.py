"""Failed logins, counted by peer address, so that guessing gets slow for the guesser and for nobody else.

A right key is always let in, whatever others at its address did: one program with an old key must not lock
out its neighbours. What is slowed and cut off is wrong answers. Addresses of IPv6 count by /64.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from postroom.clock import Clock
from postroom.peers import address_group

_MOST_ADDRESSES = 10_000


class LoginGuard:
    """Failures of the last `within_s` seconds by address; `most` of them and the address is suspect."""

    def __init__(self, clock: Clock, most: int, within_s: float) -> None:
        self._clock, self._most, self._within_s = clock, most, within_s
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> None:
        """One more failure of this peer."""
        group = address_group(address)
        times = self._failures.setdefault(group, deque(maxlen=self._most))
        times.append(self._clock.steady_s())
        self._failures.move_to_end(group)
        while len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def suspects(self, address: str) -> bool:
        """Whether this peer has failed too often lately."""
        times = self._failures.get(address_group(address))
        if times is None or len(times) < self._most:
            return False
        return self._clock.steady_s() - times[0] <= self._within_s
