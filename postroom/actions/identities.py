"""Identities: which addresses and domains may appear in From, and for whom.

`trust` is the operator's word, or what a proof by mail or DNS ends in. Accounts do not exclude each
other: two may each hold one domain.
"""

from __future__ import annotations

from postroom.actions.checks import is_id
from postroom.actions.context import Actor, Context
from postroom.actions.trail import present
from postroom.core.identity import EVERYBODY, Identity, IdentityId, IdentityKind, Proof
from postroom.errors import NotFound
from postroom.ids import AccountId, ServerId
from postroom.mail.address import parse_address, parse_domain
from postroom.storage import accounts, audit, identities, servers
from postroom.storage.interface import Work, now

KIND = "identity"


async def trust(
    ctx: Context,
    actor: Actor,
    value: str,
    account_id: AccountId | None = None,
    server_id: ServerId | None = None,
    *,
    proof: Proof = Proof.OPERATOR,
) -> Identity:
    """From now on `value`, an address or a domain, may appear in From.

    For one server, with none for the whole account, with no account either for everybody. What was
    trusted already stays as it is. Raises Invalid(identity); NotFound(account or server).
    """
    if server_id is not None and (account_id is None or not is_id(account_id)):
        raise NotFound("server")
    if account_id is not None and not is_id(account_id):
        raise NotFound("account")
    if "@" in value:
        kind, value = IdentityKind.ADDRESS, parse_address(value, KIND).key
    else:
        kind, value = IdentityKind.DOMAIN, parse_domain(value.strip(), KIND)
    owner = EVERYBODY if account_id is None else account_id

    def work() -> Work[Identity]:
        yield from accounts.hold(owner)
        yield from require_owner(owner, server_id)
        at = yield from now()
        identity, new = yield from identities.add(owner, server_id, at, kind=kind, value=value, proof=proof)
        if new:
            target = f"{KIND} {identity.identity_id}"
            yield from audit.add(owner, at, actor, "identity.trust", target, {"after": _shown(identity)})
        return identity

    identity = await ctx.store.write(work)
    ctx.hearer.facts_changed(owner)
    return identity


async def list_identities(
    ctx: Context, account_id: AccountId | None = None, server_id: ServerId | None = None
) -> list[Identity]:
    """What holds for a server, for the whole account, or (None) for everybody; oldest first."""
    owner = EVERYBODY if account_id is None else account_id
    return await ctx.store.read(lambda: identities.list_of(owner, server_id))


async def forget(
    ctx: Context,
    actor: Actor,
    identity_id: IdentityId,
    account_id: AccountId | None = None,
    server_id: ServerId | None = None,
) -> None:
    """It may not appear in From any more; mail already accepted keeps its From. Raises NotFound.

    Only an identity of this server, account or (None) everybody: a wider one is not the caller's.
    """
    if account_id is not None and not is_id(account_id):
        raise NotFound(KIND)
    owner = EVERYBODY if account_id is None else account_id

    def work() -> Work[None]:
        yield from accounts.hold(owner)
        identity = (yield from identities.get(owner, identity_id)) if is_id(identity_id) else None
        if identity is None or server_id not in (None, identity.server_id):
            raise NotFound(KIND)
        at = yield from now()
        if not (yield from identities.remove(owner, identity_id)):
            raise NotFound(KIND)  # another process was quicker
        yield from audit.add(
            owner,
            at,
            actor,
            "identity.forget",
            f"{KIND} {identity_id}",
            {"before": _shown(identity)},
        )

    await ctx.store.write(work)
    ctx.hearer.facts_changed(owner)


def _shown(identity: Identity) -> dict[str, object]:
    """What the audit trail tells of one."""
    return present(
        {
            "kind": identity.kind.value,
            "value": identity.value,
            "proof": identity.proof.value,
            "server_id": identity.server_id,
        }
    )


def require_owner(account_id: AccountId, server_id: ServerId | None) -> Work[None]:
    """Raises NotFound unless there is this server of the account, or the account; 0 is everybody."""
    if server_id is not None:
        if not is_id(server_id) or (yield from servers.get(account_id, server_id)) is None:
            raise NotFound("server")
    elif account_id != EVERYBODY and (not is_id(account_id) or (yield from accounts.get(account_id)) is None):
        raise NotFound("account")
