"""The TLS of our SMTP listeners: the operator's certificate, or one we make ourselves, once.

TLS 1.2 or newer (RFC 8996), without renegotiation or compression. The self-made pair is for a start on one
machine: programs have to be told to trust it. It lies in a folder of its own, readable by its owner only,
and is made anew only when it is unreadable or out of date. A pair whose files change (a renewal) is read
again for the handshakes that come; sessions that are open keep theirs.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from postroom.clock import Clock, SystemClock
from postroom.errors import Invalid, Unavailable

LOOK_EVERY_S = 10.0  # at the files, and only when a handshake begins
_CERTIFICATE_NAME = "certificate.pem"
_KEY_NAME = "key.pem"
_LIFE = timedelta(days=3652)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")


log = logging.getLogger(__name__)

_Marks = tuple[tuple[int, int, int], ...]


class ServerTls:
    """A listener's certificate. self_made: nobody trusts it unasked.

    key None: it stands with the certificate. Raises OSError, ValueError for files that are no pair.
    """

    def __init__(
        self, certificate: Path, key: Path | None, self_made: bool, clock: Clock | None = None
    ) -> None:
        self.certificate, self.self_made = certificate, self_made
        self._key, self._clock = key, clock or SystemClock()
        self._marks = self._look()
        self._context = _context(certificate, key)
        self._looked_s = self._clock.steady_s()

    def context(self) -> ssl.SSLContext:
        """For the handshake that begins now. Changed files that are no pair leave the old one in force."""
        now_s = self._clock.steady_s()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._renew()
        return self._context

    def _renew(self) -> None:
        try:
            marks = self._look()
            if marks == self._marks:
                return
            self._context = _context(self.certificate, self._key)
        except (OSError, ValueError) as error:  # half of a renewal, perhaps: looked at again next time
            log.warning("the changed certificate %s cannot be used: %s", self.certificate, _reason(error))
        else:
            self._marks = marks
            log.info("the certificate %s was read again", self.certificate)

    def _look(self) -> _Marks:
        """What changes when a file does; taken before it is read, so that no change is missed."""
        files = [self.certificate] if self._key is None else [self.certificate, self._key]
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in map(os.stat, files))


def server_tls(
    folder: Path,
    host_name: str,
    certificate: Path | None = None,
    key: Path | None = None,
    clock: Clock | None = None,
) -> ServerTls:
    """The operator's pair where given, else our own in `folder`. PEM; a key may stand with its certificate.

    host_name: this host's full name, for the certificate we make. Blocks: files and a key. Raises Invalid
    ("smtp_tls_cert") for files that are no pair, Unavailable when `folder` cannot be written.
    """
    if certificate is not None:
        try:
            return ServerTls(certificate, key, False, clock)
        except (OSError, ValueError) as error:
            raise Invalid("smtp_tls_cert", f"cannot be used: {_reason(error)}") from error
    if key is not None:
        raise Invalid("smtp_tls_cert", "can't be blank when a key is given")
    own, own_key = folder / _CERTIFICATE_NAME, folder / _KEY_NAME
    with contextlib.suppress(OSError, ValueError):
        if _is_in_date(own):
            return ServerTls(own, own_key, True, clock)
    try:
        _make(folder, host_name)
        return ServerTls(own, own_key, True, clock)
    except OSError as error:
        raise Unavailable(f"no certificate can be made in {folder}: {_reason(error)}") from error


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # An encrypted key would make OpenSSL ask for its passphrase on the terminal.
    context.load_cert_chain(certificate, key, password="")
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM certificate with its key").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _is_in_date(certificate: Path) -> bool:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc > datetime.now(UTC)


def _make(folder: Path, host_name: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    if host_name != "localhost" and _HOST_NAME.fullmatch(host_name):
        names.append(x509.DNSName(host_name))
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Postroom")])
    begin = datetime.now(UTC) - timedelta(days=1)  # clients' clocks may be behind ours
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # A certificate of its own and no authority: who trusts it trusts these names and no others.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    _write(
        folder / _KEY_NAME,
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    _write(folder / _CERTIFICATE_NAME, certificate.public_bytes(pem))


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
