"""One delivery through a vendor's API, without an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from postroom.mail.compose import compose
from postroom.mail.content import Content, Mailbox
from postroom.transports.api import ApiSession, ApiTarget, ApiTransport, Speaker
from postroom.transports.apis.amazon_ses import AmazonSes, SesKey
from postroom.transports.apis.postmark import Postmark, PostmarkKey
from postroom.transports.dialer import Dialer, DialPrivate
from postroom.transports.http_client import HttpTimeouts
from postroom.transports.http_url import read_url
from postroom.transports.interface import Checked, Envelope, Outcome
from tests.support.http_peer import HttpPeer, Play
from tests.support.postmark_peer import TOKEN, postmark_peer
from tests.support.ses_peer import ACCESS_KEY, REGION, SECRET_KEY, ses_peer

PATIENT = HttpTimeouts(10.0, 10.0, 10.0, 10.0)
SOON = dataclasses.replace(PATIENT, write_s=0.3, reply_s=0.3)
AUTHOR = "shop@example.com"
RECIPIENT = "ann@example.net"
MESSAGE_ID = "<m1@example.com>"
REFERENCE = "4f1a2b3c"
CONTENT = Content(
    Mailbox(AUTHOR, "The “Shop”"), (Mailbox(RECIPIENT, "Ann"),), subject="Grüße", text="hello\r\nthere"
)


def envelope(said: Content = CONTENT, **changes: object) -> Envelope:
    """One message as the engine hands it over."""
    made = Envelope(
        AUTHOR,
        RECIPIENT,
        lambda: compose(said, message_id=MESSAGE_ID, date_us=0),
        parts=lambda: said,
        message_id=MESSAGE_ID,
        author=AUTHOR,
        reference=REFERENCE,
    )
    return replace(made, **changes)


@dataclass
class Watch:
    """Checkpoints that say yes until told otherwise, and remember what they were asked."""

    stop_at: str = ""
    asked: list[str] = field(default_factory=list)

    def _ask(self, what: str) -> bool:
        self.asked.append(what)
        return what != self.stop_at

    def before_mail(self) -> bool:
        return self._ask("mail")

    def before_data(self) -> bool:
        return self._ask("data")

    def before_dot(self) -> bool:
        return self._ask("dot")


def ses_speaker(peer: HttpPeer, secret: str = SECRET_KEY, configuration_set: str = "") -> AmazonSes:
    key = SesKey(ACCESS_KEY, secret, REGION, configuration_set)
    return AmazonSes(key, read_url(peer.url), most_bytes=40 << 20)


def postmark_speaker(token: str = TOKEN) -> Postmark:
    return Postmark(PostmarkKey(token), most_bytes=10 << 20)


def transport(peer: HttpPeer, speaker: Speaker, timeouts: HttpTimeouts = PATIENT) -> ApiTransport:
    return ApiTransport(ApiTarget(read_url(peer.url), timeouts), speaker, Dialer(DialPrivate.ALL))


@asynccontextmanager
async def session(way: ApiTransport) -> AsyncIterator[ApiSession]:
    made = await way.open()
    try:
        yield made
    finally:
        await made.close()


async def through_ses(
    plays: Sequence[Play] = (), sent: Envelope | None = None, timeouts: HttpTimeouts = PATIENT
) -> tuple[Outcome, HttpPeer]:
    """Deliver to an SES that plays this after it has let us in."""
    async with ses_peer() as peer, session(transport(peer, ses_speaker(peer), timeouts)) as made:
        peer.plays.extend(plays)
        return await made.deliver(sent or envelope(), Watch()), peer


async def through_postmark(
    plays: Sequence[Play] = (), sent: Envelope | None = None, timeouts: HttpTimeouts = PATIENT
) -> tuple[Outcome, HttpPeer]:
    """The same with Postmark."""
    async with postmark_peer() as peer, session(transport(peer, postmark_speaker(), timeouts)) as made:
        peer.plays.extend(plays)
        return await made.deliver(sent or envelope(), Watch()), peer


async def checked_at(peer: HttpPeer, speaker: Speaker) -> Checked:
    """What a check shows."""
    async with peer:
        return await transport(peer, speaker).check()
