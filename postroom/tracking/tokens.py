"""Tokens that travel in mail: what they point at, and a signature so that nobody can make one.

A token is kind, key id, delivery id, link number and a 12-byte MAC (keyed BLAKE2b, RFC 7693), 24 bytes in
all, base32 in lower case without padding: 39 characters that survive folding, case changes and mail programs.
A tracked copy has one for each of its links, so making many at once is what counts.
Keys are the instance's own, one ring per kind; a retired key verifies for ever, because old mail does.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b

from postroom.ids import DeliveryId
from postroom.tracking.base32 import encoded

_BODY = struct.Struct(">BBQH")
_MAC_BYTES = 12
TOKEN_CHARS = 39


class TokenKind(IntEnum):
    """What a token is for; one that was made for another purpose does not verify."""

    UNSUBSCRIBE = 1
    CLICK = 2
    OPEN = 3
    BOUNCE = 4
    REFERENCE = 5


@dataclass(frozen=True)
class Token:
    """A verified token."""

    kind: TokenKind
    delivery_id: DeliveryId
    link: int


@dataclass(frozen=True)
class SigningKeys:
    """The keys of one kind: `active` signs, all of `keys` verify. 32 random bytes each."""

    kind: TokenKind
    active: int
    keys: Mapping[int, bytes]

    def __repr__(self) -> str:
        return f"SigningKeys({self.kind.name}, active={self.active}, ids={sorted(self.keys)})"

    def sign(self, delivery_id: DeliveryId, link: int = 0) -> str:
        """The token's text. link: 0 to 65535."""
        return self.sign_each(delivery_id, (link,))[0]

    def sign_each(self, delivery_id: DeliveryId, links: Iterable[int]) -> list[str]:
        """One for each link."""
        pieces: list[bytes] = []
        keyed = _keyed(self.keys[self.active])
        for link in links:
            body = _BODY.pack(self.kind, self.active, delivery_id, link)
            mac = keyed.copy()
            mac.update(body)
            pieces += (body, mac.digest(), b"\0")  # filled up to a whole number of base32's groups
        text = encoded(b"".join(pieces))
        return [text[at : at + TOKEN_CHARS] for at in range(0, len(text), TOKEN_CHARS + 1)]

    def verify(self, text: str) -> Token | None:
        """What the token points at, or None when it is not one of ours, of this kind, unchanged."""
        if len(text) != TOKEN_CHARS or not text.isascii():
            return None
        try:
            data = base64.b32decode(text.upper() + "=")
        except binascii.Error:
            return None
        body, mac = data[: _BODY.size], data[_BODY.size :]
        kind, key_id, delivery_id, link = _BODY.unpack(body)
        key = self.keys.get(key_id)
        if key is None or kind != self.kind:
            return None
        ours = _keyed(key).copy()
        ours.update(body)
        if not hmac.compare_digest(ours.digest(), mac):
            return None
        # One text for one token: the spare bits of the last character are not free.
        if base64.b32encode(data).decode("ascii").rstrip("=").lower() != text.lower():
            return None
        return Token(TokenKind(kind), DeliveryId(delivery_id), link)


@lru_cache(maxsize=64)
def _keyed(key: bytes) -> blake2b:
    """To be copied: the key is worked in already."""
    return blake2b(key=key, digest_size=_MAC_BYTES)
