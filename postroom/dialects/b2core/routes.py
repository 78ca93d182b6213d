"""This API as an application of its own: what is B2CORE's in how requests are read and answered."""

from __future__ import annotations

from postroom.actions.context import Context
from postroom.dialects.b2core.calls import Call, more
from postroom.dialects.b2core.errors import told
from postroom.dialects.b2core.openapi import BASE, OPENAPI
from postroom.dialects.b2core.operations import OPERATIONS
from postroom.errors import Denied
from postroom.http.asgi import ASGIApp
from postroom.http.surface import ApiSettings, Surface, surface_app

PATHS = (f"{BASE}/providers",)
PREFIX = "/b2core"
SURFACE = Surface(
    base=BASE,
    operations=(OPENAPI, *OPERATIONS),
    call=Call,
    documented_rate=120,  # the product names none
    told=told,
    refused=Denied(),
    more=more,
)


def b2core_app(ctx: Context, settings: ApiSettings) -> ASGIApp:
    """The application; it sees paths from `/api/v2/mail/providers` on."""
    return surface_app(ctx, settings, SURFACE)
