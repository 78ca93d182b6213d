"""Reading and judging what a sink swore to: its log of accepted copies (see `tests.support.sink`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SinkRecord:
    """One accepted copy: one recipient of one message. Spaces inside id or address are logged as `_`."""

    time_us: int
    message_id: str
    recipient: str
    session: int


def read_log(path: Path) -> list[SinkRecord]:
    """Every complete line of a sink's log, in the order written; [] when there is none yet."""
    if not path.exists():
        return []
    complete, _, _ = path.read_text("utf-8", "surrogateescape").rpartition("\n")
    records = []
    for line in complete.split("\n") if complete else []:
        time_us, message_id, recipient, session = line.split(" ")
        records.append(SinkRecord(int(time_us), message_id, recipient, int(session)))
    return records


def copies(records: Iterable[SinkRecord]) -> Counter[tuple[str, str]]:
    """How many copies each (message id, recipient) got: 1 is right, more are seconds."""
    return Counter((record.message_id, record.recipient) for record in records)


def max_in_any_window(records: Iterable[SinkRecord], window_s: float = 3600) -> int:
    """The most copies in any window (a, a + window_s], wherever it begins."""
    times = sorted(record.time_us for record in records)
    width_us = round(window_s * 1_000_000)
    most = first = 0
    for last, time_us in enumerate(times):
        while time_us - times[first] >= width_us:
            first += 1
        most = max(most, last - first + 1)
    return most
