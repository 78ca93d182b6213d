"""A connection: one way out, with its caps and its health.

Five facts say why a connection does not send, and none stands for another: switched off by its owner
(`enabled`), failed (`failed_at_us`), disabled for its bounce rate (`disabled_at_us`), backing off (known
to the running engine only), and refusing one From (a pair of its own). `held_until_us` is the engine's
short hold after ten equal refusals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from postroom.core.message import Purpose
from postroom.ids import AccountId, ConnectionId, ServerId

MIN_HOURLY_CAP = 15
MAX_CAP = 2_147_483_647
IMPLICIT_TLS_PORT = 465

SECRET_FIELDS = (
    "smtp_username",
    "smtp_password",
    "aws_access_key_id",
    "aws_secret_access_key",
    "outbound_aws_access_key_id",
    "outbound_aws_secret_access_key",
    "postmark_api_token",
    "inboxroad_api_token",
    "smtp_com_api_key",
)


class Vendor(StrEnum):
    """Whose service it is."""

    AWS_SES = "aws_ses"
    SENDGRID = "sendgrid"
    POSTMARK = "postmark"
    MAILGUN = "mailgun"
    INBOXROAD = "inboxroad"
    RESEND = "resend"
    SMTP_COM = "smtp_com"
    OTHER = "other"


class SignsMail(StrEnum):
    """Whether mail through a connection is signed with DKIM keys of ours; its option `dkim`."""

    AUTO = "auto"  # as is known of its vendor
    ALWAYS = "always"
    NEVER = "never"


SIGNS_MAIL_OPTION = "dkim"


class DeliveryMethod(StrEnum):
    SMTP = "smtp"
    API = "api"


class Security(StrEnum):
    """How the channel is secured. Port 465 is TLS from the first byte, unless STARTTLS is required there."""

    AUTO = "auto"  # STARTTLS when offered; a login never goes over a channel in clear text
    IMPLICIT = "implicit"
    REQUIRED = "required"  # STARTTLS or nothing
    NEVER = "never"


@dataclass(frozen=True)
class Connection:
    """One way out as stored. `secrets` holds plain text while in memory and stays out of repr."""

    account_id: AccountId
    connection_id: ConnectionId
    server_id: ServerId | None  # None: shared by the account
    uid: bytes = field(repr=False)
    label: str
    vendor: Vendor
    delivery_method: DeliveryMethod
    enabled: bool
    failed_at_us: int | None
    failed_reason: str | None
    disabled_at_us: int | None
    held_until_us: int | None
    purposes: frozenset[Purpose]
    hourly_cap: int | None
    daily_cap: int | None
    host: str
    port: int
    security: Security
    auth: str  # plain, login, cram_md5, auto; "" for none
    sender: str | None
    options: Mapping[str, object]
    version: int
    created_at_us: int
    updated_at_us: int
    deleted_at_us: int | None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def active(self) -> bool:
        """Switched on and not failed: what Broadcast shows as `active`."""
        return self.enabled and self.failed_at_us is None
