"""Who signs is asked once and remembered, and forgotten when it changes, whoever changed it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import pytest

from postroom.actions import accounts, dkim, identities, servers
from postroom.core.connection import DeliveryMethod, SignsMail, Vendor
from postroom.core.server import Owner
from postroom.engine.signing import Signing, rules_of
from postroom.ids import AccountId, ServerId
from postroom.mail.dkim import Unsigned
from postroom.mail.dkim_keys import Algorithm
from postroom.storage.interface import Store, Work
from postroom.storage.routes import Route
from tests.support.context import ACTOR, Harness, make_harness
from tests.support.stores import on_both

T = TypeVar("T")
DOMAIN = "example.com"
ANN = f"ann@{DOMAIN}"


class CountingStore:
    """Counts what is read."""

    def __init__(self, store: Store) -> None:
        self._store, self.reads = store, 0

    async def read(self, work: Callable[[], Work[T]]) -> T:
        self.reads += 1
        return await self._store.read(work)


@dataclass
class House:
    """An account that has the domain, its server, and an engine's signing, which nobody tells anything."""

    harness: Harness
    account: Owner
    server_id: ServerId
    counting: CountingStore
    signing: Signing

    async def names(self, sender: str = ANN) -> list[str]:
        signers = await self.signing.signers(self.account.account_id, self.server_id, sender)
        return [one.selector for one in signers]

    async def key(self, selector: str, algorithm: Algorithm = Algorithm.ED25519) -> None:
        ctx = self.harness.ctx
        await dkim.make_key(ctx, ACTOR, self.account, DOMAIN, algorithm, selector=selector)
        await dkim.activate(ctx, ACTOR, self.account, DOMAIN, selector, unchecked=True)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_harness(tmp_path) as harness:
        ctx = harness.ctx
        account = await accounts.create_account(ctx, ACTOR, "Acme")
        server = await servers.create_server(ctx, ACTOR, account.account_id, "Shop")
        await identities.trust(ctx, ACTOR, DOMAIN, account.account_id)
        counting = CountingStore(harness.store)
        signing = Signing(cast(Store, counting), ctx.ring, harness.clock)
        yield House(harness, Owner(account.account_id), server.server_id, counting, signing)
        await signing.close()


@on_both
async def test_it_is_asked_once_however_much_is_sent(house: House) -> None:
    await house.key("a")
    assert await house.names() == ["a"]
    before = house.counting.reads
    for _ in range(100):
        assert await house.names() == ["a"]
    assert house.counting.reads == before
    house.harness.clock.advance(6)
    for _ in range(100):
        assert await house.names() == ["a"]
    assert house.counting.reads == before + 1, "one look whether anything changed"


@on_both
async def test_an_account_without_a_key_is_asked_once_for_all_its_servers(house: House) -> None:
    async def each() -> list[int]:
        account_id = house.account.account_id
        return [len(await house.signing.signers(account_id, ServerId(n), ANN)) for n in range(1, 50)]

    assert set(await each()) == {0}
    before = house.counting.reads
    assert set(await each()) == {0}
    assert house.counting.reads == before
    await house.key("a")
    house.signing.forget()
    assert set(await each()) == {1}


@on_both
async def test_what_another_process_changed_is_seen_without_news_of_it(house: House) -> None:
    assert await house.names() == []
    await house.key("a")
    assert await house.names() == [], "nobody told"
    house.harness.clock.advance(6)
    assert await house.names() == ["a"]
    await dkim.stop(house.harness.ctx, ACTOR, house.account, DOMAIN, "a")
    house.harness.clock.advance(6)
    assert await house.names() == []


async def test_a_domain_taken_back_is_seen_too(house: House) -> None:
    await house.key("a")
    assert await house.names() == ["a"]
    (identity,) = await identities.list_identities(house.harness.ctx, house.account.account_id)
    await identities.forget(house.harness.ctx, ACTOR, identity.identity_id, house.account.account_id)
    house.harness.clock.advance(6)
    assert await house.names() == []
    await identities.trust(house.harness.ctx, ACTOR, DOMAIN, house.account.account_id)
    house.harness.clock.advance(6)
    assert await house.names() == ["a"]


