"""SMTP as a way out: open a session that is connected, secured and logged in, or say why not.

Follows RFC 5321 (banner, EHLO, HELO), RFC 3207 (STARTTLS), RFC 8314 (implicit TLS) and RFC 4954
(AUTH). Certificates and names are verified, TLS is 1.2 or newer; nothing falls back to clear text.
What the peer said before STARTTLS is forgotten after it. Delivering is `smtp_session`'s.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections.abc import Callable

from msgspec.structs import replace

from postroom.transports import smtp_outcomes as outcomes
from postroom.transports.dialer import Dialer, DialError, Peer, Purpose, tls_name, tls_text, verified_context
from postroom.transports.interface import (
    AuthMethod,
    Fault,
    OpenFailed,
    Outcome,
    Phase,
    Result,
    SmtpTarget,
    StartTls,
)
from postroom.transports.smtp_login import check_login, log_in, redact
from postroom.transports.smtp_reply import Reply
from postroom.transports.smtp_session import SmtpSession
from postroom.transports.smtp_wire import Wire, WireTrouble

__all__ = ["AuthMethod", "SmtpSession", "SmtpTransport", "probe"]

_HELO_NAME = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}")


class SmtpTransport:
    """Implements `interface.Transport` for one target. Holds no connection itself.

    ssl_context: used instead of the system's trust store when certificates are verified.
    """

    def __init__(
        self, target: SmtpTarget, dialer: Dialer, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.target = target
        self._dialer = dialer
        self._ssl_context = ssl_context

    def __repr__(self) -> str:
        return f"SmtpTransport({self.target.host}:{self.target.port})"

    async def open(self) -> SmtpSession:
        """Connect, secure, log in. Raises OpenFailed; its text never holds the password."""
        opening = _Opening(self.target, self._dialer, self._context)
        try:
            return await opening.run()
        except OpenFailed as failed:
            outcome = failed.outcome
        except WireTrouble as trouble:
            text = (
                f"{trouble.text}: {trouble.reply.code} {trouble.reply.text}"
                if trouble.reply
                else trouble.text
            )
            outcome = outcomes.cannot_open(text, opening.phase)
        raise OpenFailed(replace(outcome, text=redact(outcome.text, self.target)))

    def _context(self) -> ssl.SSLContext:
        if not self.target.verify_tls:
            return _unverified_context()
        return self._ssl_context or verified_context()


async def probe(transport: SmtpTransport) -> Outcome:
    """Connect, secure, log in, QUIT: a connection test that sends nothing.

    -> SENT in phase DONE if all of it works, else what a delivery would have met. Never raises for
    what the peer does.
    """
    try:
        session = await transport.open()
    except OpenFailed as failed:
        return failed.outcome
    try:
        secured = session.tls_version or "no TLS"
        login = f"logged in with {transport.target.auth}" if transport.target.auth else "no login"
    finally:
        await session.close()
    return Outcome(
        Result.SENT, Fault.NONE, Phase.DONE, text=f"connected, {secured}, {login}", session_usable=False
    )


class _Opening:
    """One attempt to open a session. `phase` is where it is."""

    def __init__(self, target: SmtpTarget, dialer: Dialer, context: Callable[[], ssl.SSLContext]) -> None:
        self.phase = Phase.CONNECT
        self._target = target
        self._timeouts = target.timeouts
        self._dialer = dialer
        self._context = context
        self._capabilities: dict[str, str] = {}

    async def run(self) -> SmtpSession:
        check_login(self._target)
        if not _HELO_NAME.fullmatch(self._target.helo_name):
            raise OpenFailed(outcomes.cannot_open("our own host name cannot be written in SMTP", Phase.EHLO))
        wire, peer = await self._connect()
        try:
            await self._greet(wire)
            await self._secure(wire)
            self.phase = Phase.AUTH
            safe = bool(wire.tls_version) or peer.loopback or self._target.allow_clear_auth
            await log_in(wire, self._target, _mechanisms(self._capabilities), safe=safe)
        except BaseException:
            wire.abort()
            raise
        return SmtpSession(wire, self._target, self._capabilities)

    async def _connect(self) -> tuple[Wire, Peer]:
        target, timeouts = self._target, self._timeouts
        try:
            sock, peer = await self._dialer.dial(
                target.host, target.port, Purpose.SMTP, timeout_s=timeouts.connect_s
            )
        except DialError as error:
            raise OpenFailed(outcomes.cannot_open(str(error), Phase.CONNECT)) from error
        loop = asyncio.get_running_loop()
        wire = Wire(loop)
        try:
            if target.starttls is StartTls.IMPLICIT:
                self.phase = Phase.TLS
                async with asyncio.timeout(timeouts.command_s):
                    await loop.create_connection(
                        lambda: wire,
                        sock=sock,
                        ssl=self._context(),
                        server_hostname=tls_name(target.host),
                        ssl_handshake_timeout=timeouts.command_s,
                        ssl_shutdown_timeout=timeouts.quit_s,
                    )
            else:
                await loop.create_connection(lambda: wire, sock=sock)
        except OSError as error:
            sock.close()
            raise OpenFailed(outcomes.cannot_open(tls_text(error), self.phase)) from error
        except BaseException:
            sock.close()
            raise
        return wire, peer

    async def _greet(self, wire: Wire) -> None:
        self.phase = Phase.BANNER
        banner = await wire.reply(self._timeouts.banner_s)
        if banner.kind != 2:
            raise OpenFailed(outcomes.connection(banner, Phase.BANNER))
        await self._hello(wire)

    async def _hello(self, wire: Wire) -> None:
        self.phase = Phase.EHLO
        reply = await self._ask(wire, f"EHLO {self._target.helo_name}")
        if reply.kind == 2:
            self._capabilities = _capabilities(reply)
            return
        if reply.kind == 5:
            # A server from before 1995, or one that has been told to be like one (RFC 5321 3.2).
            reply = await self._ask(wire, f"HELO {self._target.helo_name}")
            self._capabilities = {}
        if reply.kind != 2:
            raise OpenFailed(outcomes.connection(reply, Phase.EHLO))

    async def _secure(self, wire: Wire) -> None:
        wanted = self._target.starttls
        if wanted in (StartTls.IMPLICIT, StartTls.NEVER):
            return
        self.phase = Phase.TLS
        if "STARTTLS" not in self._capabilities:
            if wanted is StartTls.OFFERED:
                return
            raise OpenFailed(
                outcomes.cannot_open("TLS is required, and the server does not offer it", Phase.TLS)
            )
        reply = await self._ask(wire, "STARTTLS")
        if reply.code != 220:
            raise OpenFailed(outcomes.connection(reply, Phase.TLS))
        timeouts = self._timeouts
        try:
            await wire.start_tls(
                self._context(), tls_name(self._target.host), timeouts.command_s, timeouts.quit_s
            )
        except OSError as error:
            raise OpenFailed(outcomes.cannot_open(tls_text(error), Phase.TLS)) from error
        await self._hello(wire)

    async def _ask(self, wire: Wire, command: str) -> Reply:
        wire.send(command.encode("ascii") + b"\r\n", 1)
        return await wire.reply(self._timeouts.command_s)


def _capabilities(reply: Reply) -> dict[str, str]:
    """EHLO keywords, upper case, with their parameters as one text; the first line is a greeting."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.decode("ascii", "replace").strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):  # as servers said it before RFC 2554
            keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        if keyword == "AUTH":
            parameters = f"{found.get('AUTH', '')} {parameters.upper()}".strip()
        found[keyword] = parameters.strip()
    return found


def _mechanisms(capabilities: dict[str, str]) -> frozenset[str]:
    return frozenset(capabilities.get("AUTH", "").split())


@functools.cache
def _unverified_context() -> ssl.SSLContext:
    # Only for a target whose owner switched verification off: TLS against listeners, not impostors.
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
