"""The provider calls: list, show, create, update, delete, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from postroom.actions import connections
from postroom.actions.checks import BLANK, check_label, raise_any
from postroom.actions.connection_draft import (
    NOT_LISTED,
    ConnectionChanges,
    ConnectionDraft,
    ConnectionRules,
)
from postroom.actions.probes import trouble
from postroom.core.connection import Connection
from postroom.dialects.b2core.calls import Call
from postroom.dialects.b2core.errors import StatusFailed
from postroom.dialects.b2core.schema import BY_NAME, DRIVER, FIELDS, SECURITY, WIRE_NAMES, provider, sender
from postroom.errors import FieldError, Invalid
from postroom.http.calls import Answer
from postroom.http.paging import page_of
from postroom.ids import ConnectionId
from postroom.mail.address import parse_address, write_mailbox
from postroom.mail.content import Mailbox
from postroom.transports.interface import Result

RULES = ConnectionRules(login_required=True, keep_one_enabled=True)
MOST_ROWS = 250
_KIND = "connection"
_FLAGS: Mapping[object, bool] = {True: True, False: False, "1": True, "0": False}  # 1 equals True


async def index(call: Call) -> Answer:
    """The key's providers, oldest first, as a bare array; how many there are in all is in a header."""
    page = page_of(call.query, default=MOST_ROWS, most=MOST_ROWS)
    found, total = await connections.list_connections(
        call.ctx, call.owner, limit=page.limit, offset=page.offset, with_secrets=True
    )
    return Answer([provider(one) for one in found], headers={"X-Total-Count": str(total)})


async def show(call: Call) -> Answer:
    """One provider."""
    return Answer(provider(await _get(call)))


async def status(call: Call) -> Answer:
    """Connect, secure, log in, quit; nothing is sent and nothing is written down. No body says it works."""
    outcome = await connections.try_connection(call.ctx, call.owner, ConnectionId(call.id(_KIND)))
    if outcome.result is not Result.SENT:
        raise StatusFailed(trouble(outcome), outcome.text)
    return Answer(None, 204)


async def create(call: Call) -> Answer:
    """A new provider."""
    errors: list[FieldError] = []
    draft = ConnectionDraft(for_transactional=True, auth="auto", **_settings(call.body, None, errors))
    _raise_all(errors, connections.faults(call.owner, None, draft, RULES))
    made = await connections.create_connection(call.ctx, call.actor, call.owner, draft, RULES)
    return Answer(provider(made), 201)


async def update(call: Call) -> Answer:
    """Some fields of a provider changed; the whole of it comes back."""
    current = await _get(call)
    errors: list[FieldError] = []
    settings = _settings(call.body, current, errors)
    changes = ConnectionChanges(**settings)
    _raise_all(errors, connections.faults(call.owner, current, changes, RULES))
    if not settings:
        return Answer(provider(current))
    changed = await connections.update_connection(
        call.ctx,
        call.actor,
        call.owner,
        current.connection_id,
        changes,
        RULES,
        # Half of a sender may be the stored one.
        expected_version=current.version if "sender" in settings else None,
    )
    return Answer(provider(changed))


async def delete(call: Call) -> Answer:
    """The provider and its secrets are gone."""
    number = ConnectionId(call.id(_KIND))
    await connections.delete_connection(call.ctx, call.actor, call.owner, number, RULES)
    return Answer(None, 204)


async def _get(call: Call) -> Connection:
    number = ConnectionId(call.id(_KIND))
    return await connections.get_connection(call.ctx, call.owner, number, with_secrets=True)


def _raise_all(errors: list[FieldError], faults: Sequence[FieldError]) -> None:
    """One error with what this API finds wrong and what everybody would, each field once."""
    if errors:
        known = {one.field for one in errors}
        raise_any(errors + [one for one in faults if WIRE_NAMES.get(one.field, one.field) not in known])


def _settings(
    given: Mapping[str, object], current: Connection | None, errors: list[FieldError]
) -> dict[str, Any]:
    """What was sent, as arguments of ConnectionChanges (Any: they check the values themselves).

    current: None for a new one, which must have all that is required. What this API finds wrong itself goes
    to `errors`; names nobody knows are passed over.
    """
    sent = {name: given[name] for name in given if name in BY_NAME and BY_NAME[name].writable}
    for field in FIELDS:
        if field.name not in sent:
            if field.required and field.writable and current is None:
                errors.append(FieldError(field.name, BLANK))
        elif field.required and sent[field.name] in (None, ""):  # nothing here can be cleared
            errors.append(FieldError(field.name, BLANK))
            del sent[field.name]
    settings: dict[str, Any] = {}
    for wire, ours in (("host", "host"), ("port", "port")):
        if wire in sent:
            settings[ours] = sent[wire]
    if isinstance(sent.get("port"), str | float):
        errors.append(FieldError("port", "must be an integer"))
        del settings["port"]
    secrets = {f"smtp_{name}": sent[name] for name in ("username", "password") if name in sent}
    if secrets:
        settings["secrets"] = secrets
    _listed(sent, "driver", {DRIVER: None}, errors)
    security = _listed(sent, "encryption", SECURITY, errors)
    if security is not None:
        settings["security"] = security.value
    enabled = _listed(sent, "isEnabled", _FLAGS, errors)
    if enabled is not None:
        settings["enabled"] = enabled
    _caption(sent, settings, current)
    _sender(sent, settings, current, errors)
    return settings


def _listed(sent: Mapping[str, object], name: str, known: Mapping[Any, Any], errors: list[FieldError]) -> Any:
    """What a word of a closed list means to us; an error for another (Any: of the caller's table)."""
    if name not in sent:
        return None
    value = sent[name]
    if isinstance(value, str | int) and value in known:
        return known[value]
    errors.append(FieldError(name, NOT_LISTED))
    return None


def _caption(sent: Mapping[str, object], settings: dict[str, Any], current: Connection | None) -> None:
    """Without one a provider is called like its host, as it must be called something."""
    caption = sent.get("caption")
    if caption is not None and caption != "":
        settings["label"] = caption
    elif current is None or "caption" in sent:
        host = sent.get("host", current.host if current else "")
        settings["label"] = host if isinstance(host, str) and host.strip() else DRIVER


def _sender(
    sent: Mapping[str, object],
    settings: dict[str, Any],
    current: Connection | None,
    errors: list[FieldError],
) -> None:
    if "sendFrom" not in sent and "sendFromName" not in sent:
        return
    stored = sender(current) if current is not None else Mailbox("")
    address, name = sent.get("sendFrom", stored.address), sent.get("sendFromName", stored.name)
    found: list[FieldError] = []
    for field, value in (("sendFrom", address), ("sendFromName", name)):
        try:
            if field == "sendFromName":
                name = check_label(value, field, found) if value else ""
            elif isinstance(value, str):
                address = parse_address(value, field).text
            else:
                raise Invalid(field, "must be text")
        except Invalid as error:
            reason = error.errors[0].reason
            # The product's own clients know one reason; which rule it breaks stays ours.
            found.append(FieldError(field, "is not a valid email address" if ":" in reason else reason))
    errors += found
    if not found and address:
        settings["sender"] = write_mailbox(Mailbox(str(address), str(name)))
