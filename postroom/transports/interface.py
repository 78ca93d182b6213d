"""The seam between the engine and a way out.

The engine composes and decides; a transport only speaks. It opens a `Session` (connected, secured,
logged in), delivers one `Envelope` through it at a time, and reports an `Outcome` with the phase it
reached. It never retries, never touches the database and never raises for what a peer did: trouble
is a value. `Checkpoints` is how the engine hears of the moments that matter before they happen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from postroom.mail.content import Content


class Phase(StrEnum):
    """How far an attempt came; where the trouble was if there was any."""

    CONNECT = "connect"  # name resolution, TCP
    BANNER = "banner"  # 220
    EHLO = "ehlo"
    TLS = "tls"  # STARTTLS and handshake
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # DATA until 354
    BODY = "body"  # begun: first byte of the body was written
    DOT = "dot"  # the final dot was, or may have been, written
    DONE = "done"  # a reply to the final dot was read


class Fault(StrEnum):
    """Whose trouble it is."""

    NONE = "none"
    CONNECTION = "connection"  # refused, timed out, DNS, TLS, 421, 4xx to MAIL: the way out
    LOGIN = "login"  # AUTH was refused (535)
    SENDER = "sender"  # this connection refuses this From
    RECIPIENT = "recipient"  # refused at RCPT
    MESSAGE = "message"  # refused at DATA or after the dot
    OURS = "ours"  # we stopped: lease lost, deadline, shutting down, cannot compose


class Result(StrEnum):
    """How an attempt ended."""

    SENT = "sent"  # 2xx after the final dot was read
    DEFERRED = "deferred"  # try again later by the delivery's own schedule (4xx to RCPT or to the message)
    BOUNCED = "bounced"  # final refusal of this recipient or message (5xx)
    RETURNED = "returned"  # goes back unchanged: the way out or we had trouble before the dot
    UNKNOWN = "unknown"  # the body was complete, or may have been, and no reply was read
    HELD = "held"  # it cannot be composed at all: waits for a person (never a transport's answer)


class Outcome(msgspec.Struct, frozen=True):
    """How one attempt ended.

    `code` is the SMTP reply code or HTTP status (0: none read), `enhanced` like "5.1.1" or "",
    `text` the reply or the cause in clear words, at most 1,000 characters, no line breaks.
    `begun`: 354 was seen and the first byte of the body was written, so it uses room under the caps.
    `session_usable`: the session may carry another message.
    `before_mail_reply`: nothing was answered to MAIL; on a reused session this means it was stale.
    `lacks`: what this peer lacks to carry this message (`core.need`), which another may have.
    `signed`: the DKIM signatures of ours on it, noted by the engine.
    """

    result: Result
    fault: Fault
    phase: Phase
    code: int = 0
    enhanced: str = ""
    text: str = ""
    remote_id: str = ""
    begun: bool = False
    session_usable: bool = True
    before_mail_reply: bool = False
    lacks: str = ""
    signed: str = ""


class StartTls(StrEnum):
    """How a connection is secured."""

    IMPLICIT = "implicit"  # TLS from the first byte (465)
    REQUIRED = "required"  # STARTTLS or nothing
    OFFERED = "offered"  # STARTTLS when the peer offers it
    NEVER = "never"


class AuthMethod(StrEnum):
    """SMTP AUTH mechanisms we speak (RFC 4954, 4616, 2195; LOGIN by custom)."""

    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram_md5"
    AUTO = "auto"  # the first of the above that the peer offers


@dataclass(frozen=True)
class Timeouts:
    """Seconds each wait may take (RFC 5321 4.5.3.2, shortened: we hold sessions, not spools)."""

    connect_s: float = 15.0
    banner_s: float = 30.0
    command_s: float = 30.0  # EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET
    data_s: float = 60.0  # DATA until 354
    body_s: float = 120.0  # each block of the body
    reply_s: float = 300.0  # after the final dot
    quit_s: float = 2.0


@dataclass(frozen=True)
class SmtpTarget:
    """Where and how to log in. `password` never appears in repr."""

    host: str
    port: int
    starttls: StartTls
    auth: AuthMethod | None = None
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    helo_name: str = "localhost"
    timeouts: Timeouts = Timeouts()
    allow_clear_auth: bool = False  # AUTH without TLS to a peer that is not loopback
    verify_tls: bool = True


class Envelope(msgspec.Struct, frozen=True):
    """One message to one recipient.

    `sender` is the envelope sender ("" for the null return path). `content` composes lazily: called
    once per attempt, returns the complete RFC 5322 message with CRLF line ends, not dot-stuffed.
    `utf8`: an address or header needs SMTPUTF8 (RFC 6531). `eight_bit`: the body needs 8BITMIME.
    For APIs: `parts` makes the same message not composed, None where only its bytes say it truly;
    `message_id` with angle brackets; `author`, the address in From; `bulk`, broadcast or sequence mail;
    `reference`, our own name of this delivery, the same at every attempt, letters and digits.
    `signed`: the DKIM signatures of ours on it, each as kind and name of its record, joined by ", ".
    """

    sender: str
    recipient: str
    content: Callable[[], bytes]
    utf8: bool = False
    eight_bit: bool = False
    parts: Callable[[], Content] | None = None
    message_id: str = ""
    author: str = ""
    bulk: bool = False
    reference: str = ""
    signed: str = ""


class Checkpoints(Protocol):
    """What the engine wants to know, and may forbid, before it happens.

    Each is called synchronously right before the step and returns whether to go on; on False the
    transport stops without taking the step and reports RETURNED with fault OURS (after the body has
    begun: it drops the connection without the final dot). Calls are cheap: no I/O beyond one write(2).
    """

    def before_mail(self) -> bool: ...

    def before_data(self) -> bool: ...

    def before_dot(self) -> bool:
        """Right before the bytes that complete the message are handed to the socket."""


class Session(Protocol):
    """One logged-in way out. Not shared: one delivery at a time."""

    async def deliver(self, envelope: Envelope, checkpoints: Checkpoints) -> Outcome:
        """Deliver; never raises for what the peer does. Every wait is finite."""

    async def close(self) -> None:
        """QUIT if that is quick, then close; never raises."""

    def abort(self) -> None:
        """Cut the socket at once: nothing more goes out."""

    @property
    def usable(self) -> bool:
        """False once the session must not carry another message."""

    @property
    def deliveries(self) -> int:
        """Deliveries tried on this session so far."""


class OpenFailed(Exception):
    """A session could not be opened; `outcome` says phase, fault, code and text."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.text)


