"""Suppressions by hand: addresses a server sends nothing to any more, on all streams or on one.

What is put on the list is refused at accept and taken out of the queue at claim, so mail that already
waits for such an address does not leave either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.actions.context import Actor, Context
from postroom.core.server import Owner
from postroom.core.suppression import ALL_STREAMS, Origin, Reason, Suppression
from postroom.errors import Invalid, NotFound
from postroom.ids import ServerId
from postroom.mail.address import parse_address
from postroom.storage import audit, servers, suppressions
from postroom.storage.interface import Work, now

MOST_AT_ONCE = 10_000


@dataclass(frozen=True)
class Changed:
    """What a change of the list did, as compare keys, in the order given, each once.

    invalid: texts that are no address, as given.
    """

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    invalid: tuple[str, ...] = ()


async def suppress(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    server_id: ServerId,
    addresses: Sequence[str],
    *,
    reason: Reason = Reason.MANUAL,
    origin: Origin = Origin.CUSTOMER,
    stream: str = ALL_STREAMS,
) -> Changed:
    """Put addresses on a server's list. `changed`: those that were not on it.

    Raises NotFound(server); Invalid(emails) with more than 10,000; Invalid(stream).
    """
    keys, invalid = _keys(addresses)

    def work() -> Work[Changed]:
        yield from _checked(owner, server_id, stream)
        at = yield from now()
        new = yield from suppressions.add(
            owner.account_id, server_id, at, keys, reason=reason, origin=origin, stream=stream
        )
        if new:
            yield from _line(owner, at, actor, server_id, "suppression.add", stream, len(new))
        return _sorted_out(keys, new, invalid)

    return await ctx.store.write(work)


async def unsuppress(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    server_id: ServerId,
    addresses: Sequence[str],
    *,
    stream: str = ALL_STREAMS,
) -> Changed:
    """Take addresses off a server's list. `changed`: those that were on it. Raises as `suppress`."""
    keys, invalid = _keys(addresses)

    def work() -> Work[Changed]:
        yield from _checked(owner, server_id, stream)
        at = yield from now()
        gone = yield from suppressions.remove(owner.account_id, server_id, keys, stream=stream)
        if gone:
            yield from _line(owner, at, actor, server_id, "suppression.remove", stream, len(gone))
        return _sorted_out(keys, gone, invalid)

    return await ctx.store.write(work)


async def is_suppressed(
    ctx: Context, owner: Owner, server_id: ServerId, address: str, *, stream: str = ALL_STREAMS
) -> bool:
    """Whether mail on this stream (default: on any) would be withheld from this address.

    Raises Invalid(email); NotFound(server).
    """
    key = parse_address(address, "email").key

    def work() -> Work[bool]:
        yield from _checked(owner, server_id, stream)
        return bool((yield from suppressions.check(owner.account_id, server_id, stream, [key])))

    return await ctx.store.read(work)


async def list_suppressions(
    ctx: Context,
    owner: Owner,
    server_id: ServerId,
    *,
    stream: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Suppression], int]:
    """One page of a server's list and how many there are. Raises NotFound(server)."""

    def work() -> Work[tuple[list[Suppression], int]]:
        yield from _checked(owner, server_id, ALL_STREAMS)
        return (
            yield from suppressions.list_of(
                owner.account_id, server_id, stream=stream, limit=max(0, limit), offset=max(0, offset)
            )
        )

    return await ctx.store.read(work)


def _keys(addresses: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    if len(addresses) > MOST_AT_ONCE:
        raise Invalid("emails", f"has more than {MOST_AT_ONCE} addresses")
    keys: dict[str, None] = {}
    invalid: dict[str, None] = {}
    for text in addresses:
        try:
            keys[parse_address(text, "email").key] = None
        except Invalid:
            invalid[text] = None
    return list(keys), tuple(invalid)


def _sorted_out(keys: Sequence[str], changed: set[str], invalid: tuple[str, ...]) -> Changed:
    return Changed(
        tuple(key for key in keys if key in changed),
        tuple(key for key in keys if key not in changed),
        invalid,
    )


def _checked(owner: Owner, server_id: ServerId, stream: str) -> Work[None]:
    """The server is the caller's, and the stream is one of its."""
    server = yield from servers.get(owner.account_id, server_id)
    if server is None or not owner.sees_server(server_id):
        raise NotFound("server")
    if stream != ALL_STREAMS:
        found = yield from servers.get_stream(owner.account_id, server_id, stream)
        if found is None:
            raise Invalid("stream", "is not a stream of this server")


def _line(
    owner: Owner, at_us: int, actor: Actor, server_id: ServerId, action: str, stream: str, count: int
) -> Work[None]:
    yield from audit.add(
        owner.account_id,
        at_us,
        actor.name,
        action,
        f"server {server_id}",
        {"stream": stream or "all", "addresses": count},
    )
