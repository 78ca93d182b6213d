"""One SMTP session of ours: the dialogue, in bounds, with TLS, AUTH and codes in its replies.

The dialogue is aiosmtpd's (RFC 5321, 6152, 6531, 2920); the connection (`smtp_connection`), AUTH (RFC 4954),
the body (`smtp_body`) and what is offered are ours. What is different from aiosmtpd, and why: it keeps a line
without an end in memory however long it grows, shares its command limits among all listeners, asks DNS for
its own name at each connection, logs unknown commands (after a refused AUTH that is a password), and bounds
neither sessions nor the time of a body. Subclasses say who may log in and where mail goes.
"""

from __future__ import annotations

import asyncio
import logging
import re

from aiosmtpd.smtp import Envelope, Session

from postroom.inbound import sasl
from postroom.inbound.smtp_body import Body
from postroom.inbound.smtp_connection import Command, SmtpConnection
from postroom.inbound.smtp_server import SmtpServer

_MAIL_COMMANDS = frozenset({"MAIL", "RCPT", "DATA"})
_PATH = re.compile(r'(?:<((?:[^<>"]|"(?:[^"\\]|\\.)*")*)>|([^\s<>"]+))(?: +(.*))?', re.DOTALL)
_AUTH_PARAMETER = re.compile(r"(?i)(?<!\S)AUTH=\S*")
_SIZE = re.compile(r"(?i)(?:^|\s)SIZE(?!=[0-9]{1,20}(?:\s|$))")

log = logging.getLogger(__name__)