class Transport(Protocol):
    """Opens sessions to one connection's peer."""

    async def open(self) -> Session:
        """Connect, secure, log in. Raises OpenFailed."""


@dataclass(frozen=True)
class Quota:
    """What a vendor allows an account by itself, whoever sends through it. None: no limit, or not said."""

    per_day: int | None = None  # in any 24 hours
    used: int = 0  # of `per_day`
    per_second: float | None = None


class Checked(msgspec.Struct, frozen=True):
    """What a harmless read showed. `outcome`: SENT when the account may send, else what stands against it."""

    outcome: Outcome
    quota: Quota | None = None


@runtime_checkable
class Account(Protocol):
    """A transport whose peer tells about the account that sends."""

    async def check(self) -> Checked:
        """Ask now. Never raises for what the peer does."""

    @property
    def quota(self) -> Quota | None:
        """What it said last; None: nothing yet."""


@dataclass(frozen=True)
class Found:
    """The vendor has taken this delivery. `remote_id`: what it calls it."""

    remote_id: str


@runtime_checkable
class Finder(Protocol):
    """A transport whose peer can be asked whether it took a delivery."""

    async def find(self, reference: str, *, bulk: bool) -> Found | None:
        """Ask for an `Envelope.reference`; None: it has not, or does not say so now. Never raises."""
