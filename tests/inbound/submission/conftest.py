"""A desk with the usual settings, and one set of certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.inbound.submission.desk import Desk, open_desk
from tests.support.certs import Certs


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def certs() -> Certs:
    return Certs()
