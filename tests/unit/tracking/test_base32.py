"""Many at once are what the standard library makes of each."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from postroom.tracking.base32 import encoded


@given(st.binary(max_size=400).map(lambda data: data[: len(data) // 5 * 5]))
def test_as_the_standard_library(data: bytes) -> None:
    assert encoded(data) == base64.b32encode(data).decode("ascii").lower()
