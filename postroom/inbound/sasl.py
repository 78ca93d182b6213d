"""The words of a login: PLAIN (RFC 4616), LOGIN (by custom) and CRAM-MD5 (RFC 2195) over AUTH (RFC 4954).

Only the exchange: whether a login is right is for whoever asked. Nothing of it is logged.
"""

from __future__ import annotations

import binascii
import hmac
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

MAX_LINE = 12288  # RFC 4954 4, octets
_Ask = Callable[[str], Awaitable[bytes | None]]


class Malformed(Exception):
    """The exchange went wrong before there was a login; `reply` says so to the peer."""

    def __init__(self, reply: str) -> None:
        self.reply = reply
        super().__init__(reply)


@dataclass(frozen=True)
class Login:
    """What a peer says it is. `password` is empty for CRAM-MD5, which shows only that the peer knows it.

    acting_as: whom the peer wants to be instead of `user` (RFC 4616 2), "" for nobody else.
    """

    mechanism: str
    user: str = field(repr=False)
    password: str = field(default="", repr=False)
    challenge: bytes = b""
    digest: str = field(default="", repr=False)
    acting_as: str = field(default="", repr=False)

    def was_answered_with(self, *secrets: str) -> bool:
        """Whether the answer to the challenge was made with one of `secrets` (RFC 2104, 2195 2)."""
        given = self.digest.lower().encode()
        expected = (hmac.new(one.encode(), self.challenge, "md5").hexdigest() for one in secrets)
        return any(hmac.compare_digest(one.encode(), given) for one in expected)


async def exchange(mechanism: str, initial: str | None, ask: _Ask, host_name: str) -> Login:
    """Go through one mechanism of PLAIN, LOGIN and CRAM-MD5.

    initial: the base64 that stood behind AUTH. ask: sends a challenge (base64) and gives back the answering
    line, or None for one that is too long. Raises Malformed.
    """
    if mechanism == "PLAIN":
        words = (await _answer(initial, ask, b"")).split("\0")
        if len(words) != 3:
            raise Malformed("501 5.5.2 PLAIN needs an empty name, a user name and a password, NUL between")
        acting_as, user, password = words
        return Login(mechanism, user, password, acting_as=acting_as)
    if mechanism == "LOGIN":
        user = await _answer(initial, ask, b"Username:")
        return Login(mechanism, user, await _answer(None, ask, b"Password:"))
    if initial is not None:
        raise Malformed("501 5.5.4 CRAM-MD5 begins with a challenge")
    challenge = f"<{secrets.token_hex(16)}.{int(time.time())}@{host_name}>".encode()
    user, blank, digest = (await _answer(None, ask, challenge)).rpartition(" ")
    if not blank or not digest.isascii():
        raise Malformed("501 5.5.2 CRAM-MD5 needs a user name and a digest")
    return Login(mechanism, user, challenge=challenge, digest=digest)


async def _answer(given: str | None, ask: _Ask, challenge: bytes) -> str:
    """An answer decoded; what is no UTF-8 can be no name of ours and gets replaced."""
    line: bytes | None
    if given is None:
        line = await ask(b64encode(challenge).decode("ascii"))
    else:
        # RFC 4954 4: a lone "=" is an empty initial response.
        line = b"" if given == "=" else given.encode("utf-8", "replace")
    if line is None:
        raise Malformed("500 5.5.6 The line is too long")
    if line == b"*":
        raise Malformed("501 5.7.0 Login cancelled")
    try:
        return b64decode(line, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        raise Malformed("501 5.5.2 That is not base64") from None
