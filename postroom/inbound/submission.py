"""SMTP submission: our clients' programs hand in mail with a server key (RFC 6409).

User name and password are both a key of one server (its `transactionals_write` scope is needed). The
250 comes after the message is durably accepted. The header's one From decides whose mail it is and its
identity must be proven; MAIL FROM is read and kept but decides nothing, because the envelope sender of what
leaves is the engine's own. A client that lost our 250 and tries again sends a second message: over SMTP
nothing tells the two apart that a client could be held to. Who logs in with a key as user name and as
password speaks to us as to the product whose servers want it so: a `TokenWay` takes that mail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aiosmtpd.smtp import Envelope, Session

from postroom.actions.accept import accept_message
from postroom.actions.context import Context
from postroom.actions.keys import authenticate
from postroom.actions.server_secrets import is_shown
from postroom.actions.servers import get_server
from postroom.actions.submission import Submission
from postroom.core.key import Key, Scope, fold, looks_like_key
from postroom.core.server import Owner
from postroom.errors import (
    Conflict,
    Denied,
    Invalid,
    Limited,
    NotFound,
    PostroomError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from postroom.ids import ServerId
from postroom.inbound.login_guard import LoginGuard
from postroom.inbound.sasl import Login
from postroom.inbound.smtp_server import SessionLimits, SmtpServer, TlsSource
from postroom.inbound.smtp_session import SmtpSession
from postroom.inbound.submitted import Looping, read_submission
from postroom.mail.address import Address, parse_address
from postroom.mail.trace import Arrival
from postroom.peers import is_loopback
from postroom.secret import Secret

SCOPE = Scope.TRANSACTIONALS_WRITE

_WRONG = "535 5.7.8 The user name or password is wrong; both are a key of your server"
_WRONG_TOO_OFTEN = "421 4.7.0 Too many failed logins from your address, try again later"
_ACCOUNT_KEY = "535 5.7.8 This is an account key; SMTP needs the key of one server, whose mail it is"
_NO_SCOPE = f"535 5.7.8 This key lacks the scope {SCOPE.value}"
_SWITCHED_OFF = "535 5.7.8 Submission by SMTP is switched off for this server"
_LATER = "454 4.7.0 Logins cannot be checked now, try again"
_ENCRYPT = "538 5.7.11 A login needs encryption here: use STARTTLS first"
_LOGIN_FIRST = "530 5.7.0 Log in first"

# What we tell a client for each of our errors. A subclass stands before its base.
_CODES: tuple[tuple[type[PostroomError], str], ...] = (
    (Looping, "554 5.4.6"),
    (Invalid, "554 5.6.0"),
    (Unauthenticated, "550 5.7.1"),
    (Denied, "550 5.7.1"),
    (NotFound, "550 5.7.1"),
    (TooLarge, "552 5.3.4"),
    (Limited, "450 4.7.0"),
    (Conflict, "451 4.3.0"),
    (Unavailable, "451 4.3.0"),
    (PostroomError, "451 4.3.0"),
)
_CODES_OF_FIELDS = {"purpose": "554 5.7.1", "to": "550 5.1.3", "cc": "550 5.1.3", "bcc": "550 5.1.3"}
_FIELDS = ("from", "subject")  # what may be wrong with a message that is one all the same

log = logging.getLogger(__name__)


class ClearAuth(StrEnum):
    """Who may log in without TLS."""

    NEVER = "never"
    LOOPBACK = "loopback"  # peers on this machine
    ALWAYS = "always"  # everybody: a network that nobody listens on


@dataclass(frozen=True)
class LoginLimits:
    """How failed logins are answered. refusal_s: after so long, whatever was wrong.

    After `failures` of one address within `failures_within_s` a wrong one takes slow_s and ends the session.
    """

    refusal_s: float = 0.5
    slow_s: float = 5.0
    failures: int = 10
    failures_within_s: float = 600.0


class TokenWay(Protocol):
    """How mail is taken of who logged in with a key as user name and as password."""

    async def accept(self, ctx: Context, key: Key, submission: Submission, *, shown: bool) -> str:
        """Accept the message; its public id. Raises PostroomError for what is refused at once.

        shown: the key is one that its product's API shows, so that its program expects the product's conduct.
        """

    async def refuse(self, ctx: Context, key: Key, recipients: Sequence[str], error: Invalid) -> str:
        """Take note of a message whose From or Subject cannot be read, of a key that is shown; its public id.

        Its program is told yes. Raises PostroomError.
        """


class SubmissionServer(SmtpServer):
    """The server. tls: for STARTTLS, offered if it is given.

    token_way: takes the mail of logins by a key alone, else it is taken like all other. instance: this
    installation's own name, by which it knows mail that comes round. tell_client: whether the Received field
    says where the client is.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        tls: TlsSource | None = None,
        clear_auth: ClearAuth = ClearAuth.LOOPBACK,
        host_name: str = "localhost",
        instance: str = "",
        tell_client: bool = False,
        limits: SessionLimits | None = None,
        logins: LoginLimits | None = None,
        token_way: TokenWay | None = None,
    ) -> None:
        super().__init__(
            limits or SessionLimits(),
            ctx.limits.max_message_bytes,
            host_name=host_name,
            ident="Postroom",
            tls=tls,
        )
        self.ctx, self.clear_auth = ctx, clear_auth
        self.instance, self.tell_client = instance, tell_client
        self.logins = logins or LoginLimits()
        self.guard = LoginGuard(ctx.clock, self.logins.failures, self.logins.failures_within_s)
        self.max_recipients = ctx.limits.max_recipients
        self.token_way = token_way

    def new_session(self) -> SubmissionSession:
        return SubmissionSession(self)


