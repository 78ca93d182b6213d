"""One logged-in SMTP session: deliver envelopes, one at a time, with the exact phase of every ending.

Follows RFC 5321 with PIPELINING (2920), SIZE (1870), 8BITMIME (6152) and SMTPUTF8 (6531). With
PIPELINING, MAIL, RCPT and DATA go out in one write. If the peer then answers 354 although it refused
the recipient, RFC 2920 3.1 has the client send an empty message; we cut the connection instead, so
that nothing can ever be taken for a message. The end of the body, from the last block on, is held
back until `before_dot` has said yes, and goes out together with the final dot.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from msgspec.structs import replace

from postroom.core import need
from postroom.transports import smtp_outcomes as outcomes
from postroom.transports.interface import Checkpoints, Envelope, Outcome, Phase, SmtpTarget
from postroom.transports.smtp_login import redact
from postroom.transports.smtp_reply import Reply
from postroom.transports.smtp_wire import Wire, WireTrouble

log = logging.getLogger(__name__)

BLOCK_BYTES = 65536
# What would end the address, the command or the line early. A quoted local part may hold the rest.
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PATH = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s<>"]+)(?:@[^\s<>"]+)?')


class _Step:
    """Where an attempt is."""

    __slots__ = ("begun", "phase", "unanswered")

    def __init__(self) -> None:
        self.phase = Phase.MAIL
        self.begun = False
        self.unanswered = True  # nothing was answered to MAIL


class SmtpSession:
    """Implements `interface.Session` over a `Wire` that is connected, secured and logged in."""

    def __init__(self, wire: Wire, target: SmtpTarget, capabilities: Mapping[str, str]) -> None:
        """capabilities: the EHLO keywords that hold now, upper case, with their parameters."""
        self._wire = wire
        self._target = target
        self._timeouts = target.timeouts
        self._pipelining = "PIPELINING" in capabilities
        self._eight_bit = "8BITMIME" in capabilities
        self._utf8 = "SMTPUTF8" in capabilities
        self._size = "SIZE" in capabilities
        limit = capabilities.get("SIZE", "")
        self._most_bytes = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 20 else 0
        self._deliveries = 0
        self._dirty = False  # a transaction failed: RSET before the next
        self._spent = False  # told, or decided, to carry nothing more
        self._busy = False

    def __repr__(self) -> str:
        return f"SmtpSession({self._target.host}:{self._target.port}, {self._deliveries} deliveries)"

    @property
    def usable(self) -> bool:
        return not self._spent and self._wire.alive and (self._busy or self._wire.quiet)

    @property
    def deliveries(self) -> int:
        return self._deliveries

    @property
    def tls_version(self) -> str:
        """Like "TLSv1.3", or "" for clear text."""
        return self._wire.tls_version

    async def deliver(self, envelope: Envelope, checkpoints: Checkpoints) -> Outcome:
        if self._busy:
            raise RuntimeError("a session carries one delivery at a time")
        self._deliveries += 1
        if self._spent:
            return outcomes.trouble("the session is spent", Phase.MAIL, unanswered=True)
        self._busy = True
        try:
            outcome = await self._deliver(envelope, checkpoints)
        except BaseException:
            # Cancelled, or a checkpoint failed: where the conversation stands is not known any more.
            self.abort()
            raise
        finally:
            self._busy = False
        if not outcome.session_usable:
            self._spent = True
            self._wire.abort()
        text = redact(outcome.text, self._target)
        return outcome if text == outcome.text else replace(outcome, text=text)

    async def close(self) -> None:
        quit_s = self._timeouts.quit_s
        try:
            if self.usable and not self._busy:
                self._spent = True
                self._wire.send(b"QUIT\r\n", 1)
                await self._wire.reply(quit_s)
        except WireTrouble:
            pass
        except BaseException:
            self._wire.abort()
            raise
        finally:
            self._spent = True
        await self._wire.close(quit_s)

    def abort(self) -> None:
        self._spent = True
        self._wire.abort()

    async def _deliver(self, envelope: Envelope, checkpoints: Checkpoints) -> Outcome:
        try:
            content = envelope.content()
        except Exception as error:
            log.exception("a message could not be composed")
            return outcomes.stopped(f"the message could not be composed ({type(error).__name__})", Phase.MAIL)
        step = _Step()
        commands = self._commands(envelope, content)
        if isinstance(commands, Outcome):
            return commands
        try:
            return await self._transact(*commands, content, checkpoints, step)
        except WireTrouble as trouble:
            return self._troubled(trouble, step)

    def _commands(self, envelope: Envelope, content: bytes) -> tuple[bytes, bytes] | Outcome:
        """The MAIL and RCPT lines, or why this peer cannot carry this message."""
        sender, recipient = envelope.sender, envelope.recipient
        for address in (sender or "null", recipient):
            if not _PATH.fullmatch(address) or _UNSPEAKABLE.search(address):
                return outcomes.cannot_carry("an address of the envelope cannot be written in SMTP", "5.1.3")
        if content.replace(b"\r", b"").replace(b"\n", b"\r\n") != content:  # 5 us; counting takes 20
            # Peers disagree on what a lone CR or LF before a dot ends: that is how mail is smuggled.
            return outcomes.cannot_carry("the message has a line end that is not CRLF", "5.6.0")
        parameters = f" SIZE={len(content)}" if self._size else ""
        if self._most_bytes and len(content) > self._most_bytes:
            text = f"the message has {len(content)} bytes, the server takes at most {self._most_bytes}"
            return outcomes.cannot_carry(text, "5.3.4", need.larger_than(self._most_bytes))
        if envelope.eight_bit or not content.isascii():
            if not self._eight_bit:
                text = "the message needs 8BITMIME, which the server lacks"
                return outcomes.cannot_carry(text, "5.6.3", need.EIGHT_BIT)
            parameters += " BODY=8BITMIME"
        if envelope.utf8 or not (sender.isascii() and recipient.isascii()):
            if not self._utf8:
                text = "the message needs SMTPUTF8, which the server lacks"
                return outcomes.cannot_carry(text, "5.6.7", need.SMTPUTF8)
            parameters += " SMTPUTF8"
        return f"MAIL FROM:<{sender}>{parameters}\r\n".encode(), f"RCPT TO:<{recipient}>\r\n".encode()

    async def _transact(
        self, mail: bytes, rcpt: bytes, content: bytes, checkpoints: Checkpoints, step: _Step
    ) -> Outcome:
        wire = self._wire
        wire.check()
        if not self._pipelining:
            return await self._step_by_step(mail, rcpt, content, checkpoints, step)
        if not checkpoints.before_mail():
            return outcomes.stopped("stopped before MAIL", Phase.MAIL)
        if not checkpoints.before_data():
            return outcomes.stopped("stopped before DATA", Phase.DATA)
        if self._dirty:
            wire.send(b"RSET\r\n" + mail + rcpt + b"DATA\r\n", 4)
            if refusal := self._at_reset(await wire.reply(self._timeouts.command_s)):
                return refusal
        else:
            wire.send(mail + rcpt + b"DATA\r\n", 3)
        self._dirty = True
        reply = await wire.reply(self._timeouts.command_s)
        step.unanswered = False
        if refusal := outcomes.at_mail(reply):
            return await self._skip_answers(refusal)
        step.phase = Phase.RCPT
        if refusal := outcomes.at_rcpt(await wire.reply(self._timeouts.command_s)):
            return await self._skip_answers(refusal)
        step.phase = Phase.DATA
        if refusal := outcomes.at_data(await wire.reply(self._timeouts.data_s)):
            return refusal
        return await self._send_content(content, checkpoints, step)

    async def _step_by_step(
        self, mail: bytes, rcpt: bytes, content: bytes, checkpoints: Checkpoints, step: _Step
    ) -> Outcome:
        """The same without PIPELINING."""
        wire, command_s = self._wire, self._timeouts.command_s
        if self._dirty:
            wire.send(b"RSET\r\n", 1)
            if refusal := self._at_reset(await wire.reply(command_s)):
                return refusal
            self._dirty = False
        if not checkpoints.before_mail():
            return outcomes.stopped("stopped before MAIL", Phase.MAIL)
        wire.send(mail, 1)
        self._dirty = True
        reply = await wire.reply(command_s)
        step.unanswered = False
        if refusal := outcomes.at_mail(reply):
            return refusal
        step.phase = Phase.RCPT
        wire.send(rcpt, 1)
        if refusal := outcomes.at_rcpt(await wire.reply(command_s)):
            return refusal
        step.phase = Phase.DATA
        if not checkpoints.before_data():
            return outcomes.stopped("stopped before DATA", Phase.DATA)
        wire.send(b"DATA\r\n", 1)
        if refusal := outcomes.at_data(await wire.reply(self._timeouts.data_s)):
            return refusal
        return await self._send_content(content, checkpoints, step)

    def _at_reset(self, reply: Reply) -> Outcome | None:
        if reply.kind == 2:
            return None
        text = f"the server did not reset: {reply.code} {reply.text}"
        return outcomes.trouble(text, Phase.MAIL, unanswered=True)

    async def _skip_answers(self, refusal: Outcome) -> Outcome:
        """Read what is still owed after a refusal in a pipelined group; `refusal` stands whatever comes."""
        wire = self._wire
        usable = refusal.session_usable
        try:
            while usable and wire.owed:
                reply = await wire.reply(self._timeouts.command_s)
                # 354 with nobody to send to: only cutting the connection is sure to send nothing.
                usable = reply.kind in (4, 5) or (reply.kind == 2 and wire.owed > 0)
                usable = usable and reply.code != outcomes.CLOSING
        except WireTrouble:
            usable = False
        return replace(refusal, session_usable=usable)

    async def _send_content(self, content: bytes, checkpoints: Checkpoints, step: _Step) -> Outcome:
        wire = self._wire
        stuffed = dot_stuff(content)
        wire.check()
        step.phase = Phase.BODY
        step.begun = True
        start = 0
        if len(stuffed) > BLOCK_BYTES:
            view = memoryview(stuffed)
            while len(stuffed) - start > BLOCK_BYTES:
                wire.send(view[start : start + BLOCK_BYTES], 0)
                start += BLOCK_BYTES
                await wire.drain(self._timeouts.body_s)
        if not checkpoints.before_dot():
            wire.abort()
            return outcomes.stopped("stopped before the final dot", Phase.BODY, begun=True, usable=False)
        last = (stuffed[start:] if start else stuffed) + b".\r\n"
        wire.check()
        step.phase = Phase.DOT
        wire.send(last, 1)
        reply = await wire.reply(self._timeouts.reply_s)
        outcome = outcomes.after_dot(reply)
        self._dirty = reply.kind != 2
        return outcome

    def _troubled(self, trouble: WireTrouble, step: _Step) -> Outcome:
        reply = trouble.reply
        if reply is not None and step.phase is Phase.BODY:
            return outcomes.in_body(reply)
        if reply is not None and reply.code == outcomes.CLOSING:
            # Servers say this to an idle session before they close it.
            closing = outcomes.connection(reply, step.phase, begun=step.begun)
            return replace(closing, before_mail_reply=step.unanswered)
        text = f"{trouble.text}: {reply.code} {reply.text}" if reply else trouble.text
        return outcomes.trouble(
            text,
            step.phase,
            begun=step.begun,
            unanswered=step.unanswered,
            ours=self._wire.aborted,
        )


def dot_stuff(content: bytes) -> bytes:
    """A message with CRLF line ends, made transparent (RFC 5321 4.5.2) and ending in CRLF; no final dot."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed if stuffed.endswith(b"\r\n") or not stuffed else stuffed + b"\r\n"
