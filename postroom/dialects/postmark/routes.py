"""This API as an application of its own: what is Postmark's in how requests are read and answered."""

from __future__ import annotations

from postroom.actions.context import Context
from postroom.dialects.postmark.calls import Call, key_of, read
from postroom.dialects.postmark.errors import told
from postroom.dialects.postmark.openapi import OPENAPI
from postroom.dialects.postmark.operations import OPERATIONS
from postroom.errors import Denied
from postroom.http.asgi import ASGIApp
from postroom.http.surface import ApiSettings, Surface, surface_app

PATHS = (
    *("/servers", "/server", "/message-streams", "/email", "/bounces", "/deliverystats", "/templates"),
    *("/messages", "/triggers", "/stats", "/webhooks", "/domains", "/senders", "/data-removals"),
)
PREFIX = "/postmark"


def postmark_app(ctx: Context, settings: ApiSettings) -> ASGIApp:
    """The application; it sees paths in lower case and without a slash at their end."""
    more = {
        "site": settings.base_url.rstrip("/"),
        "inbound_domain": settings.inbound_domain,
        "dial_private": settings.dial_private,
    }
    surface = Surface(
        base="",
        operations=(OPENAPI, *OPERATIONS),
        call=Call,
        documented_rate=0,  # the product names none
        told=told,
        refused=Denied(),
        more=lambda _: more,
        read=read,
        key_of=key_of,
    )
    return surface_app(ctx, settings, surface)
