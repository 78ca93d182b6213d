"""Operations on accounts, servers, keys and identities."""

from __future__ import annotations

from postroom.actions import accounts, identities, keys, servers, streams
from postroom.actions.accounts import AccountChanges
from postroom.actions.changes import UNSET
from postroom.actions.servers import ServerChanges
from postroom.clock import to_iso
from postroom.control.desk import Desk, account_of, account_or_none, maker_of, owner_of, server_of
from postroom.core.identity import EVERYBODY, Identity, IdentityId
from postroom.core.key import Key
from postroom.core.server import Account, Owner, Server
from postroom.errors import NotFound
from postroom.ids import AccountId, KeyId, ServerId
from postroom.mail.address import parse_mailbox

# --- accounts ------------------------------------------------------------------------------------------


async def create_account(desk: Desk, *, name: str) -> dict[str, object]:
    """A new account."""
    return shown_account(await accounts.create_account(desk.ctx, desk.actor, name))


async def list_accounts(desk: Desk, *, limit: int = 500, offset: int = 0) -> dict[str, object]:
    """Accounts, oldest first."""
    return {
        "data": [
            shown_account(one) for one in await accounts.list_accounts(desk.ctx, limit=limit, offset=offset)
        ]
    }


async def show_account(desk: Desk, *, account: int | None = None) -> dict[str, object]:
    """One account."""
    return shown_account(await account_of(desk, account))


async def update_account(
    desk: Desk,
    *,
    account: int,
    name: str | None = None,
    max_servers: int | str | None = None,
    may_delete_servers: bool | None = None,
) -> dict[str, object]:
    """Change what is not null; an empty max_servers is no bound."""
    changes = AccountChanges(
        name=UNSET if name is None else name,
        max_servers=UNSET if max_servers is None else max_servers,
        may_delete_servers=UNSET if may_delete_servers is None else may_delete_servers,
    )
    changed = await accounts.update_account(desk.ctx, desk.actor, AccountId(account), changes)
    return shown_account(changed)


def shown_account(account: Account) -> dict[str, object]:
    """An account as JSON values."""
    return {
        "account_id": account.account_id,
        "name": account.name,
        "max_servers": account.max_servers,
        "may_delete_servers": account.may_delete_servers,
        "created_at": to_iso(account.created_at_us),
    }


# --- servers -------------------------------------------------------------------------------------------


async def create_server(
    desk: Desk,
    *,
    name: str,
    account: int | None = None,
    default_sender: str | None = None,
    sandbox: bool = False,
) -> dict[str, object]:
    """A new server with its streams. The operator's word for its default sender is its proof."""
    account_id = (await account_of(desk, account)).account_id
    made = await servers.create_server(
        desk.ctx, desk.actor, account_id, name, default_sender=default_sender, sandbox=sandbox
    )
    await _trust_sender(desk, made)
    return shown_server(made)


async def list_servers(
    desk: Desk, *, account: int | None = None, limit: int = 500, offset: int = 0
) -> dict[str, object]:
    """An account's servers, oldest first, and how many there are."""
    owner = await owner_of(desk, account, None)
    found, total = await servers.list_servers(desk.ctx, owner, limit=limit, offset=offset)
    return {"data": [shown_server(one) for one in found], "total": total}


async def show_server(
    desk: Desk, *, server: int | None = None, account: int | None = None
) -> dict[str, object]:
    """One server with its streams."""
    found = await server_of(desk, account, server)
    found_streams = await streams.list_streams(desk.ctx, Owner(found.account_id), found.server_id)
    return {
        **shown_server(found),
        "streams": [
            {
                "stream": one.stream,
                "name": one.name,
                "type": one.type.value,
                "archived_at": to_iso(one.archived_at_us),
            }
            for one in found_streams
        ],
    }


async def update_server(
    desk: Desk,
    *,
    server: int,
    account: int | None = None,
    name: str | None = None,
    default_sender: str | None = None,
    sandbox: bool | None = None,
    smtp_enabled: bool | None = None,
) -> dict[str, object]:
    """Change what is not null; an empty default_sender removes it, a new one is trusted for this server."""
    owner = Owner((await account_of(desk, account)).account_id)
    changes = ServerChanges(
        name=UNSET if name is None else name,
        default_sender=UNSET if default_sender is None else default_sender,
        sandbox=UNSET if sandbox is None else sandbox,
        smtp_enabled=UNSET if smtp_enabled is None else smtp_enabled,
    )
    actor = desk.actor
    changed = await servers.update_server(desk.ctx, actor, owner, ServerId(server), changes)
    if default_sender:
        await _trust_sender(desk, changed)
    return shown_server(changed)


