"""The email server object: each field once, with how it is shown and where what is sent goes.

Vendor spelling stays here. The same table gives the answers, reads the requests, names the fields in error
sentences as Rails does, and describes the object in the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from postroom.actions.connection_draft import AUTH_METHODS, FLAG_OPTIONS, STARTTLS_OPTION
from postroom.clock import to_iso
from postroom.core.connection import MAX_CAP, MIN_HOURLY_CAP, Connection, DeliveryMethod, Security, Vendor
from postroom.core.message import Purpose
from postroom.secret import BULLETS

BULLET = "•"
_MASKED = re.compile(f"[^{BULLET}]{{0,4}}{BULLET}+[^{BULLET}]{{0,4}}", re.DOTALL)


def masked_username(text: str) -> str:
    """First and last four characters, a bullet for each other one; up to eight characters: bullets only."""
    return text[:4] + BULLET * (len(text) - 8) + text[-4:] if len(text) > 8 else BULLETS


def looks_masked(value: object) -> bool:
    """Whether a value is one of our masks come back (the clients' own rule, made a little narrower)."""
    return isinstance(value, str) and _MASKED.fullmatch(value) is not None


def humanize(name: str) -> str:
    """`smtp_address` -> `Smtp address`, `template_id` -> `Template`: as Rails names a field in a sentence."""
    words = name.removesuffix("_id").replace("_", " ").strip()
    return words[:1].upper() + words[1:]


@dataclass(frozen=True)
class Field:
    """One field. `type` and `more` are JSON Schema; `meaning` is for people.

    At most one of attribute (of ConnectionChanges), secret and option says where input goes; a field with
    none of them is read-only. `show`: what an answer has.
    """

    name: str
    type: str
    meaning: str
    show: Callable[[Connection], object]
    attribute: str = ""
    secret: bool = False
    option: bool = False
    nullable: bool = False
    default: object = None
    more: Mapping[str, object] | None = None

    @property
    def read_only(self) -> bool:
        return not (self.attribute or self.secret or self.option)


def _plain(name: str, type: str, meaning: str, show: Callable[[Connection], object], **more: Any) -> Field:
    return Field(name, type, meaning, show, **more)  # Any: fields of Field, of the types they have there


def _secret(name: str, meaning: str) -> Field:
    def show(connection: Connection) -> object:
        text = connection.secrets.get(name)
        if text is None:
            return None
        return masked_username(text) if name == "smtp_username" else BULLETS

    return Field(name, "string", f"{meaning} Shown masked.", show, secret=True, nullable=True)


def _flag(name: str, meaning: str) -> Field:
    default = FLAG_OPTIONS[name]
    return Field(
        name, "boolean", meaning, lambda c: bool(c.options.get(name, default)), option=True, default=default
    )


def _text(name: str, meaning: str) -> Field:
    return Field(name, "string", meaning, lambda c: c.options.get(name), option=True, nullable=True)


def _use(name: str, purpose: Purpose, attribute: str) -> Field:
    return Field(
        name,
        "boolean",
        f"Whether it may carry {purpose} mail. At least one use is selected.",
        lambda c: purpose in c.purposes,
        attribute=attribute,
        default=False,
    )


def _time(name: str, meaning: str, read: Callable[[Connection], int | None], nullable: bool = False) -> Field:
    return Field(
        name, "string", meaning, lambda c: to_iso(read(c)), nullable=nullable, more={"format": "date-time"}
    )


FIELDS: tuple[Field, ...] = (
    _plain("id", "integer", "Number of the email server.", lambda c: c.connection_id),
    _plain("label", "string", "Name for people.", lambda c: c.label, attribute="label"),
    _plain(
        "vendor",
        "string",
        "Whose service it is.",
        lambda c: c.vendor.value,
        attribute="vendor",
        default="other",
        more={"enum": [vendor.value for vendor in Vendor]},
    ),
    _plain(
        "delivery_method",
        "string",
        "SMTP, or the vendor's own API (aws_ses and postmark only).",
        lambda c: c.delivery_method.value,
        attribute="delivery_method",
        default="smtp",
        more={"enum": [method.value for method in DeliveryMethod]},
    ),
    _plain(
        "active",
        "boolean",
        "Switched on, and its last test or use did not fail. Writing it turns the switch.",
        lambda c: c.active,
        attribute="enabled",
        default=True,
    ),
    _plain(
        "emails_per_hour",
        "integer",
        "Most emails in any sliding hour.",
        lambda c: c.hourly_cap,
        attribute="hourly_cap",
        nullable=True,
        more={"minimum": MIN_HOURLY_CAP, "maximum": MAX_CAP},
    ),
    _use("use_for_broadcasts", Purpose.BROADCAST, "for_broadcast"),
    _use("use_for_sequences", Purpose.SEQUENCE, "for_sequence"),
    _use("use_for_transactionals", Purpose.TRANSACTIONAL, "for_transactional"),
    _plain(
        "smtp_address",
        "string",
        "SMTP host; required when delivery_method is smtp.",
        lambda c: c.host or None,
        attribute="host",
        nullable=True,
    ),
    _plain(
        "smtp_port",
        "integer",
        "SMTP port; 465 is TLS from the first byte. Required when delivery_method is smtp.",
        lambda c: c.port or None,
        attribute="port",
        nullable=True,
        more={"minimum": 1, "maximum": 65_535},
    ),
    _secret("smtp_username", "SMTP login; required when delivery_method is smtp."),
    _secret("smtp_password", "SMTP password; required when delivery_method is smtp."),
    _plain(
        "smtp_authentication",
        "string",
        "How the login is made; required when delivery_method is smtp.",
        lambda c: c.auth or None,
        attribute="auth",
        nullable=True,
        more={"enum": list(AUTH_METHODS)},
    ),
    Field(
        STARTTLS_OPTION,
        "boolean",
        "Use STARTTLS when the server offers it.",
        lambda c: c.security is not Security.NEVER,
        option=True,
        default=True,
    ),
    _flag("include_unsubscribe_header", "Write List-Unsubscribe into bulk mail."),
    _flag("include_unsubscribe_link", "Write an unsubscribe link into bulk mail."),
    _flag("use_custom_unsubscribe_link", "Write custom_unsubscribe_link instead of our own link."),
    _text("custom_unsubscribe_link", "A link, HTML, or a vendor's placeholder."),
    _text("aws_region", "AWS region, such as us-east-1; required for aws_ses by api."),
    _text("aws_ses_configuration_set", "SES configuration set."),
    _secret("aws_access_key_id", "For setting up webhooks at AWS."),
    _secret("aws_secret_access_key", "For setting up webhooks at AWS."),
    _secret("outbound_aws_access_key_id", "For sending; required for aws_ses by api."),
    _secret("outbound_aws_secret_access_key", "For sending; required for aws_ses by api."),
    _plain("aws_setup_completed", "boolean", "Whether webhooks were set up at AWS.", lambda c: False),
    _secret("postmark_api_token", "Server token; required for postmark by api."),
    _secret("inboxroad_api_token", "For reading bounces and complaints at Inboxroad."),
    _flag("inboxroad_sync_enabled", "Read bounces and complaints at Inboxroad."),
    _secret("smtp_com_api_key", "For setting up callbacks at SMTP.com."),
    _text("smtp_com_channel", "Channel at SMTP.com."),
    _time(
        "connection_failed_at",
        "When a test or sending last failed; null while all is well.",
        lambda c: c.failed_at_us,
        nullable=True,
    ),
    _time("created_at", "When it was made.", lambda c: c.created_at_us),
    _time("updated_at", "When it was last changed.", lambda c: c.updated_at_us),
)
BY_NAME: Mapping[str, Field] = {field.name: field for field in FIELDS}

# Names that actions give fields in their errors, in our callers' words.
_WIRE_NAMES: Mapping[str, str] = {field.attribute: field.name for field in FIELDS if field.attribute}


def email_server(connection: Connection) -> dict[str, object]:
    """The email server object of a connection that holds its secrets."""
    return {field.name: field.show(connection) for field in FIELDS}


def sentence(field: str, reason: str) -> str:
    """One field error as Rails says it: `Label can't be blank`."""
    if field == "purpose":
        return "No email server of this channel is switched on for this kind of mail"
    if field in ("", "base"):
        return reason
    name = _WIRE_NAMES.get(field, field)
    return f"{name if name[:1].isupper() else humanize(name)} {reason}"
