"""Discovery: who a key is, how its channel stands, and what this API can do, for people and programs."""

from __future__ import annotations

import re

from postroom import __version__
from postroom.actions.connections import list_connections
from postroom.actions.servers import get_server
from postroom.clock import to_iso
from postroom.core.key import Scope
from postroom.core.message import Purpose
from postroom.core.server import Owner, Server
from postroom.dialects.broadcast.calls import Answer, Call
from postroom.mail.address import parse_mailbox
from postroom.mail.content import Mailbox
from postroom.secret import BULLETS

_MOST_CONNECTIONS = 250


async def whoami(call: Call) -> Answer:
    """The key that asks, and its channel."""
    key = call.key
    kind = "admin_cross_channel" if key.server_id is None else "channel_scoped"
    channel = await _channel(call)
    return Answer(
        {
            "token": {
                "label": key.label,
                "type": kind,
                "redacted_value": key.hint[:4] + BULLETS + key.hint[-4:],
                "last_used_at": to_iso(key.last_used_at_us),
                "permissions": {scope.value: key.may(scope) for scope in Scope if scope is not Scope.ALL},
            },
            "channel": None
            if channel is None
            else {"id": channel.server_id, "name": channel.name, "slug": _slug(channel.name)},
            "token_type": kind,
            "type": kind,
        }
    )


async def status(call: Call) -> Answer:
    """Whether the channel is ready to send, by purpose."""
    owner = await call.channel()
    assert owner.server_id is not None
    channel = await get_server(call.ctx, owner, owner.server_id)
    sender = _sender(channel)
    ready: set[Purpose] = set()
    for whose in (owner, Owner(owner.account_id)):
        found, _ = await list_connections(call.ctx, whose, limit=_MOST_CONNECTIONS)
        for connection in found:
            if connection.active:
                ready |= connection.purposes
    if sender is None:
        ready.clear()
    return Answer(
        {
            "channel": {
                "name": channel.name,
                "sender_email": None if sender is None else sender.address,
                "sender_name": None if sender is None else sender.name or None,
            },
            "subscribers": {"total": 0, "active": 0},
            "readiness": {
                "broadcasts": Purpose.BROADCAST in ready,
                "sequences": Purpose.SEQUENCE in ready,
                "transactionals": Purpose.TRANSACTIONAL in ready,
            },
        }
    )


async def prime(call: Call) -> Answer:
    """What a program needs to know before it begins."""
    from postroom.dialects.broadcast.operations import OPERATIONS

    return Answer(
        {
            "platform": {"name": "Postroom", "version": __version__},
            "capabilities": ["email_servers", "transactionals", "suppressions"],
            "rate_limit": {"requests_per_minute": call.rate_per_minute},
            "endpoints": [
                {"method": one.method, "path": "/api/v1" + one.path, "summary": one.summary}
                for one in OPERATIONS
            ],
            "tips": [
                "Create an email server, test its connection, then send transactionals.",
                "Send an Idempotency-Key with each transactional, and repeat it when you try again.",
                "An account key names broadcast_channel_id in each call.",
                "Values shown masked may be sent back: they never replace what is stored.",
                "At the hourly cap mail waits; it is not refused.",
            ],
        }
    )


async def skill(call: Call) -> Answer:
    """The same as a text to read."""
    from postroom.dialects.broadcast.operations import OPERATIONS

    lines = [
        "# Sending email with Postroom by Broadcast's API",
        "",
        f"Base URL: {call.base_url}/api/v1. Every call carries `Authorization: Bearer YOUR_KEY`;",
        "bodies are JSON.",
        "",
        "1. POST /email_servers with an `email_server` object: label, smtp_address, smtp_port,",
        "   smtp_username, smtp_password, smtp_authentication (plain, login, cram_md5), emails_per_hour",
        "   (15 or more), and one of use_for_transactionals, use_for_broadcasts, use_for_sequences true.",
        "2. POST /email_servers/ID/test_connection: 200 when it connects and logs in, 422 with the cause.",
        "3. POST /transactionals.json with to, subject and body (HTML or plain text): 201 once it is stored.",
        "4. GET /transactionals/ID.json: sent_at is null until the receiving server took it.",
        "",
        'Errors are `{"error": "..."}`; unknown parameters are remarked on in `warnings`, not refused.',
        f"Requests a minute for each key: {call.rate_per_minute or 'not limited'}.",
        "",
        "## All calls",
        "",
        *(f"- {one.method} {one.path}: {one.summary}" for one in OPERATIONS),
        "",
    ]
    return Answer("\n".join(lines), content_type="text/plain; charset=utf-8")


async def _channel(call: Call) -> Server | None:
    owner = await call.named_channel()
    if owner is None or owner.server_id is None:
        return None
    return await get_server(call.ctx, owner, owner.server_id)


def _sender(channel: Server) -> Mailbox | None:
    return parse_mailbox(channel.default_sender, "sender") if channel.default_sender else None


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "channel"
