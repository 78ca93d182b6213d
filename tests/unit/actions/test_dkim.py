"""DKIM keys: who may have one, when it signs, and that its private half never comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postroom.actions import dkim, identities, key_file, servers
from postroom.actions.context import Context
from postroom.core.dkim import DkimKey, DkimState
from postroom.core.identity import EVERYBODY
from postroom.core.server import Owner
from postroom.errors import Conflict, Invalid, NotFound, Unavailable
from postroom.mail.dkim import Signer
from postroom.mail.dkim_keys import Algorithm, Published, from_stored, public_text
from postroom.storage import dkim_keys
from postroom.storage.interface import Sql, Work
from tests.support.context import ACTOR, Harness
from tests.support.dkim_corpus import RSA_PEM, key_of
from tests.support.dns import FakeDns
from tests.support.stores import on_both

pytestmark = on_both

DOMAIN = "example.com"
ED25519 = Algorithm.ED25519


@pytest.fixture
def dns() -> FakeDns:
    return FakeDns()


@pytest.fixture
def ctx(harness: Harness, dns: FakeDns) -> Context:
    return replace(harness.ctx, resolver=dns)


@pytest.fixture
async def shared(ctx: Context, owner: Owner) -> Owner:
    """The account, for which the domain is trusted."""
    await identities.trust(ctx, ACTOR, DOMAIN, owner.account_id)
    return Owner(owner.account_id)


async def made(ctx: Context, owner: Owner, selector: str | None = None, domain: str = DOMAIN) -> DkimKey:
    return await dkim.make_key(ctx, ACTOR, owner, domain, ED25519, selector=selector)


async def active(ctx: Context, owner: Owner, selector: str | None = None, domain: str = DOMAIN) -> DkimKey:
    key = await made(ctx, owner, selector, domain)
    return (await dkim.activate(ctx, ACTOR, owner, domain, key.selector, unchecked=True))[0]


async def signing(ctx: Context, owner: Owner, *domains: str) -> list[str]:
    assert owner.server_id is not None
    server_id = owner.server_id
    found = await ctx.store.read(
        lambda: dkim_keys.that_sign(owner.account_id, server_id, domains or (DOMAIN,))
    )
    return [one.key.selector for one in found]


async def state_of(ctx: Context, owner: Owner, selector: str) -> DkimState:
    found = {one.selector: one.state for one in await dkim.list_keys(ctx, owner, DOMAIN)}
    return found[selector]


async def test_a_new_key_does_not_sign(ctx: Context, owner: Owner, shared: Owner) -> None:
    key = await dkim.make_key(ctx, ACTOR, shared, "Example.COM ")
    assert (key.domain, key.algorithm, key.state) == (DOMAIN, Algorithm.RSA, DkimState.NEW)
    assert key.record_name == f"{key.selector}._domainkey.{DOMAIN}"
    assert await signing(ctx, owner) == []


async def test_it_signs_once_its_record_is_there(
    harness: Harness, ctx: Context, owner: Owner, shared: Owner, dns: FakeDns
) -> None:
    key = await made(ctx, shared)
    with pytest.raises(Conflict, match="there is no record at"):
        await dkim.activate(ctx, ACTOR, shared, DOMAIN, key.selector)
    assert await signing(ctx, owner) == []
    dns.publish(key)
    harness.hearer.facts.clear()
    now_active, stopped = await dkim.activate(ctx, ACTOR, shared, DOMAIN, key.selector)
    assert (now_active.state, stopped) == (DkimState.ACTIVE, ())
    assert now_active.seen_at_us is not None
    assert await signing(ctx, owner) == [key.selector]
    assert harness.hearer.facts == [owner.account_id]


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([b"v=DKIM1; k=rsa; p=AAAA"], "another key"),
        ([b"v=DKIM1; k=rsa; p="], "revoked"),
        ([b"v=spf1 -all"], "not a DKIM record"),
        ([b"\xff\xfe"], "not a DKIM record"),
        ([b"a", b"b"], "more than one"),
    ],
)
async def test_what_else_stands_there_is_said(
    ctx: Context, shared: Owner, dns: FakeDns, records: list[bytes], fault: str
) -> None:
    key = await made(ctx, shared)
    dns.records[key.record_name] = records
    with pytest.raises(Conflict, match=fault):
        await dkim.activate(ctx, ACTOR, shared, DOMAIN, key.selector)
    assert await state_of(ctx, shared, key.selector) is DkimState.NEW


async def test_dns_that_does_not_answer_changes_nothing(ctx: Context, shared: Owner, dns: FakeDns) -> None:
    key = await active(ctx, shared)
    new = await made(ctx, shared)
    dns.silent = True
    with pytest.raises(Unavailable):
        await dkim.activate(ctx, ACTOR, shared, DOMAIN, new.selector)
    assert await state_of(ctx, shared, key.selector) is DkimState.ACTIVE


async def test_a_rotation_overlaps_and_can_be_taken_back(
    ctx: Context, owner: Owner, shared: Owner, dns: FakeDns
) -> None:
    old = await active(ctx, shared)
    new = await made(ctx, shared)
    assert await signing(ctx, owner) == [old.selector], "both are there; the old one signs"
    dns.publish(new)
    _, stopped = await dkim.activate(ctx, ACTOR, shared, DOMAIN, new.selector)
    assert [one.selector for one in stopped] == [old.selector]
    assert await signing(ctx, owner) == [new.selector]
    assert await state_of(ctx, shared, old.selector) is DkimState.STOPPED
    await dkim.activate(ctx, ACTOR, shared, DOMAIN, old.selector, unchecked=True)
    assert await signing(ctx, owner) == [old.selector]
    with pytest.raises(Conflict, match="signs"):
        await dkim.retire(ctx, ACTOR, shared, DOMAIN, old.selector)
    await dkim.retire(ctx, ACTOR, shared, DOMAIN, new.selector)
    assert [one.selector for one in await dkim.list_keys(ctx, shared, DOMAIN)] == [old.selector]
    await dkim.stop(ctx, ACTOR, shared, DOMAIN, old.selector)
    assert await signing(ctx, owner) == []
    with pytest.raises(Conflict, match="does not sign"):
        await dkim.stop(ctx, ACTOR, shared, DOMAIN, old.selector)


async def test_kinds_do_not_replace_each_other(ctx: Context, owner: Owner, shared: Owner) -> None:
    rsa = await dkim.make_key(ctx, ACTOR, shared, DOMAIN, pem=RSA_PEM.read_bytes(), selector="r")
    await dkim.activate(ctx, ACTOR, shared, DOMAIN, "r", unchecked=True)
    await active(ctx, shared, "e")
    assert await signing(ctx, owner) == ["r", "e"]
    assert rsa.public_key == public_text(key_of(Algorithm.RSA)), "taken over as it is"


async def test_a_domain_that_is_not_trusted_gets_no_key(ctx: Context, owner: Owner, stranger: Owner) -> None:
    whole = Owner(owner.account_id)
    await identities.trust(ctx, ACTOR, "ann@example.com", owner.account_id)
    await identities.trust(ctx, ACTOR, DOMAIN, stranger.account_id)
    await identities.trust(ctx, ACTOR, "example.net", owner.account_id, owner.server_id)
    for domain in (DOMAIN, "sub.example.com", "com", "example.net"):
        with pytest.raises(Invalid, match="not trusted here"):
            await dkim.make_key(ctx, ACTOR, whole, domain, ED25519)
    assert (await made(ctx, owner, domain="example.net")).server_id == owner.server_id
    for nonsense in ("", ".", "a b", "example.com/x", "ex_ample..com", "*.example.com", "a\r\nb.example"):
        with pytest.raises(Invalid):
            await dkim.make_key(ctx, ACTOR, whole, nonsense, ED25519)


async def test_two_accounts_hold_one_domain_and_neither_sees_the_other(
    ctx: Context, owner: Owner, stranger: Owner, shared: Owner
) -> None:
    theirs = Owner(stranger.account_id)
    await identities.trust(ctx, ACTOR, DOMAIN, stranger.account_id)
    mine, other = await active(ctx, shared, "same"), await active(ctx, theirs, "same")
    assert mine.public_key != other.public_key
    assert await signing(ctx, owner) == await signing(ctx, stranger) == ["same"]
    await dkim.stop(ctx, ACTOR, shared, DOMAIN, "same")
    assert (await signing(ctx, owner), await signing(ctx, stranger)) == ([], ["same"])
    await active(ctx, shared, "mine")
    with pytest.raises(NotFound):
        await dkim.stop(ctx, ACTOR, theirs, DOMAIN, "mine")
    with pytest.raises(Conflict, match="taken"):
        await made(ctx, shared, "same")


async def test_a_servers_key_is_for_its_mail_alone_and_goes_with_it(ctx: Context, owner: Owner) -> None:
    await identities.trust(ctx, ACTOR, DOMAIN, owner.account_id, owner.server_id)
    sibling = await servers.create_server(ctx, ACTOR, owner.account_id, "Sibling")
    await active(ctx, owner, "own")
    assert await signing(ctx, owner) == ["own"]
    assert await signing(ctx, Owner(owner.account_id, sibling.server_id)) == []
    assert owner.server_id is not None
    await servers.delete_server(ctx, ACTOR, Owner(owner.account_id, whole_account=True), owner.server_id)
    assert await dkim.list_keys(ctx, owner, DOMAIN) == []


async def test_everybodys_key(ctx: Context, owner: Owner, stranger: Owner) -> None:
    everybody = Owner(EVERYBODY)
    identity = await identities.trust(ctx, ACTOR, DOMAIN)
    await active(ctx, everybody, "all")
    assert await signing(ctx, owner) == await signing(ctx, stranger) == ["all"]
    await identities.trust(ctx, ACTOR, DOMAIN, owner.account_id)
    await identities.forget(ctx, ACTOR, identity.identity_id)
    assert await signing(ctx, owner) == [], "an account's trust does not lend it what was everybody's"


async def test_a_domain_taken_back_is_signed_no_more(ctx: Context, owner: Owner, shared: Owner) -> None:
    key = await active(ctx, shared)
    (identity,) = await identities.list_identities(ctx, owner.account_id)
    await identities.forget(ctx, ACTOR, identity.identity_id, owner.account_id)
    assert await signing(ctx, owner) == []
    with pytest.raises(Invalid, match="not trusted"):
        await dkim.activate(ctx, ACTOR, shared, DOMAIN, key.selector, unchecked=True)
    await identities.trust(ctx, ACTOR, DOMAIN, owner.account_id)
    assert await signing(ctx, owner) == [key.selector]


async def test_keys_of_a_domain_are_bounded(ctx: Context, shared: Owner) -> None:
    for _ in range(dkim.MOST_KEYS):
        await made(ctx, shared)
    with pytest.raises(Conflict, match="retire some"):
        await made(ctx, shared)


async def test_a_look_at_dns_notes_when_it_was_first_there(
    harness: Harness, ctx: Context, shared: Owner, dns: FakeDns
) -> None:
    key = await made(ctx, shared)
    assert (await dkim.look(ctx, shared, DOMAIN, key.selector)).published is Published.MISSING
    dns.publish(key)
    looked = await dkim.look(ctx, shared, DOMAIN, key.selector)
    first = looked.key.seen_at_us
    assert (looked.published, looked.fault) == (Published.FOUND, "")
    assert first is not None
    harness.clock.advance(60)
    assert (await dkim.look(ctx, shared, DOMAIN, key.selector)).key.seen_at_us == first
    with pytest.raises(NotFound):
        await dkim.look(ctx, shared, DOMAIN, "nobody")


async def test_the_private_half_is_sealed_and_a_rotation_of_the_key_file_seals_it_anew(
    ctx: Context, shared: Owner
) -> None:
    await dkim.make_key(ctx, ACTOR, shared, DOMAIN, ED25519, selector="s")
    pem = key_of(ED25519).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    given = await dkim.make_key(ctx, ACTOR, shared, DOMAIN, selector="t", pem=pem)
    secret = bytes(range(32))  # what `key_of` is made of

    def sealed() -> Work[list[tuple[bytes, bytes]]]:
        rows = yield Sql("SELECT uid, sealed FROM dkim_keys ORDER BY key_id")
        return [(row[0], row[1]) for row in rows]

    before = await ctx.store.read(sealed)
    assert all(secret not in value for _, value in before)
    assert secret not in repr(given).encode()
    await key_file.rotate(ctx, ACTOR)
    after = await ctx.store.read(sealed)
    assert all(old[1] != new[1] for old, new in zip(before, after, strict=True))
    opened = ctx.ring.open(after[1][1], uid=after[1][0], table=dkim_keys.TABLE, field=dkim_keys.FIELD)
    assert public_text(from_stored(opened)) == given.public_key
    assert "private" not in repr(Signer(DOMAIN, "t", ED25519, from_stored(opened))).lower()


async def test_the_trail_tells_each_step_and_no_key(ctx: Context, shared: Owner) -> None:
    def lines() -> Work[list[tuple[str, str]]]:
        rows = yield Sql("SELECT action, detail FROM audit WHERE action LIKE 'dkim%' ORDER BY audit_id")
        return [(row[0], row[1]) for row in rows]

    await active(ctx, shared, "a")
    await active(ctx, shared, "b")
    await dkim.retire(ctx, ACTOR, shared, DOMAIN, "a")
    found = await ctx.store.read(lines)
    assert [action for action, _ in found] == [
        *("dkim.make", "dkim.activate"),
        *("dkim.make", "dkim.stop", "dkim.activate", "dkim.retire"),
    ]
    assert all('"selector"' in detail and "MC4C" not in detail for _, detail in found)
