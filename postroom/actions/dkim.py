"""DKIM keys of a domain: made, found in DNS, taken into use, replaced and destroyed.

A new key signs only once its record was seen in DNS; then the one before it signs no more, but stays, so
that one can go back, until it is retired. The record of a stopped key is to stay in DNS for a while: mail it
signed is still being judged. Accounts do not exclude each other: two may have keys for one domain, under
selectors of their own. A private key goes in, or is made here, and never comes out.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from dataclasses import dataclass

from postroom.actions import identities as identities_of
from postroom.actions import sealing
from postroom.actions.context import Actor, Context
from postroom.actions.trail import present
from postroom.clock import to_datetime
from postroom.core.dkim import DkimKey, DkimState
from postroom.core.server import Owner
from postroom.errors import Conflict, Invalid, NotFound
from postroom.mail.address import parse_domain
from postroom.mail.dkim_keys import (
    Algorithm,
    PrivateKey,
    Published,
    algorithm_of,
    check_selector,
    new_key,
    public_text,
    published,
    read_pem,
    to_stored,
)
from postroom.storage import accounts, audit, dkim_keys, identities
from postroom.storage.interface import Work, now

KIND = "DKIM key"
MOST_KEYS = 20  # of one owner for one domain
_LETTERS = string.ascii_lowercase + string.digits

_WHY = {
    Published.MISSING: "there is no record at {name}",
    Published.OTHER: "another key stands at {name}",
    Published.SEVERAL: "there is more than one record at {name}",
    Published.BROKEN: "what stands at {name} is not a DKIM record for mail",
    Published.REVOKED: "the record at {name} is revoked: its p= is empty",
}


@dataclass(frozen=True)
class Looked:
    """A key, and what stands in DNS where its record belongs."""

    key: DkimKey
    published: Published

    @property
    def fault(self) -> str:
        """What is wrong with it there, as a sentence; "" where it is found."""
        return _WHY.get(self.published, "").format(name=self.key.record_name)


async def make_key(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    domain: str,
    algorithm: Algorithm = Algorithm.RSA,
    *,
    selector: str | None = None,
    pem: bytes | None = None,
) -> DkimKey:
    """A new key of a domain that `owner` may use in From (account 0: everybody). It does not sign yet.

    selector: unsaid, one that nobody else has. pem: a private key that is in use already, whose kind counts.
    Raises NotFound (account or server), Invalid (domain, selector, private_key), Conflict.
    """
    domain = parse_domain(domain.strip(), "domain")
    if selector is not None:
        selector = check_selector(selector, domain)
    private = await asyncio.to_thread(_private, algorithm, pem)
    algorithm = algorithm_of(private)
    uid = secrets.token_bytes(16)

    def work() -> Work[DkimKey]:
        yield from identities_of.require_owner(owner.account_id, owner.server_id)
        yield from accounts.lock(owner.account_id)  # so that two at once do not take one selector
        yield from _require_domain(owner, domain)
        at = yield from now()
        chosen = selector or check_selector(_new_selector(at), domain)
        if (yield from dkim_keys.selector_taken(owner.account_id, domain, chosen)):
            raise Conflict(f"the selector {chosen} is taken for {domain}")
        if len((yield from dkim_keys.list_of(owner, domain))) >= MOST_KEYS:
            raise Conflict(f"{domain} has {MOST_KEYS} keys; retire some first")
        plain = {dkim_keys.FIELD: to_stored(private)}
        sealed = yield from sealing.seal(ctx.ring, uid, dkim_keys.TABLE, plain)
        key = yield from dkim_keys.add(
            owner,
            at,
            domain=domain,
            selector=chosen,
            algorithm=algorithm,
            public_key=public_text(private),
            uid=uid,
            sealed=sealed[dkim_keys.FIELD],
        )
        yield from _audit(key, at, actor, "dkim.make", after=DkimState.NEW)
        return key

    return await ctx.store.write(work)


async def list_keys(ctx: Context, owner: Owner, domain: str) -> list[DkimKey]:
    """An owner's own keys of a domain, oldest first. Raises Invalid(domain)."""
    domain = parse_domain(domain.strip(), "domain")
    return await ctx.store.read(lambda: dkim_keys.list_of(owner, domain))


async def look(ctx: Context, owner: Owner, domain: str, selector: str) -> Looked:
    """Ask DNS for a key's record, now; that it was found is noted. Raises NotFound, Invalid, Unavailable."""
    domain = parse_domain(domain.strip(), "domain")
    key = await ctx.store.read(lambda: _get(owner, domain, selector))
    found = Looked(key, published(await ctx.resolver.txt(key.record_name), key.algorithm, key.public_key))
    if found.published is not Published.FOUND or key.seen_at_us is not None:
        return found

    def work() -> Work[DkimKey]:
        at = yield from now()
        key = yield from _get(owner, domain, selector)
        yield from _set(key, seen_at=at, activated_at=key.activated_at_us, stopped_at=key.stopped_at_us)
        return (yield from _get(owner, domain, selector))

    return Looked(await ctx.store.write(work), found.published)


