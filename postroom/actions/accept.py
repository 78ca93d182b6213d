"""A message is accepted: checked, stored and put in its lane, all or nothing.

Every way in ends here: the APIs, SMTP submission, the command line, campaigns. The caller's yes is given
after this returned, and this returns after the commit. What is decided here stays decided: the From, the
purpose, and whether the message is captured because nothing may leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from postroom.actions import rehearsal
from postroom.actions.context import Context
from postroom.actions.submission import Idempotency, Recipient, Submission, check_submission
from postroom.clock import MICROS
from postroom.core.message import DeliveryState, Form, Purpose
from postroom.core.stream import StreamType, Unsubscribing
from postroom.errors import Conflict, Denied, Invalid, NotFound, TooLarge
from postroom.ids import DeliveryId, LaneId, MessageId, new_public_id
from postroom.logs import logger
from postroom.mail import compose, headers
from postroom.mail.address import parse_address, parse_mailbox
from postroom.mail.content import Content, Mailbox, TrackLinks
from postroom.mail.links import Found, find_links
from postroom.mail.raw import raw_message_id
from postroom.mail.trace import received_field
from postroom.storage import (
    clock_steps,
    idempotency,
    identities,
    lanes,
    messages,
    routes,
    servers,
    suppressions,
)
from postroom.storage.interface import Compute, Now, Rows, Sql, Together, Work
from postroom.storage.messages import NewDelivery, NewMessage, pack_content
from postroom.storage.servers import Accepting
from postroom.tracing import Received

log = logger("accept")
_LARGE_BYTES = 64 << 10  # what is larger is searched for links beside the event loop
__all__ = [
    "DEFAULT_STREAM",
    "Accepted",
    "AllSuppressed",
    "Idempotency",
    "Submission",
    "accept_message",
    "accept_prepared",
]

DEFAULT_STREAM = {
    Purpose.TRANSACTIONAL: "outbound",
    Purpose.BROADCAST: "broadcast",
    Purpose.SEQUENCE: "broadcast",
}


class Accepted(msgspec.Struct, frozen=True):
    """The yes. `replayed`: this very request was accepted before, and this is that message.

    accepted_us: when it was stored.
    """

    message_id: MessageId
    public_id: str
    captured: bool
    replayed: bool
    deliveries: tuple[tuple[DeliveryId, str, DeliveryState], ...] = ()
    accepted_us: int = 0


class AllSuppressed(Conflict):
    """Everybody it was for is suppressed. addresses: theirs, for comparing."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)
        super().__init__(f"all recipients are suppressed: {', '.join(addresses)}")


class SmtpOff(Denied):
    """Submission by SMTP is switched off for this server."""

    def __init__(self) -> None:
        super().__init__("submission by SMTP is switched off for this server")


async def accept_message(ctx: Context, submission: Submission) -> Accepted:
    """Accept a message, durably.

    Raises Invalid (fields: to, cc, bcc, from, reply_to, subject, body, headers, attachments, stream,
    purpose, Idempotency-Key); NotFound(server); Denied when nobody vouched for its From; Conflict while
    the same idempotent request is still running; AllSuppressed where that is asked for; TooLarge;
    Unavailable.
    """
    return await accept_prepared(ctx, await prepare(ctx, submission))


async def accept_prepared(ctx: Context, prepared: Prepared) -> Accepted:
    """Accept a message that passed what needs no database, durably. Raises the rest of what `accept_message`
    does."""
    submission = prepared.submission
    running = submission.idempotency
    if running is not None:
        marker = (running.key_id, running.name)
        if marker in ctx.running:
            raise Conflict("a request with this Idempotency-Key is still running")
        ctx.running.add(marker)
    try:
        accepted, lane = await ctx.store.write(
            lambda: storing(ctx, prepared, ends=True),
            size_bytes=prepared.size_bytes,
            share=not submission.rehearsed,
        )
    finally:
        if running is not None:
            ctx.running.discard(marker)
    tell(ctx, prepared, accepted, lane)
    return accepted


