"""DKIM signatures: the fields that go on top of a composed message.

Follows RFC 6376 (relaxed/relaxed, never `l=`), RFC 8301 (SHA-256 only), RFC 8463 (Ed25519) and RFC 8616
(domains as A-labels, header fields in UTF-8 as they are). What would be harmful twice is signed once more
than it is there, so nobody can add a second one (RFC 6376 8.15), and the unsubscribe fields always (RFC 8058
4). The same message and keys give the same bytes, always. Verifying is the receiver's business.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

import msgspec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from postroom.mail.dkim_keys import Algorithm, PrivateKey
from postroom.mail.raw import split_raw

_RUNS = re.compile(rb"[ \t]{2,}|\t")
_BLANKS = re.compile(rb"[ \t\r\n]+")
_LINE = 76
_USUAL = 64  # names signed, at most, that are worth keeping

# Signed once more than they are there, and where they are not.
_SEALED = (
    *("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID"),
    *("List-Unsubscribe", "List-Unsubscribe-Post"),
)
# Signed once more where they are there: a relay may supply what a client's own message lacks.
_SEALED_IF_THERE = ("MIME-Version", "Content-Type", "Content-Transfer-Encoding")
# Signed as often as they are there (RFC 6376 5.4.1).
_AS_THERE = (
    *("Sender", "In-Reply-To", "References", "Feedback-ID"),
    *("List-Id", "List-Help", "List-Subscribe", "List-Post", "List-Owner", "List-Archive"),
    *("Resent-From", "Resent-To", "Resent-Cc", "Resent-Date", "Resent-Message-ID"),
)


@dataclass(frozen=True)
class Signer:
    """One key that signs. `domain` as A-label; the record with its public half is `name`."""

    domain: str
    selector: str
    algorithm: Algorithm
    key: PrivateKey = field(repr=False)

    @property
    def name(self) -> str:
        """Where its record stands in DNS."""
        return f"{self.selector}._domainkey.{self.domain}"

    def __str__(self) -> str:
        return f"{self.algorithm} {self.name}"


class Unsigned(msgspec.Struct, frozen=True):
    """A DKIM-Signature field up to its `b=`, and the SHA-256 digest that `signer` is to sign for it."""

    signer: Signer
    field: bytes
    digest: bytes

    def signed(self, signature: bytes) -> bytes:
        """The whole field."""
        return self.field + _in_lines(_base64(signature)).encode("ascii")


def sign(message: bytes, signers: Sequence[Signer], *, at_us: int, rewritten: Collection[str] = ()) -> bytes:
    """One DKIM-Signature field for each signer, in their order, to go on top of `message`.

    message: complete, with CRLF line ends only, as `compose` makes it. at_us: microseconds since 1970.
    rewritten: names (lower case) of header fields that will not arrive as they are here; none is signed.
    """
    fields = unsigned(message, signers, at_us=at_us, rewritten=rewritten)
    return b"".join(one.signed(signature_of(one.signer.key, one.digest)) for one in fields)


def unsigned(
    message: bytes, signers: Sequence[Signer], *, at_us: int, rewritten: Collection[str] = ()
) -> list[Unsigned]:
    """The same fields before anything is signed."""
    fields, body = split_raw(message)
    by_name: dict[bytes, list[bytes]] = {}
    for lower, whole in fields:
        by_name.setdefault(lower, []).append(whole)
    names, headers = [], sha256()
    for name, lower, more in _to_sign(frozenset(rewritten)):
        there = by_name.get(lower, ())
        names += [name] * (len(there) + (more == 2 or (more == 1 and bool(there))))
        for whole in reversed(there):  # from the bottom up, RFC 6376 5.4.2
            headers.update(_relaxed_field(lower, whole))
    listed = _listed(tuple(names)) if len(names) <= _USUAL else _names(names)
    body_hash = _base64(sha256(relaxed_body(body)).digest())
    made = []
    for one in signers:
        digest = headers.copy()
        text = (
            f"DKIM-Signature: v=1; a={one.algorithm}-sha256; c=relaxed/relaxed; t={at_us // 1_000_000};\r\n"
            f" d={one.domain}; s={one.selector};\r\n {listed};\r\n bh={body_hash};\r\n b="
        )
        begun = text.encode("ascii")
        digest.update(_relaxed_field(b"dkim-signature", begun)[:-2])
        made.append(Unsigned(one, begun, digest.digest()))
    return made


def signature_of(key: PrivateKey, digest: bytes) -> bytes:
    """The signature of a SHA-256 digest: RSA as RFC 8301 has it, Ed25519 of the digest (RFC 8463 3)."""
    if isinstance(key, RSAPrivateKey):
        return key.sign(digest, PKCS1v15(), Prehashed(SHA256()))
    return key.sign(digest)


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 3.4.4. Each step is linear, whatever the body is: runs become one blank before any is cut."""
    if b"  " in body or b"\t" in body:
        body = _RUNS.sub(b" ", body)
    body = body.replace(b" \r\n", b"\r\n")
    if body.endswith(b" "):
        body = body[:-1]
    body = body.rstrip(b"\r\n")  # no bare CR or LF is in it
    return body + b"\r\n" if body else b""


@lru_cache(maxsize=64)
def _to_sign(rewritten: frozenset[str]) -> list[tuple[str, bytes, int]]:
    """Names, as they are listed and in lower case, each with 2: once more than it is there, 1: the same where
    it is there, 0: as it is there."""
    every = [(2, _SEALED), (1, _SEALED_IF_THERE), (0, _AS_THERE)]
    return [
        (name, name.lower().encode("ascii"), more)
        for more, names in every
        for name in names
        if name.lower() not in rewritten
    ]


@lru_cache(maxsize=256)
def _listed(names: tuple[str, ...]) -> str:
    return _names(names)


def _names(names: Sequence[str]) -> str:
    return _folded("h=", ":".join(names), ":")


def _relaxed_field(lower: bytes, whole: bytes) -> bytes:
    """RFC 6376 3.4.2."""
    value = whole.partition(b":")[2].strip(b" \t\r\n")
    if b"\r" in value or b"\n" in value or b"\t" in value or b"  " in value:
        value = _BLANKS.sub(b" ", value)
    return lower + b":" + value + b"\r\n"


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _folded(prefix: str, text: str, after: str) -> str:
    """`text` in lines, broken behind `after`."""
    lines, line = [], prefix
    for piece in text.split(after):
        if len(line) + len(piece) + 2 > _LINE:
            lines.append(line)
            line = ""
        line += piece + after
    return "\r\n ".join([*lines, line[: -len(after)]])


def _in_lines(signature: str) -> str:
    lines = [signature[: _LINE - 3]]
    lines += [signature[at : at + _LINE - 1] for at in range(_LINE - 3, len(signature), _LINE - 1)]
    return "\r\n ".join(lines) + "\r\n"
