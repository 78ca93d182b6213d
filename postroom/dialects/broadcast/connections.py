"""The email server calls: list, show, create, update, delete, test, copy to another channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postroom.actions import connections
from postroom.actions.connection_draft import (
    FLAG_OPTIONS,
    STARTTLS_OPTION,
    TEXT_OPTIONS,
    ConnectionChanges,
    ConnectionDraft,
    ConnectionRules,
)
from postroom.actions.probes import sentence
from postroom.actions.servers import get_server
from postroom.core.connection import Connection
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.dialects.broadcast.calls import CHANNEL, Answer, Call, number_or_missing
from postroom.dialects.broadcast.schema import BY_NAME, email_server, looks_masked
from postroom.dialects.broadcast.warnings import Warnings
from postroom.errors import Denied, Invalid
from postroom.http.paging import page_of
from postroom.ids import ConnectionId, ServerId
from postroom.transports.interface import Fault

WRAPPER = "email_server"
RULES = ConnectionRules(hourly_cap_required=True, login_required=True)
_FALSE = (False, "0", "false")  # 0 equals False


async def index(call: Call) -> Answer:
    """The channel's own email servers, oldest first; `total` counts all of them."""
    page = page_of(call.query)
    found, total = await connections.list_connections(
        call.ctx, await call.channel(), limit=page.limit, offset=page.offset, with_secrets=True
    )
    return Answer({"data": [email_server(one) for one in found], "total": total})


async def show(call: Call) -> Answer:
    """One email server."""
    owner = await call.channel()
    return Answer(email_server(await _get(call, owner)))


async def create(call: Call) -> Answer:
    """A new email server."""
    owner = await call.channel()
    given = call.wrapped(WRAPPER, may_be_empty=False)
    warnings = _top_level_warnings(call)
    draft = ConnectionDraft(**_settings(given, warnings))
    made = await connections.create_connection(call.ctx, call.actor, owner, draft, RULES)
    return Answer(warnings.onto(email_server(made)), 201)


async def update(call: Call) -> Answer:
    """Some fields of an email server changed; the whole of it comes back."""
    owner = await call.channel()
    given = dict(call.wrapped(WRAPPER, may_be_empty=True))
    warnings = _top_level_warnings(call)
    current = await _get(call, owner)
    if _echoes_failure(given, current):
        del given["active"]
        warnings.ignored("active", "it repeats that the last test failed")
    settings = _settings(given, warnings)
    if not any(settings.values()) and set(settings) == {"secrets", "options"}:
        return Answer(warnings.onto(email_server(current)))
    changed = await connections.update_connection(
        call.ctx, call.actor, owner, current.connection_id, ConnectionChanges(**settings), RULES
    )
    if given.get("active") not in (None, *_FALSE) and not changed.active:
        warnings.add(
            "parameter_overridden", "active", "It stays inactive until a connection test or a try succeeds"
        )
    return Answer(warnings.onto(email_server(changed)))


async def delete(call: Call) -> Answer:
    """The email server and its secrets are gone."""
    owner = await call.channel()
    number = ConnectionId(call.id("connection"))
    await connections.delete_connection(call.ctx, call.actor, owner, number)
    return Answer({"message": "Email server deleted successfully"})


async def test_connection(call: Call) -> Answer:
    """Log in and out again. Success makes it active, failure inactive with a time."""
    owner = await call.channel()
    number = ConnectionId(call.id("connection"))
    probed = await connections.test_connection(call.ctx, call.actor, owner, number)
    warnings = Warnings()
    if not probed.recorded and (probed.passed or probed.outcome.fault is not Fault.OURS):
        warnings.add("result_not_recorded", "id", "The settings were changed while the test ran")
    if probed.passed:
        return Answer(warnings.onto({"success": True, "message": "Connection successful"}))
    body = {"success": False, "message": "Connection failed", "error": sentence(probed.outcome)}
    return Answer(warnings.onto(body), 422)


async def copy_to_channel(call: Call) -> Answer:
    """A copy, secrets included, in another channel of the account; active and never failed."""
    if call.key.server_id is not None:
        raise Denied("Admin API token required for cross-channel operations")
    owner = await call.channel()
    original = await _get(call, owner)
    wanted = call.body.get("target_channel_id")
    if wanted is None or wanted == "":
        raise Invalid("target_channel_id", "can't be blank")
    target = Owner(call.key.account_id, ServerId(number_or_missing(wanted, "server")))
    await get_server(call.ctx, Owner(call.key.account_id), ServerId(target.server_id or 0))
    warnings = Warnings()
    warnings.unrecognized(sorted(set(call.body) - {"target_channel_id", CHANNEL}))
    made = await connections.create_connection(call.ctx, call.actor, target, _copied(original))
    return Answer(warnings.onto(email_server(made)), 201)


async def _get(call: Call, owner: Owner) -> Connection:
    number = ConnectionId(call.id("connection"))
    return await connections.get_connection(call.ctx, owner, number, with_secrets=True)


def _top_level_warnings(call: Call) -> Warnings:
    warnings = Warnings()
    warnings.unrecognized(name for name in call.body if name not in (WRAPPER, CHANNEL))
    return warnings


def _settings(given: Mapping[str, object], warnings: Warnings) -> dict[str, Any]:
    """What was sent, as arguments of ConnectionChanges (Any: they check the values themselves)."""
    settings: dict[str, Any] = {}
    secrets: dict[str, object] = {}
    options: dict[str, object] = {}
    for name, value in given.items():
        field = BY_NAME.get(name)
        if field is None:
            warnings.unrecognized([name])
        elif field.read_only:
            warnings.ignored(name, "it is read-only")
        elif field.attribute:
            settings[field.attribute] = value
        elif field.option:
            options[name] = value
        elif looks_masked(value):
            warnings.ignored(name, "it holds the masked value of an answer; the stored one stays")
        else:
            secrets[name] = value
    return {**settings, "secrets": secrets, "options": options}


def _echoes_failure(given: Mapping[str, object], current: Connection) -> bool:
    """Whether `active: false` is only an answer sent back whole, not a wish to switch off.

    A failed email server is shown inactive. Saving it as it was fetched must not turn the owner's switch.
    """
    return (
        given.get("active", True) in _FALSE
        and current.enabled
        and not current.active
        and ("id" in given or "connection_failed_at" in given)
    )


def _copied(original: Connection) -> ConnectionDraft:
    return ConnectionDraft(
        label=original.label,
        vendor=original.vendor.value,
        delivery_method=original.delivery_method.value,
        for_broadcast=Purpose.BROADCAST in original.purposes,
        for_sequence=Purpose.SEQUENCE in original.purposes,
        for_transactional=Purpose.TRANSACTIONAL in original.purposes,
        hourly_cap=original.hourly_cap,
        daily_cap=original.daily_cap,
        host=original.host,
        port=original.port or None,
        security=original.security.value,
        auth=original.auth,
        sender=original.sender,
        secrets=dict(original.secrets),
        options={
            name: value
            for name, value in original.options.items()
            if name in (*FLAG_OPTIONS, *TEXT_OPTIONS) and name != STARTTLS_OPTION
        },
    )
