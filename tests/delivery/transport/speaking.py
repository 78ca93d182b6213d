"""Shorthand for the transport tests: targets, envelopes, checkpoints, one delivery from start to end."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from postroom.transports.dialer import Dialer
from postroom.transports.interface import Envelope, Outcome, SmtpTarget, StartTls, Timeouts
from postroom.transports.smtp import SmtpSession, SmtpTransport
from tests.support.scripted_smtp import ScriptedServer

PATIENT = Timeouts(
    connect_s=5, banner_s=5, command_s=5, data_s=5, body_s=5, reply_s=5, quit_s=1
)  # long enough never to be met
HASTY = Timeouts(connect_s=2, banner_s=0.2, command_s=0.2, data_s=0.2, body_s=0.2, reply_s=0.2, quit_s=0.1)

MESSAGE = b"From: a@here.test\r\nTo: b@there.test\r\nSubject: Hello\r\n\r\nHello.\r\n"


class Checks:
    """Checkpoints that note what was asked, and say no from `stop_at` on."""

    def __init__(self, stop_at: str = "", then: Callable[[str], None] | None = None) -> None:
        self.asked: list[str] = []
        self._stop_at = stop_at
        self._then = then

    def _ask(self, name: str) -> bool:
        self.asked.append(name)
        if self._then:
            self._then(name)
        return name != self._stop_at

    def before_mail(self) -> bool:
        return self._ask("mail")

    def before_data(self) -> bool:
        return self._ask("data")

    def before_dot(self) -> bool:
        return self._ask("dot")


def envelope(content: bytes = MESSAGE, **changes: Any) -> Envelope:
    """An ordinary one. `changes` are fields of Envelope, of whatever type they have there."""
    fields: dict[str, Any] = {"sender": "a@here.test", "recipient": "b@there.test", **changes}
    return Envelope(content=lambda: content, **fields)


def target(server: ScriptedServer, **changes: Any) -> SmtpTarget:
    """The scripted server as a target. `changes` are fields of SmtpTarget, of the types they have there."""
    fields: dict[str, Any] = {
        "host": "localhost" if server.tls else server.host,
        "port": server.port,
        "starttls": StartTls.NEVER,
        "helo_name": "client.test",
        "timeouts": PATIENT,
        **changes,
    }
    return SmtpTarget(**fields)


def transport(
    server: ScriptedServer, *, context: ssl.SSLContext | None = None, **changes: Any
) -> SmtpTransport:
    """A transport to the scripted server; `changes` as for `target`."""

    async def resolve(host: str, port: int) -> list[str]:
        return [server.host]

    return SmtpTransport(target(server, **changes), Dialer(resolver=resolve), ssl_context=context)


async def open_session(server: ScriptedServer, **changes: Any) -> SmtpSession:
    return await transport(server, **changes).open()


async def deliver(
    server: ScriptedServer,
    what: Envelope | None = None,
    checks: Checks | None = None,
    **changes: Any,
) -> tuple[Outcome, SmtpSession]:
    """Open, deliver one envelope, close. The session comes back for questions about its end."""
    session = await open_session(server, **changes)
    try:
        outcome = await session.deliver(what or envelope(), checks or Checks())
        usable = session.usable
    finally:
        await session.close()
    assert usable == outcome.session_usable, "session and outcome disagree"
    return outcome, session
