"""The test inbox: an SMTP server on loopback that takes any mail and shows it instead of sending it.

Developers point their program at it and read what arrived. It accepts every sender, recipient and
login, and answers 250 only after the mail lies durably in its folder (`inbox_folder`). Nothing here
reaches the engine or the database.

The dialogue and its bounds are those of all our listeners (`smtp_session`).
"""

from __future__ import annotations

import asyncio
import math
import socket
import sys
from pathlib import Path

from aiosmtpd.smtp import Envelope

from postroom.accepting import Share
from postroom.clock import Clock, SystemClock
from postroom.errors import Invalid
from postroom.inbound import sasl
from postroom.inbound.inbox_folder import InboxFolder, InboxMail, list_mails, read_mail
from postroom.inbound.loopback import open_socket, require_loopback
from postroom.inbound.smtp_server import SessionLimits, SmtpServer, TlsSource
from postroom.inbound.smtp_session import SmtpSession
from postroom.logs import Trouble, logger

__all__ = ["Inbox", "InboxMail", "list_mails", "open_socket", "read_mail"]

SIZE_LIMIT_BYTES = 26 * 1024 * 1024
MAX_RECIPIENTS = 1000

log = logger("inbound")


class Inbox(SmtpServer):
    """The server. `folder` is made if missing; one Inbox at a time may use it.

    idle_s: how long a session may take for one command, a whole message included. memory_bytes: what
    all sessions together may hold of unfinished messages; above it they are told to try again.
    fsync=False keeps mail over a crash of this process, not over one of the machine.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 1000,
        *,
        size_limit_bytes: int = SIZE_LIMIT_BYTES,
        max_sessions: int = 100,
        idle_s: float = 300.0,
        memory_bytes: int = 128 * 1024 * 1024,
        fsync: bool = True,
        clock: Clock | None = None,
    ) -> None:
        if keep < 1:
            raise Invalid("inbox_keep", "must be at least 1")
        limits = SessionLimits(
            max_sessions=max_sessions,
            sessions_per_address=max_sessions,
            memory_bytes=memory_bytes,
            login_s=idle_s,
            idle_s=idle_s,
            data_s=idle_s,
            session_s=math.inf,
            unknown_commands=5,
            idle_commands=200,
            messages_per_session=sys.maxsize,  # a developer's program may send all day on one session
        )
        super().__init__(limits, size_limit_bytes, ident="Postroom test inbox")
        self.folder = InboxFolder(folder, keep, fsync)
        self.clock = clock or SystemClock()
        self.trouble = Trouble(log)

    def new_session(self) -> InboxSession:
        return InboxSession(self)

    async def start(
        self, listener: socket.socket, implicit_tls: TlsSource | None = None, share: Share | None = None
    ) -> None:
        """Serve on a bound TCP socket, which is ours from now on.

        Raises Invalid when it is not bound to a loopback address (any login is accepted here),
        Conflict when another inbox uses the folder, Unavailable when the folder cannot be used.
        """
        try:
            address = listener.getsockname()
            require_loopback(str(address[0]) if isinstance(address, tuple) else "a Unix socket")
            await asyncio.to_thread(self.folder.open)
        except BaseException:
            listener.close()
            raise
        try:
            await super().start(listener, implicit_tls, share)
        except BaseException:
            self.folder.close()
            raise

    async def stop(self) -> None:
        """Stop listening; a mail being stored is still stored and answered. Safe to call twice."""
        await super().stop()
        await asyncio.to_thread(self.folder.close)


class InboxSession(SmtpSession):
    """One session of the inbox: everything is welcome."""

    too_many_unknown = "502 5.5.1 Too many unknown commands"

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(inbox)
        self.inbox = inbox

    async def log_in(self, login: sasl.Login) -> str:
        return "235 2.7.0 Any login is right here"

    def refuse_recipient(self, address: str, envelope: Envelope) -> str:
        if address not in envelope.rcpt_tos:
            if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
                return "452 4.5.3 Too many recipients"
            envelope.rcpt_tos.append(address)
        return ""

    async def store(self, envelope: Envelope, content: bytes) -> str:
        facts: dict[str, object] = {
            "sender": envelope.mail_from if envelope.mail_from != "<>" else "",
            "recipients": envelope.rcpt_tos,
            "received_at_us": self.inbox.clock.now_us(),
        }
        try:
            number = await asyncio.to_thread(self.inbox.folder.add, facts, content)
        except OSError as error:
            self.inbox.trouble.met("the inbox cannot store a mail", error=error.strerror or str(error))
            return "452 4.3.1 The mail cannot be stored now"
        self.inbox.trouble.over("the inbox stores mail again")
        return f"250 2.0.0 Stored as {number}"