class _Hooks:
    """Where aiosmtpd hands over what it has read of MAIL and RCPT."""

    async def handle_MAIL(
        self, server: SmtpSession, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if refusal := unfit(address, envelope) or server.refuse_sender(address, envelope):
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: SmtpSession, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if refusal := unfit(address, envelope):
            return refusal
        if address == "<>":
            return "501 5.1.3 A recipient is needed"
        return server.refuse_recipient(address, envelope) or "250 2.1.5 OK"


_HOOKS = _Hooks()


class SmtpSession(SmtpConnection):
    """One peer. Subclasses say who may log in and what becomes of addresses and messages."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    too_many_unknown = "421 4.7.0 Too many unknown commands"

    def __init__(self, server: SmtpServer) -> None:
        self._unknown = self._idle = self._messages = 0
        super().__init__(server, _HOOKS)
        self._began_s = self.loop.time()

    # What subclasses decide

    def refuse_login(self) -> str:
        """The reply to AUTH while this session may not log in, or ""; AUTH is offered only with ""."""
        return ""

    async def log_in(self, login: sasl.Login) -> str:
        """The reply to a login: 235 lets it in, 421 ends the session."""
        raise NotImplementedError

    def refuse_sender(self, address: str, envelope: Envelope) -> str:
        """The reply that refuses this MAIL FROM ("<>": the null sender), or ""."""
        return ""

    def refuse_recipient(self, address: str, envelope: Envelope) -> str:
        """Take the recipient into the envelope; or the reply that refuses it."""
        raise NotImplementedError

    def refuse_data(self) -> str:
        """The reply that refuses DATA now, or ""."""
        return ""

    async def store(self, envelope: Envelope, content: bytes) -> str:
        """Take the message, durably; the reply. Runs to its end even if the peer leaves."""
        raise NotImplementedError

    # Commands

    async def run_command(self, name: str, method: Command | None, arg: str | None) -> None:
        """Every command passes here, known or not."""
        limits = self.server.limits
        self.unheard_bytes = 0
        if method is None:
            self._unknown += 1
            if self._unknown >= limits.unknown_commands:
                await self.end(self.too_many_unknown)
            else:
                await self.push("500 5.5.1 That command is not known here")
            return
        if name != "QUIT" and self._is_too_old():
            await self.end(f"421 4.7.0 This session is older than {limits.session_s:g} s, connect again")
            return
        if name != "QUIT" and (name not in _MAIL_COMMANDS or self.refuse_data()):
            self._idle += 1
            if self._idle > limits.idle_commands:
                await self.end(f"421 4.7.0 {name} sent too many times")
                return
        await method(arg)

    def _is_too_old(self) -> bool:
        """Whether it takes nothing more; a transaction that was begun in time gets the time of a message."""
        limits = self.server.limits
        over_s = self.loop.time() - self._began_s - limits.session_s
        begun = self.envelope is not None and self.envelope.mail_from
        return over_s > (limits.data_s if begun else 0.0)

    async def smtp_EHLO(self, hostname: str | None) -> None:
        if not hostname:
            await self.push("501 5.5.4 EHLO needs a host name")
            return
        assert self.session is not None
        self.reset_transaction()
        self.session.extended_smtp = True
        self.session.host_name = hostname
        lines = [self.hostname, f"SIZE {self.server.size_limit_bytes}", "8BITMIME", "SMTPUTF8"]
        lines += ["PIPELINING", "ENHANCEDSTATUSCODES"]
        if self.server.tls is not None and not self.secure:
            lines.append("STARTTLS")
        if not self.refuse_login():
            lines.append(" ".join(("AUTH", *self.mechanisms)))
        reply = "".join(f"250-{line}\r\n" for line in lines) + "250 HELP\r\n"
        await self.write(reply.encode("ascii"))

    async def smtp_HELP(self, arg: str | None) -> None:
        await self.push("214 2.0.0 See RFC 5321; EHLO tells what is offered here")

    async def smtp_VRFY(self, arg: str | None) -> None:
        await self.push("252 2.5.2 Addresses are not verified here; send the message")

    async def smtp_EXPN(self, arg: str | None) -> None:
        await self.push("502 5.5.1 Lists are not shown here")

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        if arg:
            await self.push("501 5.5.4 STARTTLS takes no argument")
        elif self.secure:
            await self.push("503 5.5.1 TLS is in use already")
        elif self.server.tls is None:
            await self.push("454 4.7.0 TLS is not available")
        elif self._reader._buffer:  # type: ignore[attr-defined]  # it cannot be asked otherwise
            # RFC 3207 6: what stands in clear text after STARTTLS may be somebody else's.
            await self.end("554 5.5.1 Nothing may follow STARTTLS before the handshake")
        else:
            await self.begin_tls()

    async def smtp_AUTH(self, arg: str | None) -> None:
        assert self.session is not None
        assert self.envelope is not None
        words = (arg or "").split()
        if not self.session.extended_smtp:
            await self.push("503 5.5.1 Send EHLO first")
        elif refusal := self.refuse_login():
            await self.push(refusal)
        elif self.session.authenticated or self.envelope.mail_from:
            await self.push("503 5.5.1 AUTH is not allowed now")
        elif not 1 <= len(words) <= 2:
            await self.push("501 5.5.4 AUTH needs a mechanism and at most one initial response")
        elif (mechanism := words[0].upper()) not in self.mechanisms:  # RFC 4954 4: in any case
            await self.push("504 5.5.4 That mechanism is not offered here")
        else:
            await self._log_in(mechanism, words[1] if len(words) > 1 else None)

    async def _log_in(self, mechanism: str, initial: str | None) -> None:
        try:
            login = await sasl.exchange(mechanism, initial, self._ask, self.hostname)
        except sasl.Malformed as error:
            await self.push(error.reply)
            return
        reply = await self.log_in(login)
        assert self.session is not None
        if reply.startswith("235"):
            self.session.authenticated = True
            self._timeout_duration = self.server.limits.idle_s
            self._reset_timeout()
        if reply.startswith("421"):
            await self.end(reply)
        else:
            await self.push(reply)

    async def _ask(self, challenge: str) -> bytes | None:
        """The line that answers a challenge; None when it is too long."""
        await self.push("334 " + challenge)
        too_long = False
        while True:
            try:
                line: bytes = await self._reader.readuntil()
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(error.consumed)
                too_long = True
            else:
                return None if too_long or len(line) > sasl.MAX_LINE else line.rstrip(b"\r\n")

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        # Not the standard library's parser: it undoes quotes and comments and follows source routes.
        found = _PATH.fullmatch(arg)
        if found is None:
            return None, None
        path = found[1] if found[1] is not None else found[2]
        return path or "<>", found[3] or ""

    async def smtp_MAIL(self, arg: str | None) -> None:
        if self._messages >= self.server.limits.messages_per_session:
            most = self.server.limits.messages_per_session
            await self.end(f"421 4.7.0 This session has sent {most} messages, the most it may; connect again")
            return
        if arg is not None:
            address, bracket, options = arg.partition("> ")
            if _SIZE.search(options):
                await self.push("501 5.5.4 SIZE must be a number")
                return
            # RFC 4954 5: who offers AUTH must take AUTH= of MAIL, and may ignore it.
            arg = address + bracket + _AUTH_PARAMETER.sub("", options)
        await super().smtp_MAIL(arg)

    async def smtp_DATA(self, arg: str | None) -> None:
        if await self.check_helo_needed():
            return
        assert self.envelope is not None
        if refusal := self.refuse_data():
            await self.push(refusal)
        elif not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Need RCPT first")
        elif arg:
            await self.push("501 5.5.4 DATA takes no argument")
        else:
            await self._take_message()

    async def _take_message(self) -> None:
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        self._reset_timeout(self.server.limits.data_s)
        self._messages += 1
        body = Body(self.server, self.server.size_limit_bytes, self.server.limits.memory_bytes)
        self.reading_body = True
        try:
            reply = await body.read(self._reader)
        except BaseException:
            body.release()
            raise
        finally:
            self.reading_body = False
            self.unheard_bytes = 0
        envelope = self.envelope
        assert envelope is not None
        self.envelope = self._create_envelope()
        if reply:
            body.release()
        else:
            reply = await self._run_store(envelope, body)
        self._idle = 0
        self._reset_timeout()
        await self.push(reply)
        if self.server.stopping:
            self.dismiss("421 4.3.2 The server is shutting down")

    async def _run_store(self, envelope: Envelope, body: Body) -> str:
        async def run() -> str:
            try:
                return await self.store(envelope, body.content)
            except Exception:
                log.exception("a message could not be stored")
                return "451 4.3.0 The message could not be stored, try again"
            finally:
                body.release()

        task = self.server.start_task(run())
        self.storing = True
        try:
            reply: str = await asyncio.shield(task)
        finally:
            self.storing = False
        return reply


def unfit(address: str, envelope: Envelope) -> str:
    """The reply that refuses the text of an address as such, or ""."""
    if any(not char.isprintable() for char in address):  # control characters, undecodable bytes
        return "501 5.1.3 The address holds characters that are not allowed"
    if not address.isascii() and not envelope.smtp_utf8:
        return "553 5.6.7 A non-ASCII address needs SMTPUTF8 (RFC 6531)"
    return ""
