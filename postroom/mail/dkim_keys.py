"""DKIM keys: making and reading them, and the records in DNS their public halves stand in.

Follows RFC 6376 3.6.1, RFC 8301 3.2 (RSA of 2,048 bits and more is made and taken) and RFC 8463 4. Private
keys are never in a text of ours: not in an error, not in a repr.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from postroom.errors import Invalid

PrivateKey: TypeAlias = RSAPrivateKey | Ed25519PrivateKey

RSA_BITS = 2048
_MOST_RSA_BITS = 4096  # verifiers need take no more, RFC 8301 3.2
MOST_PEM_BYTES = 20_000
_MOST_NAME = 253
_STRING = 255  # of one character-string in a TXT record, RFC 1035 3.3.14
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Algorithm(StrEnum):
    """The `k=` of a record; with `-sha256` the `a=` of a signature."""

    RSA = "rsa"
    ED25519 = "ed25519"


class Published(StrEnum):
    """What stands in DNS where a key's record belongs."""

    FOUND = "found"  # the key
    MISSING = "missing"  # nothing
    OTHER = "other"  # another key
    SEVERAL = "several"  # more than one record, so that verifiers may take either (RFC 6376 3.6.2.2)
    BROKEN = "broken"  # something that is no DKIM key record
    REVOKED = "revoked"  # a record without a key: signatures are to fail


def new_key(algorithm: Algorithm) -> PrivateKey:
    """A random key. RSA takes a tenth of a second or more."""
    if algorithm is Algorithm.RSA:
        return generate_private_key(65537, RSA_BITS)
    return Ed25519PrivateKey.generate()


def algorithm_of(key: PrivateKey) -> Algorithm:
    """What it signs with."""
    return Algorithm.RSA if isinstance(key, RSAPrivateKey) else Algorithm.ED25519


def read_pem(pem: bytes) -> PrivateKey:
    """A private key that somebody has already, checked.

    Raises Invalid("private_key", ...) for what is none, is encrypted, of another kind, or too weak; nothing
    of it is repeated.
    """
    if len(pem) > MOST_PEM_BYTES:
        raise Invalid("private_key", f"is larger than {MOST_PEM_BYTES} bytes")
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise Invalid("private_key", "is encrypted; give it without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid("private_key", "is not a private key in PEM form") from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, RSAPrivateKey):
        raise Invalid("private_key", "is neither RSA nor Ed25519")
    if not RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
        raise Invalid(
            "private_key",
            f"has {key.key_size} bits; RSA keys for DKIM have {RSA_BITS} to {_MOST_RSA_BITS}",
        )
    return key


def to_stored(key: PrivateKey) -> bytes:
    """As it is sealed: PKCS #8, DER."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def from_stored(data: bytes) -> PrivateKey:
    """Back. Raises ValueError, without a word of the key, for what is none."""
    try:
        # It was checked when it came; that takes as long as a hundred signatures.
        key = load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("a stored DKIM key is broken") from None
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError("a stored DKIM key is of another kind")  # noqa: TRY004  # one error for the caller
    return key


def public_text(key: PrivateKey) -> str:
    """The `p=` of its record."""
    public = key.public_key()
    if isinstance(key, RSAPrivateKey):
        data = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        data = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return binascii.b2a_base64(data, newline=False).decode("ascii")


# --- the record in DNS -----------------------------------------------------------------------------------


def check_selector(selector: str, domain: str) -> str:
    """A selector in lower case. Raises Invalid("selector", ...) for what cannot go with `domain`."""
    lower = selector.strip().lower()
    if not all(_LABEL.fullmatch(label) for label in lower.split(".")):
        raise Invalid(
            "selector", "must be letters, digits and hyphens, in parts of at most 63 joined by dots"
        )
    if len(record_name(lower, domain)) > _MOST_NAME:
        raise Invalid("selector", f"is too long: with the domain its record's name has over {_MOST_NAME}")
    return lower


def record_name(selector: str, domain: str) -> str:
    """Where the record stands."""
    return f"{selector}._domainkey.{domain}"


def record_value(algorithm: Algorithm, public: str) -> str:
    """What the record says, in one line."""
    return f"v=DKIM1; k={algorithm}; p={public}"


def record_strings(value: str) -> list[str]:
    """The same in strings of at most 255, as a TXT record holds it."""
    return [value[at : at + _STRING] for at in range(0, len(value), _STRING)]


def zone_line(name: str, value: str) -> str:
    """The record as a line of a zone file."""
    strings = " ".join(f'"{one}"' for one in record_strings(value))
    return f"{name}. IN TXT ( {strings} )"


def published(records: Sequence[bytes], algorithm: Algorithm, public: str) -> Published:
    """What these TXT records (each with its strings joined) are to this key. Never raises."""
    if not records:
        return Published.MISSING
    if len(records) > 1:
        return Published.SEVERAL
    tags = _tags(records[0])
    if tags is None or "p" not in tags or tags.get("v", "DKIM1") != "DKIM1":
        return Published.BROKEN
    hashes = [one.strip() for one in tags.get("h", "sha256").split(":")]
    services = [one.strip() for one in tags.get("s", "*").split(":")]
    if "sha256" not in hashes or not {"*", "email"} & set(services):
        return Published.BROKEN  # it says that no signature of ours is to be believed
    key = "".join(tags["p"].split())
    if not key:
        return Published.REVOKED
    same = key.rstrip("=") == public.rstrip("=") and tags.get("k", "rsa") == algorithm.value
    return Published.FOUND if same else Published.OTHER


def _tags(record: bytes) -> dict[str, str] | None:
    """A tag-list (RFC 6376 3.2), or None: not one, or a tag twice."""
    try:
        text = record.decode("ascii")
    except UnicodeDecodeError:
        return None
    tags: dict[str, str] = {}
    pieces = text.split(";")
    for piece in pieces if pieces[-1].strip() else pieces[:-1]:
        name, equals, value = piece.partition("=")
        if not equals or not name.strip() or name.strip() in tags:
            return None
        tags[name.strip()] = value.strip()
    return tags
