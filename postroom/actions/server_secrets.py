"""What of a server is secret and shown again: its own keys, and the logins in its hooks' URLs.

Keys are stored as hashes. The one a server is made with by a way in that promises to show it is kept sealed
beside its hash, for as long as it is in force.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from postroom.actions import sealing
from postroom.actions.connection_secrets import read_opened
from postroom.actions.context import Actor, Context
from postroom.actions.trail import HIDDEN
from postroom.core.key import Key, NewKey, Scope
from postroom.core.server import Server
from postroom.errors import Unavailable
from postroom.ids import AccountId, ServerId
from postroom.keyring import KeyringError
from postroom.storage import audit, keys, server_secrets
from postroom.storage.interface import Work
from postroom.storage.server_secrets import SECRETS_TABLE, ServerSecret

TOKEN_LABEL = "API token"  # noqa: S105  # a name, no secret


@dataclass(frozen=True)
class Opened:
    """A server's own keys, oldest first, and by the hook's name `user:password` of its URL."""

    tokens: list[str] = field(default_factory=list, repr=False)
    hook_logins: dict[str, str] = field(default_factory=dict, repr=False)


async def secrets_of(
    ctx: Context, account_id: AccountId, server_ids: Sequence[ServerId]
) -> dict[ServerId, Opened]:
    """Of each of these servers. Raises Unavailable when the key file does not open one."""
    if not server_ids:
        return {}
    return await read_opened(ctx, lambda: _read(ctx, account_id, server_ids))


async def is_shown(ctx: Context, key: Key) -> bool:
    """Whether this is one of a server's own keys that are shown, not one that a person was told once."""
    server_id = key.server_id
    if server_id is None:
        return False
    field = server_secrets.token_field(key.key_id)
    found = await ctx.store.read(lambda: server_secrets.list_of(key.account_id, [server_id]))
    return any(one.field == field for one in found)


def _read(
    ctx: Context, account_id: AccountId, server_ids: Sequence[ServerId]
) -> Work[dict[ServerId, Opened]]:
    found = {one: Opened() for one in server_ids}
    for secret in (yield from server_secrets.list_of(account_id, server_ids)):
        text = _open(ctx, secret)
        if server_secrets.is_token(secret):
            found[secret.server_id].tokens.append(text)
        else:
            found[secret.server_id].hook_logins[secret.field] = text
    return found


def store_token(ctx: Context, actor: Actor, server: Server, made: NewKey, at_us: int) -> Work[None]:
    """A key of a new server that may everything, and its text sealed."""
    scopes: frozenset[str] = frozenset({Scope.ALL})
    key = yield from keys.add(
        server.account_id,
        server.server_id,
        at_us,
        label=TOKEN_LABEL,
        scopes=scopes,
        hash=made.hash,
        hint=made.hint,
    )
    yield from _put(ctx, server, server_secrets.token_field(key.key_id), made.text)
    after = {"label": TOKEN_LABEL, "scopes": sorted(scopes), "server_id": server.server_id}
    yield from audit.add(server.account_id, at_us, actor, "key.create", f"key {key.key_id}", {"after": after})


def store_hooks(
    ctx: Context, server: Server, logins: Mapping[str, str | None]
) -> Work[tuple[dict[str, object], dict[str, object]]]:
    """Keep or forget the logins of hooks; before and after of what changed, for the audit trail."""
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    if not logins:
        return before, after
    stored = yield from server_secrets.list_of(server.account_id, [server.server_id])
    known = {one.field: one for one in stored}
    for name, login in logins.items():
        if login is None:
            if name in known:
                yield from server_secrets.remove(server.account_id, server.server_id, [name])
                before[f"{name}_login"], after[f"{name}_login"] = HIDDEN, None
        elif name not in known or _differs(ctx, known[name], login):
            yield from _put(ctx, server, name, login)
            before[f"{name}_login"] = f"{HIDDEN} before" if name in known else None
            after[f"{name}_login"] = HIDDEN
    return before, after


def _put(ctx: Context, server: Server, field: str, text: str) -> Work[None]:
    uid = os.urandom(16)
    sealed = yield from sealing.seal(ctx.ring, uid, SECRETS_TABLE, {field: text.encode()})
    fresh = ServerSecret(server.server_id, field, uid, sealed[field])
    yield from server_secrets.put(server.account_id, fresh)


def _open(ctx: Context, secret: ServerSecret) -> str:
    try:
        return sealing.unseal(
            ctx.ring, secret.sealed, uid=secret.uid, table=SECRETS_TABLE, field=secret.field
        ).decode()
    except KeyringError as error:
        raise Unavailable(f"server {secret.server_id}: {error}", retry_after_s=60) from error


def _differs(ctx: Context, secret: ServerSecret, login: str) -> bool:
    """One that does not open differs, so it can be replaced."""
    try:
        return _open(ctx, secret) != login
    except Unavailable:
        return True
