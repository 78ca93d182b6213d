"""What a request says of a server, read and checked: each fault by its code, the first one found.

Absent and null leave a field as it is; "" clears a URL or the inbound domain. A hook's URL that comes back
with the mask as its password keeps the password that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.actions.changes import UNSET, Unset
from postroom.actions.server_secrets import Opened
from postroom.core.server import Server
from postroom.dialects.postmark.calls import Call
from postroom.dialects.postmark.errors import ApiError
from postroom.dialects.postmark.fields import Fields
from postroom.dialects.postmark.server_fields import (
    COLOR,
    COLORS,
    FLAGS,
    HOOKS,
    LINKS,
    LIVE,
    MASK,
    MOST_THRESHOLD,
    OPTIONS,
    SANDBOX,
    THRESHOLD,
    TRACK_LINKS,
    Option,
    shown_hook,
)
from postroom.transports.hook_url import NotAHook, read_hook

WRITABLE = ("Name", "SmtpApiActivated", "DeliveryType", "InboundDomain", *OPTIONS)


@dataclass
class Wanted:
    """What was sent, as the action takes it."""

    name: str | Unset = UNSET
    smtp_enabled: bool | Unset = UNSET
    inbound_domain: str | Unset = UNSET
    sandbox: bool | Unset = UNSET
    options: dict[str, object] = field(default_factory=dict)
    hook_logins: dict[str, str | None] = field(default_factory=dict, repr=False)


def read_changes(call: Call, current: Server | None = None, secrets: Opened | None = None) -> Wanted:
    """What the body says. current, secrets: the server it changes; None: a new one. Raises ApiError."""
    fields, wanted = call.fields, Wanted()
    name = fields.text("Name")
    if name is not None:
        wanted.name = name
    elif current is None:
        raise ApiError(608, "is required")
    flag = fields.flag("SmtpApiActivated")
    if flag is not None:
        wanted.smtp_enabled = flag
    _delivery_type(fields, current, wanted)
    for one in FLAGS:
        _keep(wanted.options, one, fields.flag(one.name))
    _keep(wanted.options, COLOR, fields.one_of("Color", COLORS, 607))
    _keep(wanted.options, LINKS, fields.one_of("TrackLinks", TRACK_LINKS, 612))
    threshold = fields.whole("InboundSpamThreshold", 611)
    if threshold is not None and not 0 <= threshold <= MOST_THRESHOLD:
        raise ApiError(611)
    _keep(wanted.options, THRESHOLD, threshold)
    for one in HOOKS:
        _hook(call, one, current, secrets or Opened(), wanted)
    _inbound_domain(call, wanted)
    return wanted


def _keep(options: dict[str, object], one: Option, value: object) -> None:
    if value is not None:
        options[one.option] = value


def _delivery_type(fields: Fields, current: Server | None, wanted: Wanted) -> None:
    word = fields.one_of("DeliveryType", (LIVE, SANDBOX), 613)
    if word is None:
        return
    sandbox = word == SANDBOX
    if current is None:
        wanted.sandbox = sandbox
    elif current.sandbox != sandbox:
        raise ApiError(615, "'DeliveryType' cannot be changed after the server was created")


def _hook(call: Call, one: Option, current: Server | None, secrets: Opened, wanted: Wanted) -> None:
    if call.fields.is_cleared(one.name):
        wanted.options[one.option] = None
        wanted.hook_logins[one.option] = None
        return
    text = call.fields.text(one.name)
    if text is None:
        return
    try:
        hook = read_hook(text, call.dial_private)
    except NotAHook as error:
        raise ApiError(606, text=f"'{one.name}' {error}.") from None
    login: str | None = hook.login or None
    if login is not None and login.partition(":")[2] == MASK:
        login = _kept_login(one, hook.url, login, current, secrets)
    wanted.options[one.option] = hook.url
    wanted.hook_logins[one.option] = login


def _kept_login(one: Option, url: str, login: str, current: Server | None, secrets: Opened) -> str:
    """The stored login, where the URL is the one it was shown with. Raises ApiError(606)."""
    options: Mapping[str, object] = current.options if current is not None else {}
    stored = secrets.hook_logins.get(one.option, "")
    if stored and shown_hook(str(options.get(one.option, "")), stored) == shown_hook(url, login):
        return stored
    raise ApiError(606, text=f"'{one.name}' holds a mask in place of its password.")


def _inbound_domain(call: Call, wanted: Wanted) -> None:
    if call.fields.is_cleared("InboundDomain"):
        wanted.inbound_domain = ""
    domain = call.fields.text("InboundDomain")
    if domain is None:
        return
    ours, named = call.inbound_domain.lower(), domain.strip().removeprefix("*.").rstrip(".").lower()
    if named == ours or named.endswith(f".{ours}"):
        raise ApiError(608, text=f"'InboundDomain' must not be in {ours}, which is ours.")
    wanted.inbound_domain = domain.strip()
