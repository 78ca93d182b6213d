"""A house whose calls go to B2CORE's API, and a provider as its documentation has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dialects.house import House, build_house

BASE = "/api/v2/mail/providers"
GOOD: dict[str, object] = {
    "driver": "smtp",
    "host": "host.example.com",
    "port": 25,
    "username": "User",
    "password": "Password",
    "sendFrom": "user@example.com",
    "sendFromName": "Company name",
    "encryption": "ssl",
    "isEnabled": 1,
    "caption": "My SMTP connection",
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with build_house(tmp_path, BASE) as built:
        yield built
