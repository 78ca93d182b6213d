"""Keys: made once, hashed, cached, revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from postroom.actions import keys, servers
from postroom.actions.context import Context
from postroom.actions.key_cache import KeyCache
from postroom.core.key import Key, KeyKind, new_key
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound, Unauthenticated, Unavailable
from postroom.ids import AccountId, KeyId, ServerId
from postroom.storage.interface import Rows, Sql, Store, Work
from tests.support.context import ACTOR, Harness
from tests.support.passed_on import PassedOn
from tests.support.stores import on_both

pytestmark = on_both

T = TypeVar("T")


class CountingStore(PassedOn):
    """The real store, counting; `hold` keeps the next read's answer back, `broken` refuses writes."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reads = self.writes = 0
        self.broken = False
        self.read_done = asyncio.Event()
        self.release: asyncio.Event | None = None

    async def read(self, work: Callable[[], Work[T]]) -> T:
        self.reads += 1
        value = await super().read(work)
        self.read_done.set()
        if self.release is not None:
            await self.release.wait()
        return value

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        self.writes += 1
        if self.broken:
            raise Unavailable("full")
        return await super().write(work, size_bytes)


async def last_used(ctx: Context) -> Rows:
    def work() -> Work[Rows]:
        return (yield Sql("SELECT last_used_at FROM keys ORDER BY key_id"))

    return await ctx.store.read(work)


async def test_a_key_opens_what_it_was_made_for(ctx: Context, owner: Owner) -> None:
    key, text = await keys.create_key(ctx, ACTOR, owner, "app", ["email_servers_read"])
    assert text.reveal().startswith("prs_")
    assert text.reveal() not in repr(key) + repr(text)
    found = await keys.authenticate(ctx, text.reveal())
    assert found == key
    assert await keys.authenticate(ctx, f" {text.reveal().upper()}\n") == key
    assert (found.account_id, found.server_id) == (owner.account_id, owner.server_id)
    assert found.may("email_servers_read")
    assert not found.may("email_servers_write")
    shared, text = await keys.create_key(ctx, ACTOR, Owner(owner.account_id), "ops", ["all"])
    assert (text.reveal()[:4], shared.server_id) == ("pra_", None)


async def test_what_is_wrong_with_a_new_key(ctx: Context, owner: Owner, stranger: Owner) -> None:
    with pytest.raises(Invalid) as caught:
        await keys.create_key(ctx, ACTOR, owner, "", ["everything"])
    assert [error.field for error in caught.value.errors] == ["label", "scopes"]
    with pytest.raises(Invalid, match="scopes can't be blank"):
        await keys.create_key(ctx, ACTOR, owner, "app", [])
    for nowhere in (Owner(owner.account_id, stranger.server_id), Owner(AccountId(99))):
        with pytest.raises(NotFound):
            await keys.create_key(ctx, ACTOR, nowhere, "app", ["all"])


async def test_unknown_revoked_and_malformed_keys_look_alike(ctx: Context, owner: Owner) -> None:
    key, revoked = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    await keys.authenticate(ctx, revoked.reveal())
    await keys.revoke_key(ctx, ACTOR, owner, key.key_id)
    unknown = new_key(KeyKind.SERVER).text
    texts = set()
    for text in (revoked.reveal(), unknown, unknown[:-1], "", "é" * 99, "x" * 10_000, "\ud800"):
        with pytest.raises(Unauthenticated) as caught:
            await keys.authenticate(ctx, text)
        texts.add(str(caught.value))
    assert len(texts) == 1


async def test_lists_and_revoking_are_the_owners_own(ctx: Context, owner: Owner, stranger: Owner) -> None:
    mine, _ = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    account = Owner(owner.account_id)
    shared, _ = await keys.create_key(ctx, ACTOR, account, "ops", ["all"])
    theirs, _ = await keys.create_key(ctx, ACTOR, stranger, "app", ["all"])
    assert await keys.list_keys(ctx, owner) == [mine]
    assert await keys.list_keys(ctx, account) == [mine, shared]
    for key_id in (theirs.key_id, shared.key_id, KeyId(2**70), KeyId(0)):
        with pytest.raises(NotFound):
            await keys.revoke_key(ctx, ACTOR, owner, key_id)
    await keys.revoke_key(ctx, ACTOR, account, mine.key_id)
    with pytest.raises(NotFound):
        await keys.revoke_key(ctx, ACTOR, account, mine.key_id)
    assert await keys.list_keys(ctx, account) == [shared]


