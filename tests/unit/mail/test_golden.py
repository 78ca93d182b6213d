"""The bytes of a message stay what they were, whatever is made faster (see `tests.support.golden`)."""

from __future__ import annotations

import pytest

from tests.support.golden import FOLDER, GOLDEN


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_is_composed_as_it_always_was(name: str) -> None:
    assert GOLDEN[name]() == (FOLDER / f"{name}.eml").read_bytes()


def test_no_file_is_left_that_nothing_makes() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(GOLDEN)
