"""Tokens that travel in mail: what they point at, and a signature so that nobody can make one.

A token is kind, key id, delivery id, link number, of a click also the number of the content the link stood
in, and a 12-byte MAC (keyed BLAKE2b, RFC 7693): 24 or 32 bytes, base32 in lower case without padding. Its 39
or 52 characters survive folding, case changes and mail programs. A click knows its content because it is to
lead where it did when its delivery is long gone. A tracked copy has a token for each of its links, so making
many at once is what counts.
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
_CONTENT = struct.Struct(">Q")
_MAC_BYTES = 12
TOKEN_CHARS = 39
CLICK_CHARS = 52


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
    content_id: int = 0  # of a click


@dataclass(frozen=True)
class SigningKeys:
    """The keys of one kind: `active` signs, all of `keys` verify. 32 random bytes each."""

    kind: TokenKind
    active: int
    keys: Mapping[int, bytes]

    def __repr__(self) -> str:
        return f"SigningKeys({self.kind.name}, active={self.active}, ids={sorted(self.keys)})"

    @property
    def chars(self) -> int:
        """How long a token is."""
        return CLICK_CHARS if self.kind is TokenKind.CLICK else TOKEN_CHARS

    def sign(self, delivery_id: DeliveryId, link: int = 0, content_id: int = 0) -> str:
        """The token's text. link: 0 to 65535."""
        return self.sign_each(delivery_id, (link,), content_id)[0]

    def sign_each(self, delivery_id: DeliveryId, links: Iterable[int], content_id: int = 0) -> list[str]:
        """One for each link."""
        pieces: list[bytes] = []
        keyed = _keyed(self.keys[self.active])
        click = self.kind is TokenKind.CLICK
        content = _CONTENT.pack(content_id) if click else b""
        fill = b"\0\0\0" if click else b"\0"  # up to a whole number of base32's groups
        for link in links:
            body = _BODY.pack(self.kind, self.active, delivery_id, link) + content
            mac = keyed.copy()
            mac.update(body)
            pieces += (body, mac.digest(), fill)
        text = encoded(b"".join(pieces))
        chars = self.chars
        return [text[at : at + chars] for at in range(0, len(text), (chars + 7) // 8 * 8)]

    def verify(self, text: str) -> Token | None:
        """What the token points at, or None when it is not one of ours, of this kind, unchanged."""
        if len(text) != self.chars or not text.isascii():
            return None
        try:
            data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
        except binascii.Error:
            return None
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        kind, key_id, delivery_id, link = _BODY.unpack(body[: _BODY.size])
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
        content = body[_BODY.size :]
        return Token(
            TokenKind(kind), DeliveryId(delivery_id), link, _CONTENT.unpack(content)[0] if content else 0
        )


@lru_cache(maxsize=64)
def _keyed(key: bytes) -> blake2b:
    """To be copied: the key is worked in already."""
    return blake2b(key=key, digest_size=_MAC_BYTES)