class Prepared(msgspec.Struct, frozen=True):
    """A submission that passed what needs no database, and what was found out about it."""

    submission: Submission
    recipients: Sequence[Recipient]
    public_id: str
    found: Found
    began_us: int

    @property
    def size_bytes(self) -> int:
        """Roughly, for the bound of the store's waiting room."""
        given = self.submission
        files = sum(len(one.data) for one in given.attachments)
        return files + len(given.html or "") + len(given.text or "") + len(given.raw or b"")


async def prepare(ctx: Context, submission: Submission) -> Prepared:
    """Check what needs no database, and find its links. Raises Invalid."""
    began_us = ctx.clock.now_us()
    recipients = check_submission(ctx.limits, submission)
    return Prepared(submission, recipients, new_public_id(began_us), await _links(submission), began_us)


def tell(ctx: Context, prepared: Prepared, accepted: Accepted, lane: LaneId | None) -> None:
    """Say that it is stored to whoever sends, counts and traces."""
    waiting = sum(state is DeliveryState.READY for _, _, state in accepted.deliveries)
    if waiting and lane is not None:
        ctx.hearer.wake([(lane, waiting)])
    if not accepted.replayed:
        _tell(ctx, prepared.submission, accepted, prepared.began_us)


async def _links(submission: Submission) -> Found:
    """What of it is to be tracked."""
    document, text, wanted = submission.html, submission.text, submission.track_links
    if wanted is TrackLinks.NONE or submission.raw is not None:
        return Found()
    if len(document or "") + len(text or "") < _LARGE_BYTES:
        return find_links(document, text, wanted)
    return await asyncio.to_thread(find_links, document, text, wanted)


def _tell(ctx: Context, submission: Submission, accepted: Accepted, began_us: int) -> None:
    """Whoever counts and traces."""
    origin, purpose, count = submission.origin, submission.purpose.value, len(accepted.deliveries)
    ctx.tally.accept(origin, purpose, count)
    if ctx.traces is not None:
        whose = (accepted.message_id, submission.account_id, submission.server_id)
        try:
            ctx.traces.received(Received(*whose, origin, purpose, count, began_us, ctx.clock.now_us()))
        except Exception:  # it is accepted: who heard of an error would hand it in once more
            log.exception("an accepted message could not be traced", message=accepted.message_id)


class _From(msgspec.Struct, frozen=True):
    """What stands in From: the mailbox, its address for comparing, and its domain; all empty where it is that
    of the connection which takes the message first."""

    mailbox: Mailbox
    key: str
    domain: str


class Admitted(msgspec.Struct, frozen=True):
    """What the database says of a message.

    key: its From for comparing. domain: for its Message-ID. own_unsubscribing: its stream leaves that to it.
    """

    stream: str
    sender: Mailbox
    key: str
    domain: str
    captured: bool
    own_unsubscribing: bool


def admit(submission: Submission) -> Work[Admitted]:
    """Whether its server, stream and From let it in. Raises what `accept_message` does."""
    server = _let_in(submission, (yield _look_accepting(submission)))
    sender = yield from _sender(submission, server)
    proof = yield _look_proven(submission, sender)
    return (yield from _admitted(submission, server, sender, proof))


def _look_accepting(submission: Submission) -> Sql:
    return servers.look_accepting(submission.account_id, submission.server_id, _stream(submission))


def _look_proven(submission: Submission, sender: _From) -> Sql:
    return identities.look_proven(submission.account_id, submission.server_id, sender.key)


def _stream(submission: Submission) -> str:
    return submission.stream or DEFAULT_STREAM[submission.purpose]


def _let_in(submission: Submission, rows: Rows) -> Accepting:
    """The server, which is there and takes such mail."""
    server = servers.accepting(rows)
    if server is None:
        raise NotFound("server")
    if submission.arrival is not None and not server.smtp_enabled:
        raise SmtpOff
    _check_stream(submission, server)
    return server


def _admitted(submission: Submission, server: Accepting, sender: _From, proof: Rows) -> Work[Admitted]:
    """proof: what `_look_proven` brought."""
    domain = yield from _proven(submission, sender, proof)
    captured = _is_captured(submission, server)
    own = server.unsubscribing is Unsubscribing.CUSTOM
    return Admitted(_stream(submission), sender.mailbox, sender.key, domain, captured, own)