async def test_a_known_key_needs_no_read_until_it_is_stale(harness: Harness, owner: Owner) -> None:
    store = CountingStore(harness.store)
    ctx = replace(harness.ctx, store=store)
    _, text = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    for _ in range(3):
        await keys.authenticate(ctx, text.reveal())
    assert store.reads == 1
    harness.clock.advance(6)
    await keys.authenticate(ctx, text.reveal())
    assert store.reads == 2


async def test_a_revocation_elsewhere_is_noticed(harness: Harness, owner: Owner) -> None:
    ctx = harness.ctx
    other_process = replace(ctx, keys=KeyCache())
    key, text = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    await keys.authenticate(ctx, text.reveal())
    await keys.revoke_key(other_process, ACTOR, owner, key.key_id)
    harness.clock.advance(6)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(ctx, text.reveal())


async def test_a_read_from_before_the_revocation_does_not_bring_the_key_back(
    harness: Harness, owner: Owner
) -> None:
    store = CountingStore(harness.store)
    ctx = replace(harness.ctx, store=store)
    key, text = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    store.release = asyncio.Event()
    late = asyncio.ensure_future(keys.authenticate(ctx, text.reveal()))
    await store.read_done.wait()
    await keys.revoke_key(ctx, ACTOR, owner, key.key_id)
    store.release.set()
    await late
    with pytest.raises(Unauthenticated):
        await keys.authenticate(ctx, text.reveal())


async def test_the_last_use_is_written_once_a_minute(harness: Harness, owner: Owner) -> None:
    store = CountingStore(harness.store)
    ctx = replace(harness.ctx, store=store)
    _, text = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    store.writes = 0
    first = harness.clock.now_us()
    for _ in range(14):
        await keys.authenticate(ctx, text.reveal())
        harness.clock.advance(4)
    await ctx.keys.close()
    assert store.writes == 1
    assert await last_used(ctx) == [(first,)]
    harness.clock.advance(4)
    await keys.authenticate(ctx, text.reveal())
    await ctx.keys.close()
    assert await last_used(ctx) == [(first + 60_000_000,)]


async def test_a_use_that_cannot_be_written_down_stops_nobody(harness: Harness, owner: Owner) -> None:
    store = CountingStore(harness.store)
    ctx = replace(harness.ctx, store=store)
    key, text = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    store.broken = True
    assert await keys.authenticate(ctx, text.reveal()) == key
    await ctx.keys.close()


def test_the_cache_keeps_the_lately_used() -> None:
    cache = KeyCache(most=2)
    for number in (1, 2):
        cache.put(bytes([number]), _key(number), 0.0, cache.generation)
    assert cache.get(b"\x01", 0.0) is not None
    cache.put(b"\x03", _key(3), 0.0, cache.generation)
    assert [cache.get(bytes([number]), 0.0) is not None for number in (1, 2, 3)] == [True, False, True]
    cache.forget_server(AccountId(1), ServerId(3))
    assert [cache.get(bytes([number]), 0.0) is not None for number in (1, 3)] == [True, False]
    assert len(cache) == 1


async def test_the_keys_of_a_server_do_not_outlive_it(ctx: Context, owner: Owner) -> None:
    assert owner.server_id is not None
    _, text = await keys.create_key(ctx, ACTOR, owner, "app", ["all"])
    await keys.authenticate(ctx, text.reveal())
    await servers.delete_server(ctx, ACTOR, owner, owner.server_id)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(ctx, text.reveal())
    with pytest.raises(NotFound):
        await keys.create_key(ctx, ACTOR, owner, "app", ["all"])


def _key(number: int) -> Key:
    return Key(KeyId(number), AccountId(1), ServerId(number), "", frozenset(), "", 0)
