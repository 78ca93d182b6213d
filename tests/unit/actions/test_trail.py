"""What differs, and nothing else."""

from __future__ import annotations

from postroom.actions.trail import difference, present


def test_only_what_differs_is_told_inside_mappings_too() -> None:
    before = {"a": 1, "b": 2, "gone": 3, "options": {"x": 1, "y": 2}, "same": {"z": 1}}
    after = {"a": 1, "b": 3, "new": 4, "options": {"x": 1, "y": 3}, "same": {"z": 1}}
    assert difference(before, after) == {
        "before": {"b": 2, "gone": 3, "options": {"y": 2}, "new": None},
        "after": {"b": 3, "gone": None, "options": {"y": 3}, "new": 4},
    }


def test_nothing_is_told_where_nothing_differs() -> None:
    assert difference({}, {}) is None
    assert difference({"a": None, "b": {"c": None}}, {"b": {}}) is None


def test_what_was_never_there_is_left_out() -> None:
    assert present({"a": None, "b": 0, "c": ""}) == {"b": 0, "c": ""}
