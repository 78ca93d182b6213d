"""Our own API keys: how one looks, how it is checked, what it may do.

A key is `pra_` (account) or `prs_` (server), 30 random symbols and a checksum of 6: 40 characters, all
lower-case letters, digits and `_`, so it survives case-folding clients, URLs and a double click. A symbol
carries 5 bits; the alphabet leaves out l, o, 0 and 1. The 150 random bits stay above 128 for somebody who
has seen the hint, whose last four characters are of the checksum. Keys are stored as hashes; a plain SHA-256
is enough, since nobody guesses 128 bits. The checksum tells a typo or another product's token from a key
without a look-up.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from postroom.errors import FieldError, Invalid
from postroom.ids import AccountId, KeyId, ServerId

MOST_CHARACTERS = 200
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_SYMBOLS = frozenset(_ALPHABET)
_RANDOM = 30
_CHECKSUM = 6
_LENGTH = 4 + _RANDOM + _CHECKSUM
_FOLDED = str.maketrans({chr(c): chr(c + 32) for c in range(ord("A"), ord("Z") + 1)})


class KeyKind(StrEnum):
    """Whose key it is; the value is its prefix."""

    ACCOUNT = "pra_"
    SERVER = "prs_"


class Scope(StrEnum):
    """What a key may do, in Broadcast's words: `<resource>_read`, `<resource>_write`, or everything."""

    ALL = "all"  # every resource, and those that have no scope of their own
    SUBSCRIBERS_READ = "subscribers_read"
    SUBSCRIBERS_WRITE = "subscribers_write"
    BROADCASTS_READ = "broadcasts_read"
    BROADCASTS_WRITE = "broadcasts_write"
    SEQUENCES_READ = "sequences_read"
    SEQUENCES_WRITE = "sequences_write"
    SEGMENTS_READ = "segments_read"
    SEGMENTS_WRITE = "segments_write"
    TEMPLATES_READ = "templates_read"
    TEMPLATES_WRITE = "templates_write"
    TRANSACTIONALS_READ = "transactionals_read"
    TRANSACTIONALS_WRITE = "transactionals_write"
    EMAIL_SERVERS_READ = "email_servers_read"
    EMAIL_SERVERS_WRITE = "email_servers_write"
    OPT_IN_FORMS_READ = "opt_in_forms_read"
    OPT_IN_FORMS_WRITE = "opt_in_forms_write"
    WEBHOOK_ENDPOINTS_READ = "webhook_endpoints_read"
    WEBHOOK_ENDPOINTS_WRITE = "webhook_endpoints_write"
    AUTOPILOT_READ = "autopilot_read"
    AUTOPILOT_WRITE = "autopilot_write"
    CHANNEL_SETTINGS_READ = "channel_settings_read"
    CHANNEL_SETTINGS_WRITE = "channel_settings_write"
    FILE_ASSETS_READ = "file_assets_read"
    FILE_ASSETS_WRITE = "file_assets_write"
    USERS_READ = "users_read"
    USERS_WRITE = "users_write"


@dataclass(frozen=True)
class NewKey:
    """A key just made. `text` is shown once and never stored; `hash` and `hint` are stored."""

    text: str = field(repr=False)
    hash: bytes
    hint: str


@dataclass(frozen=True)
class Key:
    """A stored key. `server_id` None: an account key. `hint` is its first 4 and last 4 characters."""

    key_id: KeyId
    account_id: AccountId
    server_id: ServerId | None
    label: str
    scopes: frozenset[str]
    hint: str
    created_at_us: int
    last_used_at_us: int | None = None
    revoked_at_us: int | None = None

    def may(self, scope: str) -> bool:
        """Whether the key allows `scope`. Writing does not include reading; a revoked key may nothing."""
        return self.revoked_at_us is None and (scope in self.scopes or Scope.ALL in self.scopes)


def new_key(kind: KeyKind) -> NewKey:
    """A fresh key of this kind, from the system's random source."""
    body = kind.value + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    text = body + _checksum(body)
    return NewKey(text, hash_key(text), hint_of(text))


def fold(text: str) -> str:
    """The one form a key is hashed in: no white space around it, ASCII letters in lower case.

    ASCII only: other alphabets have characters whose lower case is an ASCII letter (U+212A).
    """
    return text.strip(" \t\r\n").translate(_FOLDED)


def hash_key(text: str) -> bytes:
    """SHA-256 (32 bytes) of the folded text; what is stored and looked up."""
    return hashlib.sha256(fold(text).encode("utf-8", "surrogatepass")).digest()


def looks_like_key(text: str) -> bool:
    """Whether prefix, length, alphabet and checksum fit. Linear; over 200 characters is no."""
    if len(text) > MOST_CHARACTERS:
        return False
    text = fold(text)
    body, checksum = text[:-_CHECKSUM], text[-_CHECKSUM:]
    return (
        len(text) == _LENGTH
        and text.startswith(tuple(KeyKind))
        and _SYMBOLS.issuperset(text[4:])
        and hmac.compare_digest(checksum, _checksum(body))
    )


def hint_of(text: str) -> str:
    """First 4 and last 4 characters, by which its owner knows a key again."""
    return text[:4] + text[-4:]


def scopes_of(words: Iterable[str]) -> frozenset[str]:
    """The scopes named by `words`; raises Invalid(`scopes`), one error per unknown word."""
    asked = set(words)
    unknown = sorted(asked.difference(Scope))
    if unknown:
        raise Invalid.of([FieldError("scopes", f"has no scope {word[:50]!r}") for word in unknown[:10]])
    return frozenset(Scope(word) for word in asked)


def _checksum(body: str) -> str:
    number = int.from_bytes(hashlib.sha256(b"postroom key " + body.encode()).digest()[:4])
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in range(_CHECKSUM))
