"""From a claimed delivery to the envelope a transport takes.

Contents come with the claim, and a message's bytes are composed once and kept for its other recipients; with
a hole for each token where they offer to unsubscribe or are tracked. What cannot be composed is held for a
person, never retried for ever. A delivery whose worker died twice while it was composed is composed in a
child process of limited memory and time; only that child's death holds it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import msgspec

from postroom.core.message import Purpose
from postroom.engine.claim import Claimed
from postroom.engine.copies import Copies
from postroom.engine.reference import reference_of
from postroom.engine.signing import NO_SIGNING, CannotSign, Rules, Signing
from postroom.engine.transitions import CRASHES_TO_ISOLATE
from postroom.errors import PostroomError
from postroom.logs import logger
from postroom.mail.address import parse_address, parse_mailbox
from postroom.mail.compose import compose, needs_eight_bit, needs_utf8
from postroom.mail.content import Content
from postroom.mail.dkim import Signer
from postroom.mail.unsubscribe import Offer, offer_for
from postroom.storage import contents
from postroom.storage.interface import Store
from postroom.storage.messages import unpack_content
from postroom.tracking.links import MailLinks
from postroom.tracking.marking import Marking
from postroom.transports.interface import Envelope

log = logger("engine")
_CACHE_BYTES = 16 << 20
_ALONE_TIMEOUT_S = 60.0


class CannotCompose(Exception):
    """Why a delivery is held."""


@lru_cache(maxsize=16)
def _unsigned(offer: Offer) -> Offer:
    """One click may be offered only where what offers it is signed (RFC 8058 4)."""
    return replace(offer, one_click=False)


@dataclass
class _Marked:
    marking: Marking
    copies: Copies


class _Entry(msgspec.Struct):
    body: bytes  # as stored
    content: Content | None = None
    plain: bytes | None = None  # the same for everybody
    # On it, by the headers a peer writes anew and by who signs:
    signatures: dict[tuple[frozenset[str], tuple[Signer, ...]], bytes] = msgspec.field(default_factory=dict)
    marked: dict[Offer | None, _Marked] = msgspec.field(default_factory=dict)
    utf8: bool = False  # known with `content`
    eight_bit: bool = False

    @property
    def size_bytes(self) -> int:
        composed = len(self.plain or b"")
        for one in self.marked.values():
            composed += one.copies.size_bytes
        return len(self.body) + 2 * composed


class Composer:
    """Composes; keeps what several deliveries of one message need."""

    def __init__(self, store: Store, links: MailLinks, signing: Signing | None = None) -> None:
        self._store, self._links, self._signing = store, links, signing
        self._cache: OrderedDict[int, _Entry] = OrderedDict()
        self._bytes = 0

    @property
    def known(self) -> Container[int]:
        """Contents that are kept; may be asked from any thread."""
        return self._cache

    def keep(self, bodies: Mapping[int, bytes]) -> None:
        """Contents as stored, read with a claim."""
        for content_id, body in bodies.items():
            self._keep(content_id, _Entry(body))

    async def envelope(self, claimed: Claimed, offer: Offer, rules: Rules = NO_SIGNING) -> Envelope:
        """The envelope of one delivery, its bytes composed and signed. Raises CannotCompose, Unavailable.

        offer: how the connection it goes through has its mail offer to unsubscribe; rules: how it is signed.
        """
        signers = await self._signers(claimed, rules)
        if not signers and not rules.covered:
            offer = _unsigned(offer)
        entry = self._cache.get(claimed.content_id)
        if entry is None:
            wanted = {claimed.content_id: claimed.account_id}
            self.keep(await self._store.read(lambda: contents.bodies(wanted)))
            entry = self._cache.get(claimed.content_id)
        if entry is None:
            raise CannotCompose("its content is gone: deleted by retention or lost")
        self._cache.move_to_end(claimed.content_id)
        try:
            content = entry.content or self._unpacked(entry, claimed.from_mailbox)
            if entry.plain is None and not entry.marked and claimed.crashes >= CRASHES_TO_ISOLATE:
                await _compose_alone(entry.body, claimed)
            marking, data = self._copy(entry, content, claimed, offer)
            if signers:
                data = await self._signed(entry, data, signers, claimed.accepted_us, rules)
            recipient = parse_address(claimed.recipient, "to")
            sender = parse_address(content.sender.address, "from")
        except (PostroomError, ValueError) as error:
            raise CannotCompose(f"it cannot be composed: {error}") from error
        return Envelope(
            sender=sender.wire,
            recipient=recipient.wire,
            content=lambda: data,
            utf8=recipient.needs_smtputf8 or entry.utf8,
            eight_bit=entry.eight_bit,
            parts=_parts(content, claimed, marking),
            message_id=claimed.rfc_message_id,
            author=content.sender.address,
            bulk=claimed.purpose is not Purpose.TRANSACTIONAL,
            reference=reference_of(claimed.rfc_message_id, claimed.delivery_id),
            signed=", ".join(map(str, signers)),
        )

    async def _signers(self, claimed: Claimed, rules: Rules) -> tuple[Signer, ...]:
        if self._signing is None or not rules.signs:
            return ()
        try:
            return await self._signing.signers(claimed.account_id, claimed.server_id, claimed.sender)
        except CannotSign as error:  # unsigned it would be another mail than the one that was promised
            raise CannotCompose(str(error)) from error

    async def _signed(
        self, entry: _Entry, data: bytes, signers: tuple[Signer, ...], at_us: int, rules: Rules
    ) -> bytes:
        """With the signatures on top; those of a copy that is the same for everybody are kept with it."""
        assert self._signing is not None  # else there are no signers
        keys = (rules.rewritten, signers)
        fields = entry.signatures.get(keys) if data is entry.plain else None
        if fields is None:
            fields = await self._signing.fields(data, signers, at_us, rules.rewritten)
            if data is entry.plain:
                entry.signatures[keys] = fields
        return fields + data

    def _unpacked(self, entry: _Entry, from_mailbox: str | None) -> Content:
        entry.content = content = with_sender(unpack_content(entry.body), from_mailbox)
        # Once for all recipients: each look at 500 of them costs as much as composing.
        entry.utf8, entry.eight_bit = needs_utf8(content), needs_eight_bit(content)
        return content

    def _copy(
        self, entry: _Entry, content: Content, claimed: Claimed, offer: Offer
    ) -> tuple[Marking | None, bytes]:
        """How this delivery's copy is marked, and its bytes: composed now, or made of what others' left."""

        def composed(content: Content) -> bytes:
            return compose(content, message_id=claimed.rfc_message_id, date_us=claimed.accepted_us)

        before = entry.size_bytes
        own = offer_for(content, offer, bulk=claimed.purpose is not Purpose.TRANSACTIONAL)
        marked = entry.marked.get(own)
        if marked is None and (marking := Marking(content, claimed.content_id, own, self._links)):
            marked = entry.marked[own] = _Marked(marking, Copies(marking.content, composed))
        if marked is None:
            data = entry.plain = composed(content) if entry.plain is None else entry.plain
        else:
            data = marked.copies.copy(marked.marking.words(claimed.delivery_id))
        if self._cache.get(claimed.content_id) is entry:  # else it went while it was composed alone
            self._bytes += entry.size_bytes - before
            self._shrink()
        return (None if marked is None else marked.marking), data

    def _keep(self, content_id: int, entry: _Entry) -> None:
        if content_id in self._cache:  # another claim read it at the same time
            return
        self._cache[content_id] = entry
        self._bytes += entry.size_bytes
        self._shrink()

    def _shrink(self) -> None:
        while self._bytes > _CACHE_BYTES and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._bytes -= old.size_bytes


def _parts(content: Content, claimed: Claimed, marking: Marking | None) -> Callable[[], Content] | None:
    """The same copy for an API that composes itself; None where it would say something else."""
    if content.raw is not None or content.cc or [one.address for one in content.to] != [claimed.recipient]:
        return None
    if marking is None:
        return lambda: content
    return lambda: marking.content(marking.words(claimed.delivery_id))


def with_sender(content: Content, from_mailbox: str | None) -> Content:
    """The content with the From of the connection that took it, where it named none."""
    if not from_mailbox:
        return content
    return msgspec.structs.replace(content, sender=parse_mailbox(from_mailbox, "from"))


_CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
from postroom.engine.composer import with_sender
from postroom.mail.compose import compose
from postroom.storage.messages import unpack_content
content = with_sender(unpack_content(sys.stdin.buffer.read()), sys.argv[3])
compose(content, message_id=sys.argv[1], date_us=int(sys.argv[2]))
"""


async def _compose_alone(body: bytes, claimed: Claimed) -> None:
    """Try it in a child first. Raises CannotCompose when the child dies or takes too long."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _CHILD,
        claimed.rfc_message_id,
        str(claimed.accepted_us),
        claimed.from_mailbox or "",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_ALONE_TIMEOUT_S):
            _, complaint = await child.communicate(body)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise CannotCompose("composing it alone took too long, after two workers died of it") from None
    if child.returncode:
        last = complaint.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1][:200]
        log.error("composing alone failed", delivery=claimed.delivery_id, status=child.returncode)
        raise CannotCompose(f"composing it alone failed, after two workers died of it: {last}")
