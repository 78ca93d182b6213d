"""Operations on the DKIM keys of a domain. A private key goes in and never out."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.actions import dkim, identities
from postroom.actions.dkim import Looked
from postroom.clock import to_iso
from postroom.control.desk import Desk, account_of, account_or_none
from postroom.core.dkim import DkimKey, DkimState
from postroom.core.identity import EVERYBODY, Identity, IdentityKind
from postroom.core.server import Owner
from postroom.errors import Invalid, NotFound
from postroom.ids import ServerId
from postroom.mail.address import parse_domain
from postroom.mail.dkim_keys import Algorithm, record_strings, zone_line


async def list_all(
    desk: Desk, *, domain: str, account: int | None = None, server: int | None = None
) -> dict[str, object]:
    """The keys of a domain, oldest first."""
    owner = await _owner(desk, domain, account, server)
    return {"data": [shown(one) for one in await dkim.list_keys(desk.ctx, owner, domain)]}


async def make(
    desk: Desk,
    *,
    domain: str,
    account: int | None = None,
    server: int | None = None,
    algorithm: str = Algorithm.RSA.value,
    selector: str | None = None,
    private_key: str | None = None,
) -> dict[str, object]:
    """A new key, which does not sign yet; private_key: one in PEM form that is in use already."""
    if algorithm not in list(Algorithm):
        raise Invalid("algorithm", "is neither rsa nor ed25519")
    owner = await _owner(desk, domain, account, server)
    pem = None if private_key is None else private_key.encode("utf-8")
    made = await dkim.make_key(
        desk.ctx, desk.actor, owner, domain, Algorithm(algorithm), selector=selector, pem=pem
    )
    return shown(made)


async def check(
    desk: Desk,
    *,
    domain: str,
    selector: str | None = None,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """Ask DNS for the records of one key, or of every key of the domain."""
    owner = await _owner(desk, domain, account, server)
    if selector is None:
        selectors = [one.selector for one in await dkim.list_keys(desk.ctx, owner, domain)]
    else:
        selectors = [selector]
    return {"data": [_looked(await dkim.look(desk.ctx, owner, domain, one)) for one in selectors]}


async def activate(
    desk: Desk,
    *,
    domain: str,
    selector: str | None = None,
    algorithm: str | None = None,
    unchecked: bool = False,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """A key signs from now on, and the one before it no more; unsaid: the only new one."""
    owner = await _owner(desk, domain, account, server)
    chosen = await _chosen(desk, owner, domain, selector, algorithm, (DkimState.NEW,))
    key, stopped = await dkim.activate(desk.ctx, desk.actor, owner, domain, chosen, unchecked=unchecked)
    return {**shown(key), "stopped": [one.selector for one in stopped]}


async def stop(
    desk: Desk,
    *,
    domain: str,
    selector: str | None = None,
    algorithm: str | None = None,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """A key signs no more; unsaid: the only active one."""
    owner = await _owner(desk, domain, account, server)
    chosen = await _chosen(desk, owner, domain, selector, algorithm, (DkimState.ACTIVE,))
    return shown(await dkim.stop(desk.ctx, desk.actor, owner, domain, chosen))


async def retire(
    desk: Desk,
    *,
    domain: str,
    selector: str | None = None,
    algorithm: str | None = None,
    account: int | None = None,
    server: int | None = None,
) -> dict[str, object]:
    """A key that does not sign is destroyed; unsaid: the only stopped one."""
    owner = await _owner(desk, domain, account, server)
    chosen = await _chosen(desk, owner, domain, selector, algorithm, (DkimState.STOPPED,))
    gone = await dkim.retire(desk.ctx, desk.actor, owner, domain, chosen)
    return {**shown(gone), "state": "retired"}


def shown(key: DkimKey) -> dict[str, object]:
    """A key as JSON values, with its record, without its private half."""
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm.value,
        "state": key.state.value,
        "account_id": key.account_id,
        "server_id": key.server_id,
        "created_at": to_iso(key.created_at_us),
        "seen_at": to_iso(key.seen_at_us),
        "activated_at": to_iso(key.activated_at_us),
        "stopped_at": to_iso(key.stopped_at_us),
        "record": {
            "name": key.record_name,
            "type": "TXT",
            "value": key.record_value,
            "strings": record_strings(key.record_value),
            "zone_line": zone_line(key.record_name, key.record_value),
        },
    }


def _looked(looked: Looked) -> dict[str, object]:
    return {**shown(looked.key), "published": looked.published.value, "fault": looked.fault or None}


async def _chosen(
    desk: Desk,
    owner: Owner,
    domain: str,
    selector: str | None,
    algorithm: str | None,
    states: Sequence[DkimState],
) -> str:
    if selector is not None:
        return selector
    fitting = [
        one.selector
        for one in await dkim.list_keys(desk.ctx, owner, domain)
        if one.state in states and algorithm in (None, one.algorithm.value)
    ]
    if not fitting:
        raise NotFound(f"{' or '.join(states)} {dkim.KIND} of {domain}")
    if len(fitting) > 1:
        raise Invalid("selector", f"must be given: there are {', '.join(fitting)}")
    return fitting[0]


async def _owner(desk: Desk, domain: str, account: int | None, server: int | None) -> Owner:
    """Whose keys are meant. Unsaid: whoever the domain is trusted for, everybody before an account."""
    if account is not None or server is not None:
        named = (await account_of(desk, account)).account_id
        return Owner(named, None if server is None else ServerId(server))
    wanted = parse_domain(domain.strip(), "domain")
    account_id = await account_or_none(desk)
    found = [
        one
        for one in await identities.list_identities(desk.ctx, account_id)
        if one.kind is IdentityKind.DOMAIN and one.value == wanted
    ]
    if not found:
        return Owner(EVERYBODY if account_id is None else account_id)
    widest = min(found, key=_width)
    if widest.server_id is not None and len(found) > 1:
        raise Invalid("server", f"must be given: {wanted} is trusted for several")
    return Owner(widest.account_id, widest.server_id)


def _width(identity: Identity) -> int:
    return 0 if identity.account_id == EVERYBODY else 1 if identity.server_id is None else 2
