"""SMTP submission of one process: which listeners it has, what TLS they show, who may log in."""

from __future__ import annotations

import asyncio
import socket

from postroom.config import Settings
from postroom.dialects.postmark.smtp import PostmarkWay
from postroom.folder import TLS_NAME
from postroom.host_names import helo_name
from postroom.inbound.submission import ClearAuth, SubmissionServer
from postroom.inbound.tls import ServerTls, server_tls
from postroom.of_settings import session_limits
from postroom.peers import is_loopback
from postroom.serving.listeners import Listeners
from postroom.wiring import PostRoom


async def submission_tls(settings: Settings, listeners: Listeners) -> ServerTls | None:
    """What the listeners show; read before anything is sent, so that a bad file stops the start.

    Raises Invalid, Unavailable.
    """
    clear, secure = listeners.get("smtp"), listeners.get("smtps")
    if secure is None and (clear is None or not _offers_starttls(settings, clear)):
        return None
    name = settings.helo_name or helo_name()
    return await asyncio.to_thread(
        server_tls, settings.data / TLS_NAME, name, settings.smtp_tls_cert, settings.smtp_tls_key
    )


async def start_submission(
    room: PostRoom, listeners: Listeners, tls: ServerTls | None
) -> SubmissionServer | None:
    """On `smtp` and `smtps`; None where this `serve` has neither. Raises OSError."""
    clear, secure = listeners.get("smtp"), listeners.get("smtps")
    if clear is None:
        return None
    settings = room.settings
    starttls = _offers_starttls(settings, clear)
    server = SubmissionServer(
        room.ctx,
        tls=tls.context if tls is not None and starttls else None,
        clear_auth=ClearAuth.ALWAYS if settings.smtp_clear_auth else ClearAuth.LOOPBACK,
        host_name=settings.helo_name or helo_name(),
        instance=room.instance,
        tell_client=settings.submission_tell_client,
        limits=session_limits(settings),
        token_way=PostmarkWay(),
    )
    try:
        await server.start(clear, share=listeners.share("smtp"))
        if secure is not None:
            assert tls is not None
            await server.start(secure, tls.context)
    except BaseException:
        await server.stop()
        raise
    return server


def _offers_starttls(settings: Settings, clear: socket.socket) -> bool:
    # No self-made certificate on loopback: many libraries take STARTTLS when it is offered, and fail.
    return settings.smtp_tls_cert is not None or not is_loopback(clear.getsockname()[0])