async def _trust_sender(desk: Desk, server: Server) -> None:
    if server.default_sender:
        address = parse_mailbox(server.default_sender, "sender").address
        actor = desk.actor
        await identities.trust(desk.ctx, actor, address, server.account_id, server.server_id)


async def delete_server(desk: Desk, *, server: int, account: int | None = None) -> dict[str, object]:
    """Delete a server with what is its own; says what was past its final dot."""
    owner = Owner((await account_of(desk, account)).account_id)
    done = await servers.delete_server(desk.ctx, desk.actor, owner, ServerId(server))
    return {"server_id": done.server_id, "cancelled": done.cancelled, "past_dot": sorted(done.past_dot)}


def shown_server(server: Server) -> dict[str, object]:
    """A server as JSON values."""
    return {
        "server_id": server.server_id,
        "account_id": server.account_id,
        "name": server.name,
        "default_sender": server.default_sender,
        "sandbox": server.sandbox,
        "smtp_enabled": server.smtp_enabled,
        "created_at": to_iso(server.created_at_us),
        "updated_at": to_iso(server.updated_at_us),
    }


# --- keys ----------------------------------------------------------------------------------------------


async def create_key(
    desk: Desk,
    *,
    label: str,
    scopes: list[str] | None = None,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """A new key of a server, or with none of the account; `key` is shown only here."""
    owner = await maker_of(desk, account, server)
    made, text = await keys.create_key(
        desk.ctx, desk.actor, owner, label, ["all"] if scopes is None else scopes
    )
    return {**shown_key(made), "key": text.reveal()}


async def list_keys(
    desk: Desk, *, account: int | None = None, server: int | None = None
) -> dict[str, object]:
    """Keys in force, of one server or of the whole account."""
    owner = await owner_of(desk, account, server)
    return {"data": [shown_key(one) for one in await keys.list_keys(desk.ctx, owner)]}


async def revoke_key(desk: Desk, *, key_id: int, account: int | None = None) -> dict[str, object]:
    """The key opens nothing any more when this returns."""
    owner = await owner_of(desk, account, None)
    await keys.revoke_key(desk.ctx, desk.actor, owner, KeyId(key_id))
    return {"key_id": key_id, "revoked": True}


def shown_key(key: Key) -> dict[str, object]:
    """A key as JSON values, without its text."""
    return {
        "key_id": key.key_id,
        "account_id": key.account_id,
        "server_id": key.server_id,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "hint": key.hint,
        "created_at": to_iso(key.created_at_us),
        "last_used_at": to_iso(key.last_used_at_us),
    }


# --- identities ----------------------------------------------------------------------------------------


async def trust_identity(
    desk: Desk, *, value: str, account: int | None = None, server: int | None = None
) -> dict[str, object]:
    """The operator's word for an address or a domain: for a server, an account, or with neither everybody."""
    if account is None and server is None:
        return shown_identity(await identities.trust(desk.ctx, desk.actor, value))
    account_id = (await account_of(desk, account)).account_id
    server_id = None if server is None else ServerId(server)
    trusted = await identities.trust(desk.ctx, desk.actor, value, account_id, server_id)
    return shown_identity(trusted)


async def list_identities(
    desk: Desk, *, account: int | None = None, server: int | None = None
) -> dict[str, object]:
    """What may appear in From: of a server or an account, with what holds for everybody."""
    if account is None and server is None:
        account_id = await account_or_none(desk)
    else:
        account_id = (await account_of(desk, account)).account_id
    server_id = None if server is None else ServerId(server)
    found = await identities.list_identities(desk.ctx, account_id, server_id)
    return {"data": [shown_identity(one) for one in found]}


async def forget_identity(desk: Desk, *, identity_id: int, account: int | None = None) -> dict[str, object]:
    """It may not appear in From any more; with no account, one of the default account or of everybody."""
    if account is not None:
        owner: AccountId | None = AccountId(account)
    else:
        account_id = await account_or_none(desk)
        known = await identities.list_identities(desk.ctx, account_id)
        found = next((one for one in known if one.identity_id == identity_id), None)
        if found is None:
            raise NotFound(identities.KIND)
        owner = None if found.account_id == EVERYBODY else found.account_id
    await identities.forget(desk.ctx, desk.actor, IdentityId(identity_id), owner)
    return {"identity_id": identity_id, "forgotten": True}


def shown_identity(identity: Identity) -> dict[str, object]:
    """An identity as JSON values; account_id 0 is everybody."""
    return {
        "identity_id": identity.identity_id,
        "account_id": identity.account_id,
        "server_id": identity.server_id,
        "kind": identity.kind.value,
        "value": identity.value,
        "proof": identity.proof.value,
        "created_at": to_iso(identity.created_at_us),
    }
