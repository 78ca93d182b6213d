"""A vendor's HTTP API as a way out: sessions are connections kept alive, a delivery is one request.

What a vendor wants asked, and what its answers mean, is a `Speaker`'s (`apis/`); everything that can go
wrong on the way is told here, once for all. Before a transport opens its first session it makes a
harmless read with the key, and again every few minutes and after the key was refused: so nothing is
claimed for a key that does not work, and the vendor's own quota is known.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from postroom.transports import outcomes
from postroom.transports.dialer import Dialer, verified_context
from postroom.transports.http_client import (
    Gates,
    HttpConnection,
    HttpReply,
    HttpRequest,
    HttpTimeouts,
    HttpTrouble,
    Progress,
)
from postroom.transports.http_url import Url
from postroom.transports.interface import (
    Checked,
    Checkpoints,
    Envelope,
    Fault,
    Found,
    OpenFailed,
    Outcome,
    Phase,
    Quota,
    Result,
)
from postroom.transports.smtp_reply import clean_text

CHECK_EVERY_S = 300.0
REST_S = 20.0  # idle for longer, a connection may be about to be closed by its peer: a new one is surer
_CLEAR = "the key would go out in clear text; use https (or the setting allow_clear_auth)"


class Speaker(Protocol):
    """One vendor's API: which requests, and what the replies mean. Pure; raises nothing."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never show in a text."""

    def prepare(self) -> None:
        """Get ready, in a thread: what takes long the first time. Called once."""

    def send(self, envelope: Envelope) -> HttpRequest | Outcome:
        """The request that sends it; an Outcome says why it cannot be sent this way."""

    def sent(self, reply: HttpReply, envelope: Envelope) -> Outcome:
        """What the reply to that means."""

    def look(self) -> HttpRequest:
        """A harmless read that needs the key."""

    def looked(self, reply: HttpReply) -> Checked:
        """What the reply to that means."""

    def find(self, reference: str, *, bulk: bool) -> HttpRequest | None:
        """The request that asks for a delivery; None: this vendor cannot be asked."""

    def found(self, reply: HttpReply) -> Found | None:
        """What the reply to that means."""


@dataclass(frozen=True)
class ApiTarget:
    """Where an API is and how long to wait for it."""

    url: Url
    timeouts: HttpTimeouts = field(default_factory=HttpTimeouts)
    allow_clear_auth: bool = False  # http to a peer that is not loopback


