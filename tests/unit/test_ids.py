"""Public ids: UUIDs of version 7 that sort by the time they were made."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from postroom.clock import MICROS
from postroom.ids import new_public_id


def test_public_ids_begin_with_the_time_and_end_at_random() -> None:
    at_us = 1_700_000_000 * MICROS
    made = [UUID(new_public_id(at_us + n * 1000)) for n in range(50)]
    assert made == sorted(made)
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}
    assert [one.int >> 80 for one in made] == [at_us // 1000 + n for n in range(50)]
    same = {new_public_id(at_us) for _ in range(50)}
    assert len(same) == 50
    assert len({one[14:18] for one in same}) > 10
    assert len({one[19:] for one in same}) == 50


def test_the_example_of_the_standard_has_its_bits_where_ours_are() -> None:
    """RFC 9562, A.6."""
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    mine = UUID(new_public_id((example.int >> 80) * 1000 + 999))
    assert (mine.int >> 80, mine.version) == (example.int >> 80, example.version)
