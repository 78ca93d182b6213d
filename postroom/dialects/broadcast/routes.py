"""This API as an application of its own: what is Broadcast's in how requests are read and answered."""

from __future__ import annotations

from postroom.actions.context import Context
from postroom.dialects.broadcast.calls import Call
from postroom.dialects.broadcast.errors import told
from postroom.dialects.broadcast.openapi import BASE, OPENAPI
from postroom.dialects.broadcast.operations import OPERATIONS
from postroom.errors import Unauthenticated
from postroom.http.asgi import ASGIApp
from postroom.http.surface import ApiSettings, Surface, surface_app

PATHS = (BASE,)
PREFIX = "/broadcast"
SURFACE = Surface(
    base=BASE,
    operations=(*OPERATIONS, OPENAPI),
    call=Call,
    documented_rate=120,
    told=told,
    refused=Unauthenticated(),  # this API does not tell a key without a permission from no key
    suffix=".json",
)


def broadcast_app(ctx: Context, settings: ApiSettings) -> ASGIApp:
    """The application; it sees paths from `/api/v1` on."""
    return surface_app(ctx, settings, SURFACE)
