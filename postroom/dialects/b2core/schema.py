"""The provider object: each field once, with how it is shown and what may be sent.

The product's spelling stays here. The same table gives the answers, reads the requests and describes the
object in the OpenAPI document. A password goes in and never comes out, not even masked: a mask that comes
back with the whole object would become the password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from postroom.clock import MICROS
from postroom.core.connection import IMPLICIT_TLS_PORT, Connection, DeliveryMethod, Security
from postroom.mail.address import parse_mailbox
from postroom.mail.content import Mailbox

TLS, SSL = "tls", "ssl"
SECURITY = {TLS: Security.REQUIRED, SSL: Security.IMPLICIT}
DRIVER = "smtp"


@dataclass(frozen=True)
class Field:
    """One field. `type` and `more` are JSON Schema; `show`: what an answer has, None: never shown."""

    name: str
    type: str
    meaning: str
    show: Callable[[Connection], object] | None
    writable: bool = True
    required: bool = True
    nullable: bool = False
    more: Mapping[str, object] | None = None


def _driver(connection: Connection) -> str:
    api = connection.delivery_method is DeliveryMethod.API
    return connection.vendor.value if api else DRIVER


def _encryption(connection: Connection) -> str | None:
    if connection.delivery_method is DeliveryMethod.API or connection.security is Security.IMPLICIT:
        return SSL
    if connection.security is Security.REQUIRED:
        return TLS
    if connection.port == IMPLICIT_TLS_PORT:
        return SSL
    return None if connection.security is Security.NEVER else TLS


def sender(connection: Connection) -> Mailbox:
    """Its own From; both parts empty where it has none."""
    return parse_mailbox(connection.sender, "sendFrom") if connection.sender else Mailbox("")


def _time(at_us: int) -> str:
    """As the product's other objects write it: `2022-01-01T00:00:00+00:00`."""
    return datetime.fromtimestamp(at_us // MICROS, UTC).isoformat()


FIELDS: tuple[Field, ...] = (
    Field("id", "integer", "Number of the provider.", lambda c: c.connection_id, writable=False),
    Field("caption", "string", "Name for people.", lambda c: c.label, required=False, nullable=True),
    Field("driver", "string", "Always smtp; another way to send, made elsewhere, shows its vendor.", _driver,
          more={"enum": [DRIVER]}),
    Field("host", "string", "SMTP host.", lambda c: c.host),
    Field("port", "integer", "SMTP port.", lambda c: c.port, more={"minimum": 1, "maximum": 65_535}),
    Field("username", "string", "SMTP login.", lambda c: c.secrets.get("smtp_username", "")),
    Field("password", "string", "SMTP password; never shown.", None),
    Field("sendFrom", "string", "The From of mail that names none.", lambda c: sender(c).address),
    Field("sendFromName", "string", "The name beside sendFrom.", lambda c: sender(c).name),
    Field("encryption", "string", "tls: STARTTLS, required; ssl: TLS from the first byte.", _encryption,
          nullable=True, more={"enum": [TLS, SSL]}),
    Field("isEnabled", "boolean", "Whether its owner has it switched on; 1 and 0 are taken too.",
          lambda c: c.enabled),
    Field("createTime", "string", "When it was made.", lambda c: _time(c.created_at_us), writable=False,
          more={"format": "date-time"}),
    Field("updateTime", "string", "When it was last changed.", lambda c: _time(c.updated_at_us),
          writable=False, more={"format": "date-time"}),
)  # fmt: skip
BY_NAME: Mapping[str, Field] = {field.name: field for field in FIELDS}

# Names that actions give fields in their errors, in our callers' words.
WIRE_NAMES: Mapping[str, str] = {
    "label": "caption",
    "enabled": "isEnabled",
    "security": "encryption",
    "sender": "sendFrom",
    "smtp_username": "username",
    "smtp_password": "password",
    "base": "",
}


def provider(connection: Connection) -> dict[str, object]:
    """The provider object of a connection that holds its secrets."""
    return {field.name: field.show(connection) for field in FIELDS if field.show is not None}
