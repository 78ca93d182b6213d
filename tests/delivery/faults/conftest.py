"""What the fault tests share: one authority for all their certificates, and who trusts it."""

from __future__ import annotations

import ssl

import pytest

from tests.support.certs import Certs


@pytest.fixture(scope="session")
def certs() -> Certs:
    return Certs()


@pytest.fixture(scope="session")
def trust(certs: Certs) -> ssl.SSLContext:
    """Verifies, and trusts that authority. Made once: each one reads the system's store first."""
    return certs.client()
