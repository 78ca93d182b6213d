"""What the transport tests share: certificates, short timeouts, checkpoints that take notes."""

from __future__ import annotations

import pytest

from tests.support.certs import Certs


@pytest.fixture(scope="session")
def certs() -> Certs:
    return Certs()
