"""Identities in the database: who may appear in From."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select

from postroom.core.identity import EVERYBODY, Identity, IdentityId, IdentityKind, Proof
from postroom.core.server import Owner
from postroom.ids import AccountId, ServerId
from postroom.storage import generations
from postroom.storage.interface import Sql, Work
from postroom.storage.tables import identities


def proven(account_id: AccountId, server_id: ServerId, sender: str) -> Work[bool]:
    """Whether this server may write `sender` (a compare key, `Address.key`) in From.

    The address itself or its domain is trusted for the server, for its account, or for everybody.
    """
    return bool((yield look_proven(account_id, server_id, sender))) if "@" in sender else False


def look_proven(account_id: AccountId, server_id: ServerId, sender: str) -> Sql:
    """A row when it is."""
    return Sql(
        "SELECT 1 FROM identities WHERE account_id IN (0, :account_id)"
        " AND (value = :address AND kind = 'address' OR value = :domain AND kind = 'domain')"
        " AND (server_id IS NULL OR server_id = :server_id) LIMIT 1",
        {
            "account_id": account_id,
            "server_id": server_id,
            "address": sender,
            "domain": sender.rpartition("@")[2],
        },
    )


def holds_domain(owner: Owner, domain: str) -> Work[bool]:
    """Whether this owner (account 0: everybody) may write any address of `domain`, an A-label, in From."""
    server = identities.c.server_id
    rows = yield (
        select(identities.c.identity_id)
        .where(
            identities.c.account_id.in_({EVERYBODY, owner.account_id}),
            identities.c.value == domain,
            identities.c.kind == IdentityKind.DOMAIN.value,
            server.is_(None) if owner.server_id is None else server.is_(None) | (server == owner.server_id),
        )
        .limit(1)
    )
    return bool(rows)


def add(
    account_id: AccountId,
    server_id: ServerId | None,
    at_us: int,
    *,
    kind: IdentityKind,
    value: str,
    proof: Proof,
) -> Work[tuple[Identity, bool]]:
    """Store an identity, and whether it is new; one that is there already is given back as it is."""
    same_server = (
        identities.c.server_id.is_(None) if server_id is None else identities.c.server_id == server_id
    )
    found = yield select(identities).where(
        identities.c.account_id == account_id,
        identities.c.value == value,
        identities.c.kind == kind.value,
        same_server,
    )
    if found:
        return _identity(found[0]), False
    rows = yield (
        insert(identities)
        .values(
            account_id=account_id,
            server_id=server_id,
            kind=kind.value,
            value=value,
            proof=proof.value,
            created_at=at_us,
        )
        .returning(*identities.c)
    )
    if kind is IdentityKind.DOMAIN:
        yield from generations.advance(generations.SIGNING)
    return _identity(rows[0]), True


def get(account_id: AccountId, identity_id: IdentityId) -> Work[Identity | None]:
    """The identity of this account (0: everybody's), or None."""
    rows = yield select(identities).where(
        identities.c.account_id == account_id, identities.c.identity_id == identity_id
    )
    return _identity(rows[0]) if rows else None


def list_of(account_id: AccountId, server_id: ServerId | None) -> Work[list[Identity]]:
    """What holds for a server (its own, its account's, everybody's), or with None for the whole account.

    Account 0: only what holds for everybody. Oldest first.
    """
    query = select(identities).where(identities.c.account_id.in_({EVERYBODY, account_id}))
    if server_id is not None:
        query = query.where(identities.c.server_id.is_(None) | (identities.c.server_id == server_id))
    rows = yield query.order_by(identities.c.identity_id)
    return [_identity(row) for row in rows]


def remove(account_id: AccountId, identity_id: IdentityId) -> Work[bool]:
    """Forget one identity; False when it is not there."""
    rows = yield (
        delete(identities)
        .where(identities.c.account_id == account_id, identities.c.identity_id == identity_id)
        .returning(identities.c.identity_id)
    )
    yield from generations.advance(generations.SIGNING)
    return bool(rows)


def remove_of_server(account_id: AccountId, server_id: ServerId) -> Work[None]:
    """Forget every identity of a server."""
    yield delete(identities).where(identities.c.account_id == account_id, identities.c.server_id == server_id)


def _identity(row: Any) -> Identity:  # Any: a driver's row carries no types
    return Identity(
        account_id=AccountId(row.account_id),
        identity_id=IdentityId(row.identity_id),
        server_id=None if row.server_id is None else ServerId(row.server_id),
        kind=IdentityKind(row.kind),
        value=row.value,
        proof=Proof(row.proof),
        created_at_us=row.created_at,
    )
