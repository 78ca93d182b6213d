"""Logging in over SMTP: AUTH PLAIN, LOGIN and CRAM-MD5 (RFC 4954, 4616, 2195; LOGIN by custom).

Exactly the configured method is used (with `auto` the first the peer offers of PLAIN, LOGIN, CRAM-MD5), and
only if the peer offers it on this channel. Secrets go to
the socket and nowhere else: texts of the peer that repeat them are blanked before anyone sees them.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator
from dataclasses import replace

from postroom.transports import smtp_outcomes as outcomes
from postroom.transports.interface import AuthMethod, Fault, OpenFailed, Phase, SmtpTarget
from postroom.transports.smtp_reply import Reply
from postroom.transports.smtp_wire import Wire

_SASL_NAMES = {AuthMethod.PLAIN: "PLAIN", AuthMethod.LOGIN: "LOGIN", AuthMethod.CRAM_MD5: "CRAM-MD5"}
_FORBIDDEN = frozenset("\0\r\n")
_MOST_CHALLENGES = 3
_MOST_INITIAL = 480  # a command line is at most 512 octets; a longer response waits for the challenge
_SHORTEST_SECRET = 4  # blanking shorter ones would spoil any text and hide nothing


def check_login(target: SmtpTarget) -> None:
    """Before anything is dialled: can this login be spoken at all? Raises OpenFailed."""
    if target.auth is None:
        return
    if not target.username or not target.password:
        raise _failed("the login needs a user name and a password", Fault.LOGIN)
    if _FORBIDDEN & set(target.username + target.password):
        raise _failed("user name and password may not have NUL or line breaks in them", Fault.LOGIN)


async def log_in(wire: Wire, target: SmtpTarget, offered: Collection[str], *, safe: bool) -> None:
    """AUTH by the target's method. Raises OpenFailed, WireTrouble.

    offered: mechanism names of the EHLO reply that holds now, upper case.
    safe: the channel is TLS, or the peer is loopback, or its owner allowed clear text.
    """
    if target.auth is None:
        return
    if not safe:
        raise _failed("the channel is not secured by TLS; the login is not sent in clear text")
    method = _method(target.auth, offered)
    name = _SASL_NAMES[method]
    steps = _Steps(replace(target, auth=method))
    initial = steps.initial
    command = f"AUTH {name} {initial}" if initial else f"AUTH {name}"
    timeout_s = target.timeouts.command_s
    wire.send(command.encode("ascii") + b"\r\n", 1)
    reply = await wire.reply(timeout_s)
    challenges = 0
    while reply.kind == 3:
        challenges += 1
        answer = steps.answer(reply) if challenges <= _MOST_CHALLENGES else None
        if answer is None:
            raise _failed(f"the server keeps asking in AUTH {name}; given up")
        wire.send(answer.encode("ascii") + b"\r\n", 1)
        reply = await wire.reply(timeout_s)
    if reply.kind != 2:
        raise OpenFailed(outcomes.login(reply))


def redact(text: str, target: SmtpTarget) -> str:
    """`text` without user name and password, as typed or as a login encodes them."""
    for secret in _spellings(target):
        text = text.replace(secret, "***")
    return text


def _method(wanted: AuthMethod, offered: Collection[str]) -> AuthMethod:
    for method, name in _SASL_NAMES.items():
        if wanted in (method, AuthMethod.AUTO) and name in offered:
            return method
    what = "a login we know" if wanted is AuthMethod.AUTO else f"AUTH {_SASL_NAMES[wanted]}"
    has = ", ".join(sorted(offered)) or "no login at all"
    raise _failed(f"the server does not offer {what}; it offers {has}", Fault.LOGIN)


class _Steps:
    """The responses of one mechanism, in order."""

    def __init__(self, target: SmtpTarget) -> None:
        self._method = target.auth
        self._user = target.username.encode("utf-8")
        self._password = target.password.encode("utf-8")
        self.initial = ""
        left: list[str] = []
        if self._method is AuthMethod.PLAIN:
            plain = _plain(target)
            # A server that ignores the initial response asks with an empty challenge.
            left = [plain]
            if len(plain) <= _MOST_INITIAL:
                self.initial = plain
        elif self._method is AuthMethod.LOGIN:
            left = [_b64(self._user), _b64(self._password)]
        self._left = iter(left)
        self._answered = False

    def answer(self, challenge: Reply) -> str | None:
        """The response to this challenge; None: it asks for more than the mechanism has."""
        if self._method is not AuthMethod.CRAM_MD5:
            return next(self._left, None)
        if self._answered:
            return None
        self._answered = True
        try:
            question = b64decode(b"".join(challenge.lines).strip(), validate=True)
        except (binascii.Error, ValueError):
            raise _failed("the server's CRAM-MD5 challenge is not base64") from None
        digest = hmac.new(self._password, question, "md5").hexdigest()
        return _b64(self._user + b" " + digest.encode("ascii"))


def _plain(target: SmtpTarget) -> str:
    return _b64(b"\0" + target.username.encode("utf-8") + b"\0" + target.password.encode("utf-8"))


def _b64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _spellings(target: SmtpTarget) -> Iterator[str]:
    if target.auth is None:
        return
    yield _plain(target)
    # The password first: a user name may be a part of it.
    for secret in (target.password, target.username):
        if len(secret) >= _SHORTEST_SECRET:
            yield _b64(secret.encode("utf-8"))
            yield secret


def _failed(text: str, fault: Fault = Fault.CONNECTION) -> OpenFailed:
    return OpenFailed(outcomes.cannot_open(text, Phase.AUTH, fault))
