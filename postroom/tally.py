"""Counts of what happened since the process started: plain integers that whoever does the work adds to.

One `Tally` is handed down by `wiring`. Adding costs one dictionary look-up, and nothing that counts knows who
reads: `postroom.metrics` shows the counts to Prometheus, `engine.pulse` makes rates of them. What can be read
off the running parts at the moment somebody asks (sessions, queues, room) is not counted here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence

COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SENT_BOUNDS_S = (
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    3600.0,
    21600.0,
    86400.0,
)

# Why a hit on a link of ours is counted as a machine's, not a person's.
HIT_HEAD = "head"  # only the headers were asked for
HIT_AHEAD = "prefetch"  # fetched before anybody asked
HIT_AGENT = "agent"  # by what it calls itself
HIT_BURST = "burst"  # with other links of the same copy, all within two seconds
HIT_BY = ("person", HIT_HEAD, HIT_AHEAD, HIT_AGENT, HIT_BURST)
HIT_KINDS = ("open", "click")


class Histogram:
    """How often values fell up to each bound, and their sum. Written by one thread, read by any."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """bounds: upper ends of the buckets, ascending; above the last comes one without an end."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def total(self) -> int:
        """Values counted so far."""
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """For each bound how many values were not above it; the last entry is all of them."""
        found, running = [], 0
        for count in self.counts:
            running += count
            found.append(running)
        return found


class Tally:
    """What happened. Label values come from closed lists of ours or are ids, never text from outside."""

    def __init__(self) -> None:
        self.accepted: Counter[tuple[str, str]] = Counter()  # messages by (way in, purpose)
        self.accepted_deliveries: Counter[tuple[str, str]] = Counter()
        self.attempts: Counter[tuple[str, int]] = Counter()  # recorded ones by (result, connection)
        self.sent_after_s: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(SENT_BOUNDS_S))
        self.http: Counter[tuple[str, int]] = Counter()  # answers by (dialect, status)
        self.notices: Counter[str] = Counter()  # by kind
        self.hits: Counter[tuple[str, str]] = Counter()  # opens and clicks by (HIT_KINDS, HIT_BY)
        self.hits_dropped = 0
        self.signed: Counter[str] = Counter()  # DKIM signatures on attempts recorded, by kind of key

    def accept(self, origin: str, purpose: str, deliveries: int) -> None:
        """A message was accepted, with so many recipients."""
        self.accepted[origin, purpose] += 1
        self.accepted_deliveries[origin, purpose] += deliveries

    def answered(self, dialect: str, status: int) -> None:
        """An HTTP request was answered."""
        self.http[dialect, status] += 1

    def hit(self, kind: str, machine: str) -> None:
        """A pixel was loaded or a link followed; machine: "" for a person."""
        self.hits[kind, machine or HIT_BY[0]] += 1

    def sums(self) -> dict[str, int]:
        """Running totals for rates: accepted deliveries, and attempts by result."""
        found = {"accepted": self.accepted_deliveries.total(), "sent": 0, "deferred": 0, "bounced": 0}
        for (result, _), count in self.attempts.items():
            if result in found:
                found[result] += count
        return found