def storing(ctx: Context, prepared: Prepared, *, ends: bool = False) -> Work[tuple[Accepted, LaneId | None]]:
    """The unit of work: everything that needs the database, and the message itself.

    ends: nothing comes after it in its unit. It raises before it writes anything (but the name of an
    idempotent request).
    """
    submission, recipients, public_id = prepared.submission, prepared.recipients, prepared.public_id
    found = prepared.found
    account_id, server_id = submission.account_id, submission.server_id
    ((at_us,),), known = yield Together((Now(), _look_accepting(submission)))
    before = yield from _accepted_before(ctx, submission, at_us)
    if before is not None:
        return before, None
    server = _let_in(submission, known)
    sender = yield from _sender(submission, server)
    form = _form(submission, recipients)
    lane_of = lanes.key_of(
        account_id, server_id, submission.purpose, _stream(submission), sender.key, form=form
    )
    ids, proof, known_lane, *known_suppressed = yield Together(
        (
            messages.ids_for(len(recipients)),
            _look_proven(submission, sender),
            lanes.look(lane_of),
            *suppressions.looks(account_id, server_id, _stream(submission), [r.key for r in recipients]),
        )
    )
    admitted = yield from _admitted(submission, server, sender, proof)
    stream, key = admitted.stream, admitted.key
    captured, domain = admitted.captured, admitted.domain
    trace = "" if submission.arrival is None else received_field(submission.arrival, public_id, at_us)
    content = _content(submission, admitted, trace, found)
    size_bytes = compose.parts_size(content)
    if size_bytes > ctx.limits.max_message_bytes:
        raise TooLarge(ctx.limits.max_message_bytes)
    suppressed = suppressions.found(known_suppressed)
    if submission.refuse_suppressed and len(suppressed) == len(recipients):
        raise AllSuppressed([one.key for one in recipients])
    rows = yield Compute(lambda: pack_content(content), size_bytes)
    message = NewMessage(
        account_id=account_id,
        server_id=server_id,
        key_id=submission.key_id,
        public_id=public_id,
        stream=stream,
        purpose=submission.purpose,
        sender=key,
        subject=submission.subject,
        rfc_message_id=_rfc_message_id(submission, public_id, domain),
        body=rows[0][0],
        size_bytes=size_bytes,
        captured=captured,
        origin=submission.origin,
        options=submission.options,
        deliveries=[_delivery(one, one.key in suppressed, captured, submission) for one in recipients],
        targets=found.targets,
    )
    lane = yield from lanes.made(lane_of, known_lane)
    named = submission.idempotency
    ends = ends and named is None and not submission.rehearsed
    message_id, deliveries = yield from messages.insert(message, lane, at_us, ids, ends=ends)
    if submission.rehearsed:
        made = list(zip(deliveries, message.deliveries, strict=True))
        yield from rehearsal.settle(account_id, server_id, made, submission.rehearsed, at_us)
    if named is not None:
        yield from idempotency.finish(account_id, named.key_id, named.name, message_id)
    told = tuple(
        (delivery, one.recipient, one.state)
        for delivery, one in zip(deliveries, message.deliveries, strict=True)
    )
    return Accepted(message_id, public_id, captured, False, told, at_us), lane


def _accepted_before(ctx: Context, submission: Submission, at_us: int) -> Work[Accepted | None]:
    """This very request's message, if it was accepted within a day; else its name is taken for this one.

    Raises Invalid when its name was used for another request.
    """
    named = submission.idempotency
    if named is None:
        return None
    steps = yield from clock_steps.forward_steps()
    oldest = clock_steps.reach_back(steps, at_us - int(ctx.limits.idempotency_keep_s * MICROS))
    known = yield from idempotency.begin(
        submission.account_id, named.key_id, named.name, named.fingerprint, at_us, oldest
    )
    if known is None:
        return None
    stored = yield from messages.get(submission.account_id, None, known.message_id)
    elsewhere = stored is not None and stored.server_id != submission.server_id
    if known.fingerprint != named.fingerprint or elsewhere:
        raise Invalid("Idempotency-Key", "was used before with another request")
    if stored is None:
        return None
    return Accepted(
        stored.message_id, stored.public_id, stored.captured, True, accepted_us=stored.created_at_us
    )