async def test_news_of_a_change_are_heard_at_once(house: House) -> None:
    assert await house.names() == []
    await house.key("a")
    house.signing.forget()
    assert await house.names() == ["a"]


async def test_an_address_without_a_domain_has_no_signer(house: House) -> None:
    await house.key("a")
    assert [await house.names(sender) for sender in ("", "@", "ann", "ann@")] == [[], [], [], []]


async def test_rsa_is_signed_beside_the_loop_and_the_same_as_in_it(house: House) -> None:
    await house.key("a")
    await house.key("r", Algorithm.RSA)
    message = b"From: ann@example.com\r\nSubject: x\r\n\r\nhello\r\n"
    signers = await house.signing.signers(house.account.account_id, house.server_id, ANN)
    both = await house.signing.fields(message, signers, 1_000_000, frozenset())
    alone = await house.signing.fields(message, signers[1:], 1_000_000, frozenset())
    assert [one.algorithm for one in signers] == [Algorithm.RSA, Algorithm.ED25519]
    assert both.endswith(alone)
    assert both.count(b"DKIM-Signature:") == 2


def _route(
    vendor: Vendor, method: DeliveryMethod = DeliveryMethod.SMTP, word: SignsMail = SignsMail.AUTO
) -> Route:
    return Route(
        account_id=AccountId(1),
        connection_id=1,  # type: ignore[arg-type]  # a ConnectionId
        server_id=None,
        label="",
        delivery_method=method,
        version=1,
        enabled=True,
        failed_at=None,
        disabled_at=None,
        held_until=None,
        deleted=False,
        purposes=frozenset(),
        hourly_cap=None,
        daily_cap=None,
        vendor=vendor,
        signs_mail=word,
    )


@pytest.mark.parametrize(
    ("route", "signs", "covered"),
    [
        (_route(Vendor.OTHER), True, False),
        (_route(Vendor.AWS_SES), True, True),
        (_route(Vendor.AWS_SES, DeliveryMethod.API), True, True),
        (_route(Vendor.POSTMARK), False, True),
        (_route(Vendor.POSTMARK, word=SignsMail.ALWAYS), True, True),
        (_route(Vendor.POSTMARK, DeliveryMethod.API, SignsMail.ALWAYS), False, True),
        (_route(Vendor.INBOXROAD), False, False),
        (_route(Vendor.OTHER, word=SignsMail.NEVER), False, False),
    ],
)
def test_the_vendors_row_decides_and_the_connection_may_overrule_it(
    route: Route, signs: bool, covered: bool
) -> None:
    rules = rules_of(route)
    assert (rules.signs, rules.covered) == (signs, covered)
    if route.vendor is Vendor.AWS_SES:
        assert {"date", "message-id"} <= rules.rewritten


@on_both
async def test_a_key_of_before_a_change_is_told_to_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.key("a", Algorithm.RSA)
    told: list[bool] = []
    make = house.signing._makers.signature

    async def noted(one: Unsigned, *, current: bool = True) -> bytes:
        told.append(current)
        return await make(one, current=current)

    monkeypatch.setattr(house.signing._makers, "signature", noted)
    message = b"From: ann@example.com\r\n\r\nHi\r\n"
    signers = await house.signing.signers(house.account.account_id, house.server_id, ANN)
    first = await house.signing.fields(message, signers, 1, frozenset())
    house.signing.forget()
    assert await house.signing.fields(message, signers, 1, frozenset()) == first
    signers = await house.signing.signers(house.account.account_id, house.server_id, ANN)
    assert await house.signing.fields(message, signers, 1, frozenset()) == first
    assert told == [True, False, True]
