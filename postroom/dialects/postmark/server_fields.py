"""The server object: each field once, with how it is shown, and where what only this API knows is kept.

The product's spelling stays here; the server's options have our own names. `server_changes` reads what is
sent. A login in a hook's URL is kept sealed, its password shown as a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from postroom.actions.server_secrets import Opened
from postroom.core.server import Server
from postroom.transports.hook_url import Hook

COLORS = ("purple", "blue", "turquoise", "green", "red", "yellow", "grey", "orange")
TRACK_LINKS = ("None", "HtmlAndText", "HtmlOnly", "TextOnly")
LIVE, SANDBOX = "Live", "Sandbox"
MASK = "********"
MOST_THRESHOLD = 30


@dataclass(frozen=True)
class Option:
    """A field that is one entry of the server's options. `type` and `more` are JSON Schema."""

    name: str
    option: str
    type: str
    default: object
    meaning: str
    more: Mapping[str, object] | None = None


FLAGS = (
    Option("RawEmailEnabled", "raw_email", "boolean", False, "Inbound hooks get the whole message too."),
    Option("PostFirstOpenOnly", "first_open_only", "boolean", False, "The open hook tells first opens only."),
    Option("TrackOpens", "track_opens", "boolean", False, "Opens of all HTML mail are tracked."),
    Option("IncludeBounceContentInHook", "bounce_content", "boolean", False,
           "The bounce hook gets the bounce message."),
    Option("EnableSmtpApiErrorHooks", "smtp_error_hooks", "boolean", False,
           "The bounce hook hears of mail refused at submission."),
)  # fmt: skip
HOOKS = (
    Option("InboundHookUrl", "inbound_hook", "string", "", "Hears of inbound mail."),
    Option("BounceHookUrl", "bounce_hook", "string", "", "Hears of bounces."),
    Option("OpenHookUrl", "open_hook", "string", "", "Hears of opens."),
    Option("DeliveryHookUrl", "delivery_hook", "string", "", "Hears of deliveries."),
    Option("ClickHookUrl", "click_hook", "string", "", "Hears of clicks."),
)
COLOR = Option("Color", "color", "string", "purple", "For people to tell servers apart.", {"enum": [*COLORS]})
LINKS = Option(
    "TrackLinks", "track_links", "string", "None", "Which parts' links are tracked.", {"enum": [*TRACK_LINKS]}
)
THRESHOLD = Option(
    "InboundSpamThreshold", "spam_threshold", "integer", 0, "Inbound mail above this score is blocked.",
    {"minimum": 0, "maximum": MOST_THRESHOLD},
)  # fmt: skip
OPTIONS = {one.name: one for one in (*FLAGS, *HOOKS, COLOR, LINKS, THRESHOLD)}


@dataclass(frozen=True)
class Seen:
    """A server on its way out."""

    server: Server
    secrets: Opened
    site: str
    inbound_domain: str
    tokens: bool


# In the order of the product's documentation.
SHOW: Mapping[str, Callable[[Seen], object]] = {
    "ID": lambda s: s.server.server_id,
    "Name": lambda s: s.server.name,
    "ApiTokens": lambda s: list(s.secrets.tokens) if s.tokens else [],
    "Color": lambda s: _option(s, COLOR),
    "SmtpApiActivated": lambda s: s.server.smtp_enabled,
    "RawEmailEnabled": lambda s: _option(s, OPTIONS["RawEmailEnabled"]),
    "DeliveryType": lambda s: SANDBOX if s.server.sandbox else LIVE,
    "ServerLink": lambda s: f"{s.site}/app/servers/{s.server.server_id}/streams",
    "InboundAddress": lambda s: f"{s.server.inbound_hash}@{s.inbound_domain}",
    "InboundHookUrl": lambda s: _hook(s, OPTIONS["InboundHookUrl"]),
    "BounceHookUrl": lambda s: _hook(s, OPTIONS["BounceHookUrl"]),
    "OpenHookUrl": lambda s: _hook(s, OPTIONS["OpenHookUrl"]),
    "DeliveryHookUrl": lambda s: _hook(s, OPTIONS["DeliveryHookUrl"]),
    "PostFirstOpenOnly": lambda s: _option(s, OPTIONS["PostFirstOpenOnly"]),
    "InboundDomain": lambda s: s.server.inbound_domain,
    "InboundHash": lambda s: s.server.inbound_hash,
    "InboundSpamThreshold": lambda s: _option(s, THRESHOLD),
    "TrackOpens": lambda s: _option(s, OPTIONS["TrackOpens"]),
    "TrackLinks": lambda s: _option(s, LINKS),
    "IncludeBounceContentInHook": lambda s: _option(s, OPTIONS["IncludeBounceContentInHook"]),
    "ClickHookUrl": lambda s: _hook(s, OPTIONS["ClickHookUrl"]),
    "EnableSmtpApiErrorHooks": lambda s: _option(s, OPTIONS["EnableSmtpApiErrorHooks"]),
}


def shown(
    server: Server, secrets: Opened, site: str, inbound_domain: str, *, tokens: bool
) -> dict[str, object]:
    """The server object. site: where people reach us. tokens: whether the caller may see them."""
    seen = Seen(server, secrets, site, inbound_domain, tokens)
    return {name: show(seen) for name, show in SHOW.items()}


def _option(seen: Seen, field: Option) -> object:
    return seen.server.options.get(field.option, field.default)


def _hook(seen: Seen, field: Option) -> object:
    url = str(_option(seen, field))
    return shown_hook(url, seen.secrets.hook_logins.get(field.option, "")) if url else ""


def shown_hook(url: str, login: str) -> str:
    """A hook's URL with its login, the password masked."""
    user, colon, _ = login.partition(":")
    return Hook(url).with_login(f"{user}{colon}{MASK if colon else ''}")