def _check_stream(submission: Submission, server: Accepting) -> None:
    """The stream it goes on is there and takes this kind of mail."""
    kind = server.stream_type
    if kind is None:
        raise Invalid("stream", "is not a stream of this server")
    if kind is StreamType.INBOUND:
        raise Invalid("stream", "takes no outgoing mail")
    # Either way round it would pass by something: bulk by unsubscribes, or bulk called urgent by all else.
    if (kind is StreamType.TRANSACTIONAL) != (submission.purpose is Purpose.TRANSACTIONAL):
        raise Invalid("stream", f"is not a stream for {submission.purpose} mail")


def _sender(submission: Submission, server: Accepting) -> Work[_From]:
    """Its own From, else the server's; empty: that of the connection which takes it first."""
    mailbox = submission.sender
    if mailbox is None and server.default_sender:
        mailbox = parse_mailbox(server.default_sender, "from")
    if mailbox is None:
        senders = yield from routes.senders_of(
            submission.account_id, submission.server_id, submission.purpose
        )
        if not senders:
            raise Invalid("from", "can't be blank: the server has no default sender")
    if mailbox is None or not mailbox.address:
        return _From(mailbox or Mailbox(""), "", "")
    address = parse_address(mailbox.address, "from")
    return _From(mailbox, address.key, address.ascii_domain)


def _proven(submission: Submission, sender: _From, proof: Rows) -> Work[str]:
    """The domain for its Message-ID. Raises Denied when nobody vouched for its From.

    proof: what `_look_proven` brought. A connection's own sender is proven for that connection alone;
    routing keeps to it.
    """
    if sender.key and proof:
        return sender.domain
    senders = yield from routes.senders_of(submission.account_id, submission.server_id, submission.purpose)
    if sender.key and sender.key not in senders:
        raise Denied(f"nobody has vouched for the sender {sender.mailbox.address}")
    return (sender.key or senders[0]).rpartition("@")[2]


def _form(submission: Submission, recipients: Sequence[Recipient]) -> Form:
    """Parts only where everybody shown is the one who gets it: an API would send to all it is told of."""
    alone = len(recipients) == len(submission.to) == 1 and not submission.cc and recipients[0].kind == "to"
    return Form.PARTS if alone and submission.raw is None else Form.BYTES


def _delivery(recipient: Recipient, suppressed: bool, captured: bool, submission: Submission) -> NewDelivery:
    state, reason = DeliveryState.READY, ""
    if suppressed:
        state, reason = DeliveryState.SUPPRESSED, "the address is suppressed"
    elif recipient.key in submission.rehearsed:
        ending = submission.rehearsed[recipient.key]
        return rehearsal.delivery(recipient.address, recipient.key, recipient.kind, ending)
    elif captured:
        state = DeliveryState.CAPTURED
    return NewDelivery(recipient.address, recipient.key, recipient.kind, state, reason)


def _is_captured(submission: Submission, server: Accepting) -> bool:
    """Captured where nothing may ever leave: a sandbox, or where no connection was ever made.

    Raises Invalid when connections exist and none of them may carry this purpose.
    """
    if server.sandbox or not server.ever_had_connection:
        return True
    if server.purposes and submission.purpose not in server.purposes:
        raise Invalid("purpose", f"no connection of this server is switched on for {submission.purpose} mail")
    return False


def _rfc_message_id(submission: Submission, public_id: str, domain: str) -> str:
    """The Message-ID it will be sent under: the message's own, where it has one."""
    own = submission.message_id
    if submission.raw is not None:
        own = raw_message_id(submission.raw)
    return own or headers.new_message_id(public_id, domain)


def _content(submission: Submission, admitted: Admitted, trace: str, found: Found) -> Content:
    return Content(
        sender=admitted.sender,
        to=tuple(submission.to),
        cc=tuple(submission.cc),
        reply_to=tuple(submission.reply_to),
        subject=submission.subject,
        text=submission.text,
        html=submission.html,
        preheader=submission.preheader,
        headers=tuple(submission.headers),
        attachments=tuple(submission.attachments),
        raw=submission.raw,
        trace=trace,
        unsubscribe_link=submission.unsubscribe_link,
        track_opens=submission.track_opens,
        track_links=submission.track_links,
        html_links=found.html,
        text_links=found.text,
        own_unsubscribing=admitted.own_unsubscribing,
    )