class ApiTransport:
    """Implements `interface.Transport`, `Account` and `Finder` for one connection's key."""

    def __init__(
        self,
        target: ApiTarget,
        speaker: Speaker,
        dialer: Dialer,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.target, self.speaker = target, speaker
        self._dialer, self._ssl_context = dialer, ssl_context
        self._checking = asyncio.Lock()
        self._checked_s: float | None = None  # when the key last passed, by the loop's clock
        self._prepared = False
        self.refusals = 0  # of the key, so far
        self.quota: Quota | None = None

    def __repr__(self) -> str:
        return f"ApiTransport({self.target.url})"

    async def open(self) -> ApiSession:
        """Connect, secure, and now and then try the key. Raises OpenFailed."""
        connection = await self._connect()
        try:
            async with self._checking:
                if self._due():
                    checked = await self._check_on(connection)
                    if checked.outcome.result is not Result.SENT:
                        raise OpenFailed(checked.outcome)
                refusals = self.refusals
                if not connection.usable:
                    await connection.close()
                    connection = await self._connect()
        except BaseException:
            connection.abort()
            raise
        return ApiSession(self, connection, refusals)

    async def check(self) -> Checked:
        """Make the harmless read now, on a connection of its own."""
        try:
            connection = await self._connect()
        except OpenFailed as failed:
            return Checked(failed.outcome)
        try:
            return await self._check_on(connection)
        finally:
            await connection.close()

    async def find(self, reference: str, *, bulk: bool) -> Found | None:
        """Ask the vendor for a delivery of ours."""
        request = self.speaker.find(reference, bulk=bulk)
        if request is None:
            return None
        try:
            connection = await self._connect()
        except OpenFailed:
            return None
        try:
            reply = await connection.ask(request, Progress())
        except HttpTrouble:
            return None
        finally:
            await connection.close()
        return self.speaker.found(reply) if reply is not None and reply.complete else None

    def refused(self) -> None:
        """The key was refused: it is tried before anything is sent with it again, by any session."""
        self._checked_s = None
        self.refusals += 1

    def redacted(self, outcome: Outcome) -> Outcome:
        """The outcome without our secrets, which a peer may repeat, and in one line."""
        text = outcome.text
        for secret in self.speaker.secrets:
            text = text.replace(secret, "•••") if secret else text
        return replace(outcome, text=clean_text(text))

    def _due(self) -> bool:
        return self._checked_s is None or asyncio.get_running_loop().time() - self._checked_s >= CHECK_EVERY_S

    async def _connect(self) -> HttpConnection:
        progress, target = Progress(), self.target
        if not self._prepared:
            await asyncio.to_thread(self.speaker.prepare)
            self._prepared = True
        context = self._ssl_context or verified_context()
        try:
            connection = await HttpConnection.open(
                target.url, self._dialer, target.timeouts, context, progress
            )
        except HttpTrouble as trouble:
            raise OpenFailed(outcomes.cannot_open(str(trouble), progress.phase)) from trouble
        if not (connection.private or target.allow_clear_auth):
            connection.abort()
            raise OpenFailed(outcomes.cannot_open(_CLEAR, Phase.AUTH))
        return connection

    async def _check_on(self, connection: HttpConnection) -> Checked:
        try:
            reply = await connection.ask(self.speaker.look(), Progress())
        except HttpTrouble as trouble:
            return Checked(outcomes.cannot_open(str(trouble), Phase.AUTH))
        assert reply is not None  # there was no gate to say no
        checked = self.speaker.looked(reply)
        if checked.outcome.result is Result.SENT:
            self._checked_s = asyncio.get_running_loop().time()
            self.quota = checked.quota
            secured = connection.tls_version or "no TLS"
            text = f"connected, {secured}, {checked.outcome.text}"
            checked = replace(checked, outcome=replace(checked.outcome, text=text))
        else:
            self.refused()
        return replace(checked, outcome=self.redacted(checked.outcome))


class ApiSession:
    """Implements `interface.Session` over one HTTP connection kept alive."""

    def __init__(self, transport: ApiTransport, connection: HttpConnection, refusals: int) -> None:
        """refusals: of the key, when it was last known to be good."""
        self._transport, self._connection = transport, connection
        self._rested_since_s = asyncio.get_running_loop().time()
        self._deliveries = 0
        self._refusals = refusals
        self._busy = self._aborted = False

    def __repr__(self) -> str:
        return f"ApiSession({self._transport.target.url}, {self._deliveries} deliveries)"

    @property
    def usable(self) -> bool:
        if self._aborted or self._refusals != self._transport.refusals:
            return False
        return self._busy or self._connection.usable

    @property
    def deliveries(self) -> int:
        return self._deliveries

    async def deliver(self, envelope: Envelope, checkpoints: Checkpoints) -> Outcome:
        if self._busy:
            raise RuntimeError("a session carries one delivery at a time")
        self._deliveries += 1
        loop = asyncio.get_running_loop()
        if loop.time() - self._rested_since_s > REST_S or not self.usable:
            self._connection.abort()
            return outcomes.trouble("the session is spent", Phase.MAIL, unanswered=True)
        self._busy = True
        try:
            outcome = self._transport.redacted(await self._deliver(envelope, checkpoints))
        except BaseException:
            self.abort()
            raise
        finally:
            self._busy = False
            self._rested_since_s = loop.time()
        if outcome.fault is Fault.LOGIN:
            self._transport.refused()
            self._connection.abort()
        return replace(outcome, session_usable=self.usable)

    async def _deliver(self, envelope: Envelope, checkpoints: Checkpoints) -> Outcome:
        request = self._transport.speaker.send(envelope)
        if isinstance(request, Outcome):
            return request
        progress = Progress()
        gates = Gates(lambda: checkpoints.before_mail() and checkpoints.before_data(), checkpoints.before_dot)
        try:
            reply = await self._connection.ask(request, progress, gates)
        except HttpTrouble as trouble:
            return outcomes.trouble(
                str(trouble),
                progress.phase,
                begun=progress.begun,
                unanswered=progress.phase is not Phase.DOT,
                ours=self._aborted,
            )
        if reply is None:
            return outcomes.stopped(
                "stopped before the request was complete", progress.phase, begun=progress.begun
            )
        outcome = self._transport.speaker.sent(reply, envelope)
        return replace(outcome, begun=True)

    def abort(self) -> None:
        self._aborted = True
        self._connection.abort()

    async def close(self) -> None:
        await self._connection.close()
