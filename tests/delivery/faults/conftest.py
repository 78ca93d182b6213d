"""What the fault tests share: one authority for all their certificates, and who trusts it."""

from __future__ import annotations

import ssl

import pytest

pytest.register_assert_rewrite("tests.delivery.faults.play", "tests.support.fault_bench")

from tests.support.certs import Certs  # noqa: E402  # after it, or it comes too late


@pytest.fixture(scope="session")
def certs() -> Certs:
    return Certs()


@pytest.fixture(scope="session")
def trust(certs: Certs) -> ssl.SSLContext:
    """Verifies, and trusts that authority. Made once: each one reads the system's store first."""
    return certs.client()
