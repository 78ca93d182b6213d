"""What every operation works with, and how the accounts and servers a command leaves unsaid are found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from postroom.actions import accounts, servers
from postroom.actions.context import Actor, Context
from postroom.core.server import Account, Owner, Server
from postroom.engine.housekeeping import Housekeeping
from postroom.engine.queue_view import Wanted
from postroom.errors import Invalid, NotFound
from postroom.ids import AccountId, ServerId

DEFAULT = "default"  # the name of the account and the server that `bootstrap` makes
BY_COMMAND = "command line"  # who the audit trail names
_MOST_LOOKED_AT = 500


@dataclass
class Desk:
    """Handed to every operation by `wiring`.

    explain: why a message of the owner's is where it is, as JSON values. settings: every setting in force
    and where it came from. database: what the store says of itself. full_host_name: this host's name with
    its domain, "" if it has none; may block for a few seconds. listening: addresses by role, of `serve`.
    status: what `serve` is doing at this moment; None where it does not run. queue: what waits to be sent.
    source: which user of this machine asks; set for each operation.
    """

    ctx: Context
    explain: Callable[[Owner, str], Awaitable[Mapping[str, object]]]
    database: Callable[[], Awaitable[Mapping[str, object]]]
    full_host_name: Callable[[], str]
    housekeeping: Housekeeping
    settings: Sequence[Mapping[str, str]] = ()
    listening: dict[str, str] = field(default_factory=dict)
    status: Callable[[], Awaitable[Mapping[str, object]]] | None = None
    queue: Callable[[Wanted], Awaitable[Mapping[str, object]]] | None = None
    source: str = ""
    bootstrapping: asyncio.Lock = field(default_factory=asyncio.Lock)
    rotating: asyncio.Lock = field(default_factory=asyncio.Lock)  # the key file

    @property
    def actor(self) -> Actor:
        """Who the audit trail names for what the operator does."""
        return Actor(BY_COMMAND, self.source)


async def account_of(desk: Desk, account: int | None) -> Account:
    """The account of this number; unsaid: the one called default, or the only one.

    Raises NotFound(account), Invalid(account) when there are several.
    """
    if account is not None:
        return await accounts.get_account(desk.ctx, AccountId(account))
    known = await accounts.list_accounts(desk.ctx, limit=_MOST_LOOKED_AT)
    for one in known:
        if one.name == DEFAULT:
            return one
    if not known:
        raise NotFound("account")
    if len(known) > 1:
        raise Invalid("account", "must be given: there are several")
    return known[0]


async def account_or_none(desk: Desk) -> AccountId | None:
    """The account a command leaves unsaid; None where there is none yet, or several."""
    try:
        return (await account_of(desk, None)).account_id
    except (NotFound, Invalid):
        return None


async def owner_of(desk: Desk, account: int | None, server: int | None) -> Owner:
    """Whose things a command means: one server's, or all of the account. Raises NotFound, Invalid."""
    account_id = (await account_of(desk, account)).account_id
    if server is None:
        return Owner(account_id, whole_account=True)
    found = await servers.get_server(desk.ctx, Owner(account_id), ServerId(server))
    return Owner(account_id, found.server_id)


async def maker_of(desk: Desk, account: int | None, server: int | None) -> Owner:
    """Whom a new thing belongs to: one server, or with none the account, shared. Raises NotFound, Invalid."""
    owner = await owner_of(desk, account, server)
    return Owner(owner.account_id, owner.server_id)


async def server_of(desk: Desk, account: int | None, server: int | None) -> Server:
    """The server of this number; unsaid: the account's one called default, or its only one."""
    account_id = (await account_of(desk, account)).account_id
    if server is not None:
        return await servers.get_server(desk.ctx, Owner(account_id), ServerId(server))
    known, total = await servers.list_servers(desk.ctx, Owner(account_id), limit=_MOST_LOOKED_AT)
    for one in known:
        if one.name == DEFAULT:
            return one
    if not known:
        raise NotFound("server")
    if total > 1:
        raise Invalid("server", "must be given: there are several")
    return known[0]