async def activate(
    ctx: Context, actor: Actor, owner: Owner, domain: str, selector: str, *, unchecked: bool = False
) -> tuple[DkimKey, tuple[DkimKey, ...]]:
    """From now on it signs, and others of its kind sign no more: (it, those as they were).

    unchecked: without asking DNS first. Raises NotFound, Invalid (domain), Unavailable when DNS does not
    answer, Conflict when its record is not there.
    """
    domain = parse_domain(domain.strip(), "domain")
    if not unchecked:
        looked = await look(ctx, owner, domain, selector)
        if looked.fault:
            raise Conflict(
                f"{looked.fault}, so mail signed with it would not be believed; nothing was changed"
            )

    def work() -> Work[tuple[DkimKey, tuple[DkimKey, ...]]]:
        yield from accounts.lock(
            owner.account_id
        )  # so that two at once do not both become the one that signs
        yield from _require_domain(owner, domain)
        key = yield from _get(owner, domain, selector)
        at = yield from now()
        former = [
            one
            for one in (yield from dkim_keys.list_of(owner, domain))
            if one.state is DkimState.ACTIVE
            and one.algorithm is key.algorithm
            and one.selector != key.selector
        ]
        for one in former:
            yield from _stop(one, at, actor)
        if key.state is not DkimState.ACTIVE:
            yield from _set(key, seen_at=key.seen_at_us, activated_at=at, stopped_at=None)
            yield from _audit(key, at, actor, "dkim.activate", key.state, DkimState.ACTIVE)
        return (yield from _get(owner, domain, selector)), tuple(former)

    done = await ctx.store.write(work)
    ctx.hearer.facts_changed(owner.account_id)
    return done


async def stop(ctx: Context, actor: Actor, owner: Owner, domain: str, selector: str) -> DkimKey:
    """An active key signs no more, and none takes its place. Raises NotFound, Conflict, Invalid(domain)."""
    domain = parse_domain(domain.strip(), "domain")

    def work() -> Work[DkimKey]:
        key = yield from _get(owner, domain, selector)
        if key.state is not DkimState.ACTIVE:
            raise Conflict(f"the key {selector} does not sign")
        at = yield from now()
        yield from _stop(key, at, actor)
        return (yield from _get(owner, domain, selector))

    stopped = await ctx.store.write(work)
    ctx.hearer.facts_changed(owner.account_id)
    return stopped


async def retire(ctx: Context, actor: Actor, owner: Owner, domain: str, selector: str) -> DkimKey:
    """A key that does not sign is destroyed for ever. Raises NotFound, Invalid(domain), Conflict."""
    domain = parse_domain(domain.strip(), "domain")

    def work() -> Work[DkimKey]:
        key = yield from _get(owner, domain, selector)
        if key.state is DkimState.ACTIVE:
            raise Conflict(f"the key {selector} signs; activate another or stop it first")
        at = yield from now()
        yield from dkim_keys.remove(key)
        yield from _audit(key, at, actor, "dkim.retire", key.state)
        return key

    return await ctx.store.write(work)


def _private(algorithm: Algorithm, pem: bytes | None) -> PrivateKey:
    return new_key(algorithm) if pem is None else read_pem(pem)


def _new_selector(at_us: int) -> str:
    """Dated, for people; random, since whoever else has keys of this domain shares its names in DNS."""
    return f"pr{to_datetime(at_us):%Y%m%d}" + "".join(secrets.choice(_LETTERS) for _ in range(4))


def _require_domain(owner: Owner, domain: str) -> Work[None]:
    """Whose a domain is not makes and uses no key of it; an address of it is not enough."""
    if not (yield from identities.holds_domain(owner, domain)):
        raise Invalid("domain", f"{domain} is not trusted here (`postroom identity trust {domain}`)")


def _get(owner: Owner, domain: str, selector: str) -> Work[DkimKey]:
    wanted = selector.strip().lower()
    for one in (yield from dkim_keys.list_of(owner, domain)):
        if one.selector == wanted:
            return one
    raise NotFound(KIND)


def _stop(key: DkimKey, at_us: int, actor: Actor) -> Work[None]:
    yield from _set(key, seen_at=key.seen_at_us, activated_at=key.activated_at_us, stopped_at=at_us)
    yield from _audit(key, at_us, actor, "dkim.stop", DkimState.ACTIVE, DkimState.STOPPED)


def _set(
    key: DkimKey, *, seen_at: int | None, activated_at: int | None, stopped_at: int | None
) -> Work[None]:
    yield from dkim_keys.set_times(key, seen_at=seen_at, activated_at=activated_at, stopped_at=stopped_at)


def _audit(
    key: DkimKey,
    at_us: int,
    actor: Actor,
    action: str,
    before: DkimState | None = None,
    after: DkimState | None = None,
) -> Work[None]:
    detail = {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm.value,
        "server_id": key.server_id,
        "before": None if before is None else {"state": before.value},
        "after": None if after is None else {"state": after.value},
    }
    yield from audit.add(key.account_id, at_us, actor, action, f"{KIND} {key.key_id}", present(detail))
