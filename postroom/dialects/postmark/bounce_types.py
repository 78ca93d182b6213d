"""The product's types of bounces: name, number, title and what it says of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from postroom.core.bounce import BounceKind


class BounceType(NamedTuple):
    """One type, in the product's words."""

    type: str
    code: int
    name: str
    description: str


TYPES: Mapping[BounceKind, BounceType] = {
    BounceKind.HARD: BounceType(
        "HardBounce", 1, "Hard bounce",
        "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
    ),
    BounceKind.DELAYED: BounceType(
        "Transient", 2, "Message delayed",
        "The server could not temporarily deliver your message (ex: Message is delayed due to network "
        "troubles).",
    ),
    BounceKind.UNSUBSCRIBE: BounceType(
        "Unsubscribe", 16, "Unsubscribe request", "Unsubscribe or Remove request."
    ),
    BounceKind.SUBSCRIBE: BounceType(
        "Subscribe", 32, "Subscribe request",
        "Subscribe request from someone wanting to get added to the mailing list.",
    ),
    BounceKind.AUTO_REPLY: BounceType(
        "AutoResponder", 64, "Auto responder",
        'Automatic email responder (ex: "Out of Office" or "On Vacation").',
    ),
    BounceKind.ADDRESS_CHANGE: BounceType(
        "AddressChange", 128, "Address change", "The recipient has requested an address change."
    ),
    BounceKind.DNS: BounceType("DnsError", 256, "DNS error", "A temporary DNS error."),
    BounceKind.SPAM: BounceType(
        "SpamNotification", 512, "Spam notification",
        "The message was delivered, but was either blocked by the user, or classified as spam, bulk mail, or "
        "had rejected content.",
    ),
    BounceKind.RELAY_TEST: BounceType(
        "OpenRelayTest", 1024, "Open relay test", "The NDR is actually a test email message to see if the "
        "mail server is an open relay.",
    ),
    BounceKind.UNCLEAR: BounceType("Unknown", 2048, "Unknown", "Unable to classify the NDR."),
    BounceKind.SOFT: BounceType(
        "SoftBounce", 4096, "Soft bounce",
        "Unable to temporarily deliver message (i.e. mailbox full, account disabled, exceeds quota, out of "
        "disk space).",
    ),
    BounceKind.VIRUS: BounceType(
        "VirusNotification", 8192, "Virus notification",
        "The bounce is actually a virus notification warning about a virus/code infected message.",
    ),
    BounceKind.CHALLENGE: BounceType(
        "ChallengeVerification", 16384, "Spam challenge verification",
        "The bounce is a challenge asking for verification you actually sent the email.",
    ),
    BounceKind.BAD_ADDRESS: BounceType(
        "BadEmailAddress", 100000, "Invalid email address", "The address is not a valid email address."
    ),
    BounceKind.COMPLAINT: BounceType(
        "SpamComplaint", 100001, "Spam complaint",
        "The subscriber explicitly marked this message as spam.",
    ),
    BounceKind.BY_HAND: BounceType(
        "ManuallyDeactivated", 100002, "Manually deactivated", "The email was manually deactivated."
    ),
    BounceKind.UNCONFIRMED: BounceType(
        "Unconfirmed", 100003, "Registration not confirmed",
        "The subscriber has not clicked on the confirmation link upon registration or import.",
    ),
    BounceKind.BLOCKED: BounceType(
        "Blocked", 100006, "ISP block", "Blocked from this ISP due to content or blacklisting."
    ),
    BounceKind.NOT_ACCEPTED: BounceType(
        "SMTPApiError", 100007, "SMTP API error",
        "An error occurred while accepting an email through the SMTP API.",
    ),
    BounceKind.INBOUND: BounceType(
        "InboundError", 100008, "Processing failed",
        "Unable to deliver inbound message to destination inbound hook.",
    ),
    BounceKind.DMARC: BounceType(
        "DMARCPolicy", 100009, "DMARC Policy", "Email rejected due DMARC Policy."
    ),
    BounceKind.TEMPLATE: BounceType(
        "TemplateRenderingFailed", 100010, "Template rendering failed",
        "An error occurred while attempting to render your template.",
    ),
}  # fmt: skip
KINDS: Mapping[str, BounceKind] = {one.type: kind for kind, one in TYPES.items()}
