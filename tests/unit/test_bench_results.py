"""What a benchmark's file says of the machine, and what counts as worse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import results

RATIOS = {"postroom": 1.0, "postroom, batches": 2.0, "postfix, tuned": 1.0, "django-post_office": 1.1}


def test_a_file_names_the_machine_and_keeps_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    results.write(path, {"ratios": RATIOS})
    told = json.loads(path.read_text())
    assert told["ratios"] == RATIOS
    assert told["machine"]["cores"] >= 1
    assert told["machine"]["memory_gb"] > 0
    assert {"when", "commit", "machine", "ratios"} == set(told)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, []),
        ({"postroom": 0.86, "postfix, tuned": 0.1, "django-post_office": 0.1}, []),
        ({"postroom": 0.84}, ["postroom: 1.00 x Postfix before, 0.84 now"]),
        ({"postroom, batches": 1.5}, ["postroom, batches: 2.00 x Postfix before, 1.50 now"]),
    ],
)
def test_only_our_own_ratios_count(changed: dict[str, float], named: list[str]) -> None:
    assert results.worse({"ratios": RATIOS}, {"ratios": {**RATIOS, **changed}}, 0.85) == named


def test_a_row_that_is_gone_is_worse() -> None:
    assert len(results.worse({"ratios": RATIOS}, {"ratios": {"postroom": 1.0}}, 0.85)) == 1
