"""Accounts: made, looked at and changed. They are the operator's; no key reaches these actions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from postroom.actions.changes import UNSET, Unset, given
from postroom.actions.checks import check_label, is_id, page, raise_any, whole_number
from postroom.actions.context import Actor, Context
from postroom.actions.trail import difference
from postroom.core.server import Account
from postroom.errors import FieldError, NotFound
from postroom.ids import AccountId
from postroom.storage import accounts, audit
from postroom.storage.interface import Work, now

KIND = "account"
MOST_SERVERS = 1_000_000


@dataclass(frozen=True)
class AccountChanges:
    """Fields to change; UNSET leaves one as it is. max_servers: None or "" for as many as it likes."""

    name: str | Unset = UNSET
    max_servers: int | str | Unset | None = UNSET
    may_delete_servers: bool | Unset = UNSET


async def create_account(ctx: Context, actor: Actor, name: str, *, once: bool = False) -> Account:
    """A new customer; with `once` the one of this name, where there is one. Raises Invalid(name)."""
    errors: list[FieldError] = []
    name = check_label(name, "name", errors)
    raise_any(errors)

    def work() -> Work[Account]:
        found = (yield from accounts.first_of(name)) if once else None
        if found is not None:
            return found
        at = yield from now()
        account = yield from accounts.add(name, at)
        target = f"{KIND} {account.account_id}"
        yield from audit.add(
            account.account_id, at, actor, "account.create", target, {"after": {"name": name}}
        )
        return account

    return await ctx.store.write(work)


async def update_account(
    ctx: Context, actor: Actor, account_id: AccountId, changes: AccountChanges
) -> Account:
    """Change some fields; what asks for no change changes nothing. Raises Invalid, NotFound."""
    errors: list[FieldError] = []
    name = changes.name if isinstance(changes.name, Unset) else check_label(changes.name, "name", errors)
    most = changes.max_servers
    if not isinstance(most, Unset):
        number = None if most in (None, "") else whole_number(most)
        if isinstance(number, str) or (number is not None and not 0 <= number <= MOST_SERVERS):
            reason = number if isinstance(number, str) else f"must be from 0 to {MOST_SERVERS}, or none"
            errors.append(FieldError("max_servers", reason))
            number = None
        most = number
    raise_any(errors)

    def work() -> Work[Account]:
        current = (yield from accounts.lock(account_id)) if is_id(account_id) else None
        if current is None:
            raise NotFound(KIND)
        account = replace(
            current,
            name=given(name, current.name),
            max_servers=current.max_servers if isinstance(most, Unset | str) else most,
            may_delete_servers=given(changes.may_delete_servers, current.may_delete_servers),
        )
        changed = difference(_shown(current), _shown(account))
        if changed is None:
            return current
        at = yield from now()
        yield from accounts.change(account)
        yield from audit.add(account_id, at, actor, "account.update", f"{KIND} {account_id}", changed)
        return account

    return await ctx.store.write(work)


def _shown(account: Account) -> dict[str, object]:
    return {
        "name": account.name,
        "max_servers": account.max_servers,
        "may_delete_servers": account.may_delete_servers,
    }


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
