"""A desk with the usual settings."""

from __future__ import annotations

from tests.inbound.submission.conftest import certs, desk

__all__ = ["certs", "desk"]
