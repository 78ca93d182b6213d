"""DKIM keys in the database: private halves sealed, and which of them sign a mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, delete, exists, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from postroom.core.dkim import DkimKey, DkimKeyId
from postroom.core.identity import EVERYBODY, IdentityKind
from postroom.core.server import Owner
from postroom.ids import AccountId, ServerId
from postroom.mail.dkim_keys import Algorithm
from postroom.storage import generations
from postroom.storage.interface import Work
from postroom.storage.sealed import DKIM_KEY_FIELD
from postroom.storage.tables import dkim_keys, identities

TABLE = dkim_keys.name
FIELD = DKIM_KEY_FIELD
_SHOWN = (
    dkim_keys.c.account_id,
    dkim_keys.c.key_id,
    dkim_keys.c.server_id,
    dkim_keys.c.domain,
    dkim_keys.c.selector,
    dkim_keys.c.algorithm,
    dkim_keys.c.public_key,
    dkim_keys.c.created_at,
    dkim_keys.c.seen_at,
    dkim_keys.c.activated_at,
    dkim_keys.c.stopped_at,
)


@dataclass(frozen=True)
class SealedKey:
    """A key with its private half, which only the key file opens. uid: with TABLE and FIELD, its place."""

    key: DkimKey
    uid: bytes
    sealed: bytes = field(repr=False)


def add(
    owner: Owner,
    at_us: int,
    *,
    domain: str,
    selector: str,
    algorithm: Algorithm,
    public_key: str,
    uid: bytes,
    sealed: bytes,
) -> Work[DkimKey]:
    """Store a new key, which does not sign yet."""
    rows = yield (
        insert(dkim_keys)
        .values(
            account_id=owner.account_id,
            server_id=owner.server_id,
            domain=domain,
            selector=selector,
            algorithm=algorithm.value,
            public_key=public_key,
            uid=uid,
            sealed=sealed,
            created_at=at_us,
        )
        .returning(*_SHOWN)
    )
    return _key(rows[0])


def list_of(owner: Owner, domain: str) -> Work[list[DkimKey]]:
    """An owner's own keys of a domain, oldest first: one server's, the account's shared ones, everybody's."""
    rows = yield select(*_SHOWN).where(*_owned(owner, domain)).order_by(dkim_keys.c.key_id)
    return [_key(row) for row in rows]


def selector_taken(account_id: AccountId, domain: str, selector: str) -> Work[bool]:
    """Whether the account has it already for this domain, for whatever server."""
    rows = yield select(dkim_keys.c.key_id).where(
        dkim_keys.c.account_id == account_id,
        dkim_keys.c.domain == domain,
        dkim_keys.c.selector == selector,
    )
    return bool(rows)


def set_times(
    key: DkimKey, *, seen_at: int | None, activated_at: int | None, stopped_at: int | None
) -> Work[None]:
    """Where it is on its way."""
    yield (
        update(dkim_keys)
        .where(dkim_keys.c.account_id == key.account_id, dkim_keys.c.key_id == key.key_id)
        .values(seen_at=seen_at, activated_at=activated_at, stopped_at=stopped_at)
    )
    yield from generations.advance(generations.SIGNING)


def remove(key: DkimKey) -> Work[None]:
    """The key is gone for good."""
    yield delete(dkim_keys).where(dkim_keys.c.account_id == key.account_id, dkim_keys.c.key_id == key.key_id)
    yield from generations.advance(generations.SIGNING)


def remove_of_server(account_id: AccountId, server_id: ServerId) -> Work[None]:
    """A server's own keys are gone with it."""
    yield delete(dkim_keys).where(dkim_keys.c.account_id == account_id, dkim_keys.c.server_id == server_id)


def any_of(account_id: AccountId, domains: Sequence[str]) -> Work[bool]:
    """Whether anybody of the account, or everybody, has a key of any of these domains."""
    rows = yield (
        select(dkim_keys.c.key_id)
        .where(dkim_keys.c.account_id.in_({EVERYBODY, account_id}), dkim_keys.c.domain.in_(domains))
        .limit(1)
    )
    return bool(rows)


def that_sign(account_id: AccountId, server_id: ServerId, domains: Sequence[str]) -> Work[list[SealedKey]]:
    """The active keys of any of these domains that sign this server's mail.

    They are the server's own, its account's or everybody's, and whoever has them may still use the domain: a
    key of a domain that was taken back signs nothing.
    """
    still_theirs = exists().where(
        identities.c.account_id.in_({EVERYBODY, account_id}),
        or_(identities.c.account_id == EVERYBODY, identities.c.account_id == dkim_keys.c.account_id),
        identities.c.value == dkim_keys.c.domain,
        identities.c.kind == IdentityKind.DOMAIN.value,
        or_(identities.c.server_id.is_(None), identities.c.server_id == dkim_keys.c.server_id),
    )
    rows = yield (
        select(*_SHOWN, dkim_keys.c.uid, dkim_keys.c.sealed)
        .where(
            dkim_keys.c.account_id.in_({EVERYBODY, account_id}),
            dkim_keys.c.domain.in_(list(domains)),
            or_(dkim_keys.c.server_id.is_(None), dkim_keys.c.server_id == server_id),
            and_(dkim_keys.c.activated_at.is_not(None), dkim_keys.c.stopped_at.is_(None)),
            still_theirs,
        )
        .order_by(dkim_keys.c.key_id)
    )
    return [SealedKey(_key(row), row.uid, row.sealed) for row in rows]


def _owned(owner: Owner, domain: str) -> tuple[ColumnElement[bool], ...]:
    server = dkim_keys.c.server_id
    return (
        dkim_keys.c.account_id == owner.account_id,
        dkim_keys.c.domain == domain,
        server.is_(None) if owner.server_id is None else server == owner.server_id,
    )


def _key(row: Any) -> DkimKey:  # Any: a driver's row carries no types
    return DkimKey(
        account_id=AccountId(row.account_id),
        key_id=DkimKeyId(row.key_id),
        server_id=None if row.server_id is None else ServerId(row.server_id),
        domain=row.domain,
        selector=row.selector,
        algorithm=Algorithm(row.algorithm),
        public_key=row.public_key,
        created_at_us=row.created_at,
        seen_at_us=row.seen_at,
        activated_at_us=row.activated_at,
        stopped_at_us=row.stopped_at,
    )
