"""A bounce: mail that did not arrive, of what kind, and in whose words.

There is one for each delivery that was refused for good or given up, and for each message that was taken by
SMTP and could not be accepted afterwards. What a reply means is decided in `mail.bounce`; this is how it is
kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.ids import AccountId, BounceId, DeliveryId, ServerId
from postroom.mail.bounce import BounceClass, Verdict


class BounceKind(StrEnum):
    """What became of it instead of arriving. Some of these only reports by mail can tell."""

    HARD = "hard"  # the address does not work
    SOFT = "soft"  # it works, but not now: full, too large, switched off
    DELAYED = "delayed"  # nothing answered, or only to come back later, until it was given up
    DNS = "dns"  # the domain could not be looked up
    BLOCKED = "blocked"  # refused for who sends it: reputation, authentication, local rules
    DMARC = "dmarc"  # refused by the policy of the domain in its From
    SPAM = "spam"  # refused for what it says
    VIRUS = "virus"
    UNCLEAR = "unclear"  # refused, and nobody can tell why
    BAD_ADDRESS = "bad_address"
    COMPLAINT = "complaint"  # the recipient called it spam
    BY_HAND = "by_hand"  # the address was switched off by a person
    UNCONFIRMED = "unconfirmed"
    NOT_ACCEPTED = "not_accepted"  # taken by SMTP, refused by us afterwards
    UNSUBSCRIBE = "unsubscribe"
    SUBSCRIBE = "subscribe"
    AUTO_REPLY = "auto_reply"
    ADDRESS_CHANGE = "address_change"
    RELAY_TEST = "relay_test"
    CHALLENGE = "challenge"
    INBOUND = "inbound"  # what came in could not be handed on
    TEMPLATE = "template"  # a template could not be filled in


@dataclass(frozen=True)
class Bounce:
    """One as stored. public_id: of its message, or one of its own where no message was stored.

    address: the recipient for comparing; recipient: as given. text: what was replied. report: the long form,
    "" for none. inactive: nothing is sent to the address since, because of this bounce.
    """

    bounce_id: BounceId
    account_id: AccountId
    server_id: ServerId
    delivery_id: DeliveryId | None
    public_id: str
    stream: str
    kind: BounceKind
    recipient: str
    address: str
    sender: str
    subject: str
    tag: str
    text: str
    report: str
    at_us: int
    inactive: bool


_KINDS = {
    BounceClass.FULL_MAILBOX: BounceKind.SOFT,
    BounceClass.POLICY: BounceKind.BLOCKED,
    BounceClass.CONTENT: BounceKind.SPAM,
    BounceClass.TOO_LARGE: BounceKind.SOFT,
    BounceClass.SENDER_REFUSED: BounceKind.BLOCKED,
    BounceClass.AUTH_REQUIRED: BounceKind.BLOCKED,
    BounceClass.RATE_LIMITED: BounceKind.DELAYED,
    BounceClass.GREYLISTED: BounceKind.DELAYED,
    BounceClass.OTHER_TEMPORARY: BounceKind.SOFT,
    BounceClass.OTHER_PERMANENT: BounceKind.UNCLEAR,
}
_DMARC, _VIRUS = ("dmarc",), ("virus", "malware")


def kind_of(verdict: Verdict, text: str) -> BounceKind:
    """The kind of a refusal in a peer's words."""
    found, said = verdict.bounce_class, text.lower()
    if found is BounceClass.UNKNOWN_ADDRESS:
        return BounceKind.HARD if verdict.permanent else BounceKind.SOFT
    if found is BounceClass.UNKNOWN_DOMAIN:
        return BounceKind.HARD if verdict.permanent else BounceKind.DNS
    if found is BounceClass.POLICY and any(word in said for word in _DMARC):
        return BounceKind.DMARC
    if found is BounceClass.CONTENT and any(word in said for word in _VIRUS):
        return BounceKind.VIRUS
    return _KINDS[found]