@dataclass(frozen=True)
class _Grant:
    """A login that was right: the key, its text to look it up again, and its server.

    by_token: the key was the user name, too. shown: it is one that an API shows.
    """

    key: Key
    text: Secret
    server_id: ServerId
    by_token: bool
    shown: bool


class _Login(Session):
    """What is known of the peer; a new one after STARTTLS, so that nothing of it lives on."""

    grant: _Grant | None = None


class _Mail(Envelope):
    """One transaction: recipients by compare key, in the order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.recipients: dict[str, Address] = {}


class SubmissionSession(SmtpSession):
    """One client."""

    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5")

    def __init__(self, submission: SubmissionServer) -> None:
        super().__init__(submission)
        self.submission = submission
        self._auth_required = True  # aiosmtpd then answers 530 before AUTH

    def _create_session(self) -> Session:
        return _Login(self.loop)

    def _create_envelope(self) -> Envelope:
        return _Mail()

    def _grant(self) -> _Grant | None:
        return self.session.grant if isinstance(self.session, _Login) else None

    # Who may log in

    def refuse_login(self) -> str:
        policy = self.submission.clear_auth
        if self.secure or policy is ClearAuth.ALWAYS:
            return ""
        if policy is ClearAuth.LOOPBACK and is_loopback(self.address):
            return ""
        return _ENCRYPT

    async def log_in(self, login: Login) -> str:
        started_s = self.loop.time()
        text = key_text(login)
        try:
            key = await authenticate(self.submission.ctx, text, self.address)
        except Unauthenticated:
            return await self._wrong(login, started_s)
        except Unavailable:
            return _LATER
        if key.server_id is None:
            return _ACCOUNT_KEY
        if not key.may(SCOPE):
            return _NO_SCOPE
        try:
            server = await get_server(
                self.submission.ctx, Owner(key.account_id, key.server_id), key.server_id
            )
            by_token = fold(login.user) == fold(text)
            shown = by_token and await is_shown(self.submission.ctx, key)
        except Unavailable:
            return _LATER
        except NotFound:  # deleted a moment ago
            return await self._wrong(login, started_s)
        if not server.smtp_enabled:
            return _SWITCHED_OFF
        assert isinstance(self.session, _Login)
        self.session.grant = _Grant(key, Secret(text), key.server_id, by_token, shown)
        return "235 2.7.0 Logged in"

    async def _wrong(self, login: Login, started_s: float) -> str:
        """The same words after the same time, whether there is such a key or not."""
        logins, guard = self.submission.logins, self.submission.guard
        # Clients that try CRAM-MD5 first do so with a user name that is no key; that guesses nothing.
        is_guess = login.mechanism != "CRAM-MD5" or looks_like_key(login.user)
        if is_guess:
            guard.failed(self.address)
        suspect = is_guess and guard.suspects(self.address)
        log.info("a login from %s was refused", self.address)
        wait_s = logins.slow_s if suspect else logins.refusal_s
        await asyncio.sleep(max(0.0, started_s + wait_s - self.loop.time()))
        return _WRONG_TOO_OFTEN if suspect else _WRONG

    # What is taken

    def refuse_data(self) -> str:
        return "" if self._grant() else _LOGIN_FIRST

    def refuse_sender(self, address: str, envelope: Envelope) -> str:
        if address == "<>":
            return ""
        try:
            parse_address(address, "sender")
        except Invalid as error:
            return f"501 5.1.7 The {error}"
        return ""

    def refuse_recipient(self, address: str, envelope: Envelope) -> str:
        assert isinstance(envelope, _Mail)
        try:
            recipient = parse_address(address, "recipient")
        except Invalid as error:
            return f"501 5.1.3 The {error}"
        if recipient.key not in envelope.recipients:
            if len(envelope.recipients) >= self.submission.max_recipients:
                return (
                    f"452 4.5.3 More than {self.submission.max_recipients} recipients; send again to the rest"
                )
            envelope.recipients[recipient.key] = recipient
            envelope.rcpt_tos.append(address)
        return ""

    async def store(self, envelope: Envelope, content: bytes) -> str:
        assert isinstance(envelope, _Mail)
        grant = self._grant()
        assert grant is not None
        try:
            # A session may be older than the revocation of its key.
            key = await authenticate(self.submission.ctx, grant.text.reveal())
            if not key.may(SCOPE):
                raise Denied(f"the key lacks the scope {SCOPE.value}")
            public_id = await self._accept(grant, key, envelope, content)
        except PostroomError as error:
            return reply_of(error)
        return f"250 2.0.0 Ok: queued as {public_id}"

    async def _accept(self, grant: _Grant, key: Key, envelope: _Mail, content: bytes) -> str:
        """The public id of a message that was accepted, or was taken to be refused later."""
        ctx, way = self.submission.ctx, self.submission.token_way if grant.by_token else None
        recipients = list(envelope.recipients.values())
        sender = envelope.mail_from or "<>"
        try:
            submission = read_submission(
                content,
                recipients,
                key,
                grant.server_id,
                mail_from="" if sender == "<>" else sender,
                max_headers=ctx.limits.max_mail_headers,
                max_header_bytes=ctx.limits.max_mail_header_bytes,
                arrival=self._arrival(envelope),
            )
        except Invalid as error:
            if way is None or not grant.shown or error.errors[0].field not in _FIELDS:
                raise
            return await way.refuse(ctx, key, [one.text for one in recipients], error)
        if way is None:
            return (await accept_message(ctx, submission)).public_id
        return await way.accept(ctx, key, submission, shown=grant.shown)

    def _arrival(self, envelope: Envelope) -> Arrival:
        submission, told = self.submission, self.submission.tell_client
        assert self.session is not None
        return Arrival(
            submission.host_name,
            submission.instance,
            secure=self.secure,
            utf8=bool(envelope.smtp_utf8),
            client=self.address if told else "",
            client_name=self.session.host_name or "" if told else "",
        )


def key_text(login: Login) -> str:
    """What of a login must be a key, or "" when it contradicts itself.

    CRAM-MD5 sends no secret, so its user name is the key and the answer shows that the password is too. Else
    the password is the key; a user name that is itself a key must be the same one.
    """
    if login.acting_as not in ("", login.user):
        return ""
    if login.mechanism == "CRAM-MD5":
        return login.user if login.was_answered_with(login.user, fold(login.user)) else ""
    if looks_like_key(login.user) and fold(login.user) != fold(login.password):
        return ""
    return login.password


def reply_of(error: PostroomError) -> str:
    """The SMTP reply for an error of ours, in its words."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    text = str(error)
    if isinstance(error, Unavailable) and error.no_room:
        code = "452 4.3.1"
    if type(error) is Invalid:
        first = error.errors[0]
        code = _CODES_OF_FIELDS.get(first.field, code)
        if first.field == "purpose":  # a client knows no such field; the reason is a sentence
            text = first.reason
    elif isinstance(error, Unauthenticated):
        text = "the key of this session was revoked"
    return f"{code} {text[:1].upper()}{text[1:]}"
