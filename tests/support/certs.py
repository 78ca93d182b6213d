"""Certificates for tests: a private authority, good ones, and every broken kind."""

from __future__ import annotations

import ssl
import warnings
from datetime import UTC, datetime, timedelta

import trustme


class Certs:
    """One certificate authority and what it signs. Contexts are new each time; keys are made once a name."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self._stranger: trustme.CA | None = None
        self._issued: dict[str, trustme.LeafCert] = {}

    def client(self) -> ssl.SSLContext:
        """A context that verifies, and trusts this authority only; TLS 1.2 or newer."""
        context = ssl.create_default_context(cafile=None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.authority.configure_trust(context)
        return context

    def server(self, name: str = "localhost") -> ssl.SSLContext:
        """A listener's context with a good certificate for `name` (a host name or an IP address)."""
        return self._context(self._leaf(name))

    def key_and_chain(self, name: str = "localhost") -> bytes:
        """The same as PEM, the key first: for a server that is not Python's."""
        return self._leaf(name).private_key_and_cert_chain_pem.bytes()

    def expired(self, name: str = "localhost") -> ssl.SSLContext:
        """Was good until yesterday."""
        key = f"expired {name}"
        if key not in self._issued:
            yesterday = datetime.now(UTC) - timedelta(days=1)
            self._issued[key] = self.authority.issue_cert(name, not_after=yesterday)
        return self._context(self._issued[key])

    def wrong_name(self) -> ssl.SSLContext:
        """Good, but for somebody else."""
        return self.server("elsewhere.example")

    def untrusted(self, name: str = "localhost") -> ssl.SSLContext:
        """Signed by an authority nobody trusts."""
        if self._stranger is None:
            self._stranger = trustme.CA()
        key = f"untrusted {name}"
        if key not in self._issued:
            self._issued[key] = self._stranger.issue_cert(name)
        return self._context(self._issued[key])

    def ancient(self, name: str = "localhost") -> ssl.SSLContext:
        """A good certificate, but nothing newer than TLS 1.0."""
        return _age(self.server(name))

    def ancient_client(self) -> ssl.SSLContext:
        """Verifies as `client` does, and speaks nothing newer than TLS 1.0."""
        return _age(self.client())

    def _leaf(self, name: str) -> trustme.LeafCert:
        if name not in self._issued:
            self._issued[name] = self.authority.issue_cert(name)
        return self._issued[name]

    def _context(self, leaf: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        return context


def _age(context: ssl.SSLContext) -> ssl.SSLContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point of it
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context
