"""Dialects on a real socket, for clients that do not know they are in a test."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from postroom.actions.context import Context
from postroom.http.app import http_app
from postroom.http.asgi import ASGIApp
from postroom.http.server import serve_http
from postroom.http.surface import ApiSettings
from postroom.wiring import api_mounts


def application(
    ctx: Context,
    *,
    rate_per_minute: int | None = 0,
    most_body_bytes: int = 1 << 20,
    missing: Sequence[str] = (),
) -> ASGIApp:
    """Every dialect at its paths, as `serve` mounts them. rate_per_minute: as the setting; 0: no limit."""
    settings = ApiSettings(
        "http://post.example",
        rate_per_minute=rate_per_minute,
        most_body_bytes=most_body_bytes,
        inbound_domain="inbound.post.example",
    )
    return http_app(api_mounts(ctx, settings), lambda: missing, most_body_bytes=most_body_bytes)


@asynccontextmanager
async def running_app(
    ctx: Context, *, rate_per_minute: int | None = 0, most_body_bytes: int = 1 << 20
) -> AsyncIterator[str]:
    """The application on a free port of loopback; yields its base URL."""
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    app = application(ctx, rate_per_minute=rate_per_minute, most_body_bytes=most_body_bytes)
    handle = await serve_http(app, sock, drain_s=2.0)
    try:
        yield url
    finally:
        await handle.stop()
