"""What a new connection's vendor already tells: host, port, user name, how to log in.

Only what a draft leaves out is filled in; what was given stands, right or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from postroom.actions.changes import UNSET
from postroom.actions.connection_draft import ConnectionDraft
from postroom.core.connection import DeliveryMethod, Vendor
from postroom.transports.vendors import VendorRow, vendor_row

_LOGIN = ("smtp_username", "smtp_password")


def with_vendor_defaults(draft: ConnectionDraft) -> ConnectionDraft:
    """The draft with what its vendor's row says; as it is where the vendor is unknown or has no say."""
    if not isinstance(draft.vendor, str) or draft.vendor not in list(Vendor):
        return draft
    if draft.delivery_method not in (UNSET, None, DeliveryMethod.SMTP.value):
        return draft
    row = vendor_row(Vendor(draft.vendor))
    region = draft.options.get("aws_region")
    secrets = _with_username(row, draft.secrets)
    return replace(
        draft,
        host=_or(draft.host, row.host_in(region.strip() if isinstance(region, str) else "") or UNSET),
        port=_or(draft.port, row.smtp_port or UNSET),
        auth=_or(draft.auth, "plain" if row.smtp_host and not _blank(secrets.get(_LOGIN[1])) else UNSET),
        secrets=secrets,
    )


def _with_username(row: VendorRow, secrets: Mapping[str, object]) -> Mapping[str, object]:
    username, password = _LOGIN
    if not _blank(secrets.get(username)) or _blank(secrets.get(password)):
        return secrets
    if row.smtp_username:
        return {**secrets, username: row.smtp_username}
    return {**secrets, username: secrets[password]} if row.password_is_username else secrets


def _or(given: object, default: object) -> object:
    return default if given is UNSET or _blank(given) else given


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
