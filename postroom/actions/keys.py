"""API keys: made, listed, revoked, and recognised on every request.

A key's text is given out once, by `create_key`; what is stored is its hash. Which scope a request needs
is its dialect's business.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroom.actions.checks import BLANK, check_label, is_id, raise_any
from postroom.actions.context import Actor, Context
from postroom.core.key import MOST_CHARACTERS, Key, KeyKind, hash_key, looks_like_key, new_key, scopes_of
from postroom.core.server import Owner
from postroom.errors import FieldError, Invalid, NotFound, Unauthenticated, Unavailable
from postroom.ids import KeyId
from postroom.logs import logger
from postroom.secret import Secret
from postroom.storage import accounts, audit, generations, keys, servers
from postroom.storage.interface import Work, now

KIND = "key"
log = logger("keys")


async def create_key(
    ctx: Context, actor: Actor, owner: Owner, label: str, scopes: Iterable[str]
) -> tuple[Key, Secret]:
    """A new key of a server, or of the account where the owner names none; its text is shown only here.

    scopes: names of `core.key.Scope`. Raises Invalid; NotFound(server or account).
    """
    errors: list[FieldError] = []
    label = check_label(label, "label", errors)
    wanted: frozenset[str] = frozenset()
    try:
        wanted = scopes_of(scopes)
        if not wanted:
            errors.append(FieldError("scopes", BLANK))
    except Invalid as error:
        errors.extend(error.errors)
    raise_any(errors)
    made = new_key(KeyKind.ACCOUNT if owner.server_id is None else KeyKind.SERVER)

    def work() -> Work[Key]:
        yield from accounts.hold(owner.account_id)
        if owner.server_id is None:
            if (yield from accounts.get(owner.account_id)) is None:
                raise NotFound("account")
        elif (yield from servers.get(owner.account_id, owner.server_id)) is None:
            raise NotFound("server")
        at = yield from now()
        key = yield from keys.add(
            owner.account_id,
            owner.server_id,
            at,
            label=label,
            scopes=wanted,
            hash=made.hash,
            hint=made.hint,
        )
        yield from audit.add(
            owner.account_id,
            at,
            actor,
            "key.create",
            f"{KIND} {key.key_id}",
            {"after": {"label": label, "scopes": sorted(wanted), "server_id": owner.server_id}},
        )
        return key

    return await ctx.store.write(work), Secret(made.text)


async def list_keys(ctx: Context, owner: Owner) -> list[Key]:
    """Keys in force, oldest first: one server's, or where the owner names none all of the account."""
    return await ctx.store.read(lambda: keys.list_of(owner.account_id, owner.server_id))


async def revoke_key(ctx: Context, actor: Actor, owner: Owner, key_id: KeyId) -> None:
    """The key opens nothing any more: in this process from the moment this returns, in others that share the
    database within a second. Raises NotFound."""

    def work() -> Work[None]:
        yield from accounts.hold(owner.account_id)
        key = (yield from keys.get(owner.account_id, key_id)) if is_id(key_id) else None
        if key is None or key.revoked_at_us is not None or owner.server_id not in (None, key.server_id):
            raise NotFound(KIND)
        at = yield from now()
        if not (yield from keys.revoke(owner.account_id, key_id, at)):
            raise NotFound(KIND)  # another process was quicker
        yield from generations.advance(generations.KEYS)
        yield from audit.add(
            owner.account_id,
            at,
            actor,
            "key.revoke",
            f"{KIND} {key_id}",
            {"before": {"label": key.label, "scopes": sorted(key.scopes), "server_id": key.server_id}},
        )

    await ctx.store.write(work)
    ctx.keys.forget(key_id)


async def authenticate(ctx: Context, text: str, client: str = "") -> Key:
    """Whose key this is. Raises Unauthenticated, the same for one malformed, unknown or revoked.

    client: the address it came from, for the line about its first use.
    """
    if len(text) > MOST_CHARACTERS:
        raise Unauthenticated
    hash = hash_key(text)
    if ctx.key_generation is not None:
        ctx.keys.as_of(await ctx.key_generation.now())
    now_s = ctx.clock.steady_s()
    key = ctx.keys.get(hash, now_s)
    if key is None:
        if not looks_like_key(text):
            raise Unauthenticated
        generation = ctx.keys.generation
        key = await ctx.store.read(lambda: keys.by_hash(hash))
        if key is None:
            raise Unauthenticated
        ctx.keys.put(hash, key, now_s, generation)
    now_us = ctx.clock.now_us()
    if ctx.keys.touch_is_due(hash, now_us):
        ctx.keys.start(_touch(ctx, key, now_us, client))
    return key


async def _touch(ctx: Context, key: Key, at_us: int, client: str) -> None:
    def work() -> Work[None]:
        if (yield from keys.touch(key.account_id, key.key_id, at_us)):
            name = f"{KIND} {key.key_id}"
            yield from audit.add(key.account_id, at_us, Actor(name, client), "key.first_use", name)

    try:
        await ctx.store.write(work)
    except Unavailable as error:  # only the display of its last use is behind
        log.warning("last use of a key was not written", key_id=key.key_id, error=str(error))
