"""The metrics of several processes as one: each tells its own, whoever is asked adds them up.

What a process tells is JSON: its families with their samples. How values become one stands in the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import Metric

from postroom.metrics.table import OF_NAME, Across

Told = list[list[Any]]
"""Families: [name, type, meaning, [[sample name, {label: value}, value], …]]."""

# prometheus_client's own, of the operating system; the rest of them are added up.
_USAGE: Mapping[str, Across] = {"process_start_time_seconds": "least", "process_max_fds": "least"}
_COUNTS = ("counter", "histogram")


@dataclass(frozen=True)
class Others:
    """What the other processes told. silent: how many run and did not answer."""

    told: Sequence[Told] = ()
    silent: int = 0


async def alone() -> Others:
    """There are none."""
    return Others()


def told_of(families: Iterable[Metric]) -> Told:
    """Families as JSON values."""
    return [
        [one.name, one.type, one.documentation, [[s.name, dict(s.labels), s.value] for s in one.samples]]
        for one in families
    ]


def counts_of(families: Told) -> Told:
    """Those that only grow: what a process told of them stays true when it has ended."""
    return [one for one in families if one[1] in _COUNTS]


class Whole:
    """What `generate_latest` takes for a registry. one: families that are no process's own."""

    def __init__(self, tellings: Sequence[Told], one: Sequence[Metric] = ()) -> None:
        self._tellings, self._one = tellings, one

    def collect(self) -> Iterator[Metric]:
        """Each family once."""
        yield from added_up(self._tellings)
        yield from self._one


def added_up(tellings: Iterable[Told]) -> Iterator[Metric]:
    """One family for each name, with one value for each series."""
    kinds: dict[str, tuple[str, str]] = {}
    series: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for telling in tellings:
        for name, kind, meaning, samples in telling:
            kinds.setdefault(name, (kind, meaning))
            known = series.setdefault(name, {})
            how = _across(name, kind)
            for sample, labels, value in samples:
                key = (str(sample), tuple(labels.items()))
                known[key] = _combined(how, known[key], value) if key in known else value
    for name, (kind, meaning) in kinds.items():
        family = Metric(name, meaning, kind)
        for (sample, label_items), value in series[name].items():
            family.add_sample(sample, dict(label_items), value)
        yield family


def _across(name: str, kind: str) -> Across:
    row = OF_NAME.get(f"{name}_total" if kind == "counter" else name)
    return row.across if row is not None else _USAGE.get(name, "sum")


def _combined(how: Across, one: float, other: float) -> float:
    if how == "sum":
        return one + other
    return max(one, other) if how == "most" else min(one, other)
