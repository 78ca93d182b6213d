"""Accounts: made and looked at. They are the operator's; no key reaches these actions."""

from __future__ import annotations

from postroom.actions.checks import check_label, is_id, page, raise_any
from postroom.actions.context import Actor, Context
from postroom.core.server import Account
from postroom.errors import FieldError, NotFound
from postroom.ids import AccountId
from postroom.storage import accounts, audit
from postroom.storage.interface import Work, now

KIND = "account"


async def create_account(ctx: Context, actor: Actor, name: str) -> Account:
    """A new customer. Raises Invalid(name)."""
    errors: list[FieldError] = []
    name = check_label(name, "name", errors)
    raise_any(errors)

    def work() -> Work[Account]:
        at = yield from now()
        account = yield from accounts.add(name, at)
        target = f"{KIND} {account.account_id}"
        yield from audit.add(
            account.account_id, at, actor, "account.create", target, {"after": {"name": name}}
        )
        return account

    return await ctx.store.write(work)


async def list_accounts(ctx: Context, *, limit: int = 1000, offset: int = 0) -> list[Account]:
    """Accounts, oldest first. Negative numbers count as 0."""
    limit, offset = page(limit, offset)
    return await ctx.store.read(lambda: accounts.list_all(limit=limit, offset=offset))


async def get_account(ctx: Context, account_id: AccountId) -> Account:
    """One account. Raises NotFound."""
    found = await ctx.store.read(lambda: accounts.get(account_id)) if is_id(account_id) else None
    if found is None:
        raise NotFound(KIND)
    return found
