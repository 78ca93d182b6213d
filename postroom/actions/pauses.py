"""Pausing and resuming by a person: everything, one server's mail, or one connection.

Once `pause` has returned nothing new of it is claimed, until `resume`. Mail is accepted all the while and
waits. What was claimed and has not begun goes back without using room; what is on its way ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.actions.checks import INVALID_TEXT, has_refused_characters, is_id
from postroom.actions.context import Actor, Context
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound
from postroom.ids import AccountId, ConnectionId, ServerId
from postroom.storage import audit, connections, pauses, servers
from postroom.storage.interface import Work, now
from postroom.storage.pauses import EVERYTHING, Pause, PauseScope

MOST_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class Target:
    """What is to be paused or resumed. owner: whose server or connection; None: everything here."""

    scope: PauseScope
    owner: Owner | None
    target_id: int

    @classmethod
    def everything(cls) -> Target:
        """All that is sent from here."""
        return cls(PauseScope.ALL, None, 0)

    @classmethod
    def server(cls, owner: Owner, server_id: ServerId) -> Target:
        """One server's mail, on whatever connection."""
        return cls(PauseScope.SERVER, owner, server_id)

    @classmethod
    def connection(cls, owner: Owner, connection_id: ConnectionId) -> Target:
        """One connection, whatever mail; other connections go on."""
        return cls(PauseScope.CONNECTION, owner, connection_id)


@dataclass(frozen=True)
class Pausing:
    """What a pause did. `pause`: the one in force, with who made it. `made` False: it was paused already.
    `on_their_way`: deliveries that came too far to be given back; they end by themselves."""

    pause: Pause
    made: bool
    on_their_way: int


async def pause(ctx: Context, actor: Actor, target: Target, reason: str = "") -> Pausing:
    """Pause it; what is paused already stays as it is.

    Raises Invalid(reason), NotFound(server, connection).
    """
    reason = _checked(reason)

    def work() -> Work[tuple[Pause, bool]]:
        account_id = yield from _account(target)
        at = yield from now()
        fresh = Pause(account_id, target.scope, target.target_id, at, actor.name, reason)
        if (yield from pauses.add(fresh)):
            yield from audit.add(account_id, at, actor, "queue.pause", name_of(fresh), {"reason": reason})
            return fresh, True
        stored = yield from pauses.get(account_id, target.scope, target.target_id)
        return stored or fresh, False

    stored, made = await ctx.store.write(work)
    return Pausing(stored, made, await ctx.hearer.pauses_changed(stored))


async def resume(ctx: Context, actor: Actor, target: Target) -> Pause | None:
    """Resume it; its mail goes on at once. Returns the pause that ended; None: it was not paused.

    Raises NotFound(server, connection).
    """

    def work() -> Work[Pause | None]:
        account_id = yield from _account(target)
        stored = yield from pauses.get(account_id, target.scope, target.target_id)
        if stored is None:
            return None
        if not (yield from pauses.remove(account_id, target.scope, target.target_id)):
            return None  # another process was quicker
        at = yield from now()
        detail = {"paused_at_us": stored.created_at_us, "by": stored.actor, "reason": stored.reason}
        yield from audit.add(account_id, at, actor, "queue.resume", name_of(stored), detail)
        return stored

    stored = await ctx.store.write(work)
    if stored is not None:
        await ctx.hearer.pauses_changed(stored)
    return stored


async def list_pauses(ctx: Context, owner: Owner | None = None) -> list[Pause]:
    """What is paused: of an owner, with what is paused for everybody; without one, of all accounts."""
    found = await ctx.store.read(pauses.everything)
    return [one for one in found if owner is None or _concerns(one, owner)]


def name_of(pause: Pause) -> str:
    """Like `connection 7`, as in audit lines."""
    return "everything" if pause.scope is PauseScope.ALL else f"{pause.scope.value} {pause.target_id}"


def _concerns(pause: Pause, owner: Owner) -> bool:
    if pause.scope is PauseScope.ALL:
        return True
    if pause.account_id != owner.account_id:
        return False
    return pause.scope is not PauseScope.SERVER or owner.sees_server(ServerId(pause.target_id))


def _account(target: Target) -> Work[AccountId]:
    """Whose pause it is. Raises NotFound, for what is another's too."""
    owner, number = target.owner, target.target_id
    if owner is None:
        return EVERYTHING
    found: object | None = None
    if target.scope is PauseScope.CONNECTION:
        found = (yield from connections.get_owned(owner, ConnectionId(number))) if is_id(number) else None
    elif is_id(number) and owner.sees_server(ServerId(number)):
        found = yield from servers.get(owner.account_id, ServerId(number))
    if found is None:
        raise NotFound(target.scope.value)
    return owner.account_id


def _checked(reason: str) -> str:
    reason = reason.strip()
    if len(reason) > MOST_REASON_CHARACTERS:
        raise Invalid("reason", f"is too long (maximum is {MOST_REASON_CHARACTERS} characters)")
    if has_refused_characters(reason):
        raise Invalid("reason", INVALID_TEXT)
    return reason
