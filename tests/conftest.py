"""What holds for every test: asserts in these helpers say what they compared, whoever imports them first."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.delivery.faults.play", "tests.support.fault_bench")
