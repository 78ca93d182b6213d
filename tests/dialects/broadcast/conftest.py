"""A house whose calls go to Broadcast's API, and what they are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dialects.house import SENDER, House, build_house

__all__ = ["GOOD", "MAIL", "SENDER", "House"]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with build_house(tmp_path, "/api/v1") as built:
        yield built


GOOD: dict[str, object] = {
    "label": "Production AWS SES",
    "vendor": "aws_ses",
    "delivery_method": "smtp",
    "smtp_address": "email-smtp.us-east-1.amazonaws.com",
    "smtp_port": 587,
    "smtp_username": "AKIAIOSFODNN7EXAMPLE",
    "smtp_password": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "smtp_authentication": "plain",
    "emails_per_hour": 1000,
    "use_for_broadcasts": True,
    "use_for_sequences": True,
    "use_for_transactionals": False,
    "aws_region": "us-east-1",
}
MAIL: dict[str, object] = {"to": "Ann <ann@example.net>", "subject": "Hello", "body": "<p>Hi</p>"}
