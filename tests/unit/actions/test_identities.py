"""Identities: whose word lets an address appear in From."""

from __future__ import annotations

import pytest

from postroom.actions import identities, servers
from postroom.actions.context import Context
from postroom.core.identity import EVERYBODY, IdentityId, IdentityKind
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound
from postroom.ids import AccountId, ServerId
from postroom.storage import identities as stored
from tests.support.context import ACTOR, Harness
from tests.support.stores import on_both

pytestmark = on_both


async def proven(ctx: Context, owner: Owner, sender: str) -> bool:
    assert owner.server_id is not None
    server_id = owner.server_id
    return await ctx.store.read(lambda: stored.proven(owner.account_id, server_id, sender))


async def test_an_address_for_one_server(ctx: Context, owner: Owner, stranger: Owner) -> None:
    sibling = await servers.create_server(ctx, ACTOR, owner.account_id, "Sibling")
    one = await identities.trust(ctx, ACTOR, "Ann@Example.COM", owner.account_id, owner.server_id)
    assert (one.kind, one.value) == (IdentityKind.ADDRESS, "ann@example.com")
    assert await proven(ctx, owner, "ann@example.com")
    assert not await proven(ctx, owner, "bob@example.com")
    assert not await proven(ctx, Owner(owner.account_id, sibling.server_id), "ann@example.com")
    assert not await proven(ctx, stranger, "ann@example.com")


async def test_a_domain_for_an_account(ctx: Context, owner: Owner, stranger: Owner) -> None:
    one = await identities.trust(ctx, ACTOR, "Bücher.example", owner.account_id)
    assert (one.kind, one.value) == (IdentityKind.DOMAIN, "xn--bcher-kva.example")
    assert await proven(ctx, owner, "ann@xn--bcher-kva.example")
    assert not await proven(ctx, owner, "ann@shop.xn--bcher-kva.example")
    assert not await proven(ctx, stranger, "ann@xn--bcher-kva.example")


async def test_a_domain_for_everybody(harness: Harness, owner: Owner, stranger: Owner) -> None:
    ctx = harness.ctx
    one = await identities.trust(ctx, ACTOR, "example.com")
    assert one.account_id == EVERYBODY
    assert await proven(ctx, owner, "ann@example.com")
    assert await proven(ctx, stranger, "ann@example.com")
    assert harness.hearer.facts == [EVERYBODY]
    await identities.forget(ctx, ACTOR, one.identity_id)
    assert not await proven(ctx, owner, "ann@example.com")
    assert harness.hearer.facts == [EVERYBODY] * 2


async def test_a_kind_is_not_taken_for_the_other(ctx: Context, owner: Owner) -> None:
    await identities.trust(ctx, ACTOR, "ann@example.com", owner.account_id)
    await identities.trust(ctx, ACTOR, "example.net", owner.account_id)
    assert not await proven(ctx, owner, "example.com")
    assert not await proven(ctx, owner, "example.net")


async def test_trusting_twice_is_trusting_once(ctx: Context, owner: Owner) -> None:
    one = await identities.trust(ctx, ACTOR, "example.com", owner.account_id)
    assert await identities.trust(ctx, ACTOR, "EXAMPLE.com", owner.account_id) == one
    narrow = await identities.trust(ctx, ACTOR, "example.com", owner.account_id, owner.server_id)
    assert narrow != one
    assert await identities.list_identities(ctx, owner.account_id) == [one, narrow]


async def test_two_accounts_may_hold_one_domain(ctx: Context, owner: Owner, stranger: Owner) -> None:
    await identities.trust(ctx, ACTOR, "example.com", owner.account_id)
    await identities.trust(ctx, ACTOR, "example.com", stranger.account_id)
    assert await proven(ctx, owner, "a@example.com")
    assert await proven(ctx, stranger, "a@example.com")


@pytest.mark.parametrize("value", ["", "a@b@c", "exa mple.com", "http://example.com", "@example.com", "a@"])
async def test_what_is_neither_address_nor_domain(ctx: Context, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        await identities.trust(ctx, ACTOR, value)
    assert caught.value.errors[0].field == "identity"


async def test_only_ones_own_is_forgotten(ctx: Context, owner: Owner, stranger: Owner) -> None:
    wide = await identities.trust(ctx, ACTOR, "example.com", owner.account_id)
    narrow = await identities.trust(ctx, ACTOR, "example.net", owner.account_id, owner.server_id)
    every = await identities.trust(ctx, ACTOR, "example.org")
    for identity_id in (wide.identity_id, every.identity_id, IdentityId(2**70)):
        with pytest.raises(NotFound):
            await identities.forget(ctx, ACTOR, identity_id, owner.account_id, owner.server_id)
    with pytest.raises(NotFound):
        await identities.forget(ctx, ACTOR, narrow.identity_id, stranger.account_id)
    assert await identities.list_identities(ctx, owner.account_id, owner.server_id) == [wide, narrow, every]
    assert await identities.list_identities(ctx, stranger.account_id) == [every]
    assert await identities.list_identities(ctx) == [every]
    await identities.forget(ctx, ACTOR, narrow.identity_id, owner.account_id, owner.server_id)
    assert await identities.list_identities(ctx, owner.account_id) == [wide, every]


async def test_nobody_trusts_for_what_is_not_there(ctx: Context, owner: Owner, stranger: Owner) -> None:
    for account_id, server_id in [
        (AccountId(99), None),
        (AccountId(2**70), None),
        (owner.account_id, stranger.server_id),
        (owner.account_id, ServerId(2**70)),
        (None, owner.server_id),
    ]:
        with pytest.raises(NotFound):
            await identities.trust(ctx, ACTOR, "example.com", account_id, server_id)
