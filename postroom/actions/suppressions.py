"""Suppressions by hand: addresses a server sends nothing to any more, on all streams or on one.

What is put on the list is refused at accept and taken out of the queue at claim, so mail that already
waits for such an address does not leave either.

Many addresses are written in slices of 500, each a unit of work of its own with an audit line of its own, so
that no other caller waits for ten thousand rows. If one fails the slices before it hold; the caller gets the
error, and asking again changes only what is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from postroom.actions.context import Actor, Context
from postroom.core.server import Owner
from postroom.core.suppression import ALL_STREAMS, Origin, Reason, Suppression
from postroom.errors import Invalid, NotFound
from postroom.ids import ServerId
from postroom.mail.address import parse_address
from postroom.storage import audit, servers, streams, suppressions
from postroom.storage.interface import Work, now
from postroom.storage.suppressions import Wanted as Wanted

MOST_AT_ONCE = 10_000
_SLICE = 500
_DUMP_SLICE = 5000
_MOST_NAMED = 20  # addresses an audit line names; of more it says how many


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

    def add(keys: Sequence[str]) -> Work[set[str]]:
        return _add(actor, owner, server_id, keys, reason, origin, stream)

    return await _in_slices(ctx, owner, server_id, addresses, stream, add)


async def suppress_one(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    server_id: ServerId,
    address: str,
    *,
    reason: Reason = Reason.MANUAL,
    origin: Origin = Origin.CUSTOMER,
    stream: str = ALL_STREAMS,
) -> tuple[Suppression, bool]:
    """Put one address on a server's list; its row, and whether it is new.

    Raises NotFound(server); Invalid(email), Invalid(stream).
    """
    key = parse_address(address, "email").key

    def work() -> Work[tuple[Suppression, bool]]:
        yield from _checked(owner, server_id, stream)
        new = yield from _add(actor, owner, server_id, [key], reason, origin, stream)
        while (row := (yield from suppressions.get(owner.account_id, server_id, key, stream=stream))) is None:
            new = yield from _add(actor, owner, server_id, [key], reason, origin, stream)  # just taken off
        return row, bool(new)

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

    def remove(keys: Sequence[str]) -> Work[set[str]]:
        gone = yield from suppressions.remove(owner.account_id, server_id, keys, stream=stream)
        if gone:
            yield from _line(owner, actor, server_id, "suppression.remove", stream, gone)
        return gone

    return await _in_slices(ctx, owner, server_id, addresses, stream, remove)


async def release(
    ctx: Context,
    actor: Actor,
    owner: Owner,
    server_id: ServerId,
    addresses: Sequence[str],
    *,
    stream: str,
) -> frozenset[str]:
    """Let mail on one stream reach these again: off its list, and off that of all streams.

    The compare keys of those that stay on come back: what a recipient asked for, or the operator put there,
    is not the customer's to undo. Raises as `suppress`.
    """
    kept: set[str] = set()

    def remove(keys: Sequence[str]) -> Work[set[str]]:
        rows = yield from suppressions.of_addresses(owner.account_id, server_id, (ALL_STREAMS, stream), keys)
        kept.update(row.address for row in rows if not _is_customers(row))
        gone: set[str] = set()
        for one in (ALL_STREAMS, stream):
            free = [row.address for row in rows if row.stream == one and row.address not in kept]
            removed = yield from suppressions.remove(owner.account_id, server_id, free, stream=one)
            if removed:
                yield from _line(owner, actor, server_id, "suppression.remove", one, removed)
            gone |= removed
        return gone

    await _in_slices(ctx, owner, server_id, addresses, stream, remove)
    return frozenset(kept)


def _is_customers(row: Suppression) -> bool:
    """Whether the customer may undo it: what he did himself, and what a bounce did."""
    return row.reason is Reason.HARD_BOUNCE or (row.reason, row.origin) == (Reason.MANUAL, Origin.CUSTOMER)


async def check_stream(ctx: Context, owner: Owner, server_id: ServerId, stream: str) -> None:
    """Raises NotFound(server); Invalid(stream) for one the server has not."""
    await ctx.store.read(lambda: _checked(owner, server_id, stream))


async def dump(
    ctx: Context, owner: Owner, server_id: ServerId, stream: str, wanted: Wanted
) -> AsyncIterator[list[Suppression]]:
    """Who gets nothing on a stream, each address once, in slices, by address; those of all streams first.

    Each slice is a reading of its own, so that nobody waits for a long list. Raises as `suppress`.
    """
    await check_stream(ctx, owner, server_id, stream)
    seen: set[str] = set()
    for one in (ALL_STREAMS, stream):
        after = ""
        while True:
            read = partial(
                suppressions.page_of, owner.account_id, server_id, one, wanted, after=after, limit=_DUMP_SLICE
            )
            rows = await ctx.store.read(read)
            fresh = [row for row in rows if row.address not in seen]
            if fresh:
                yield fresh
            if one == ALL_STREAMS:
                seen.update(row.address for row in fresh)
            if len(rows) < _DUMP_SLICE:
                break
            after = rows[-1].address


async def is_suppressed(
    ctx: Context, owner: Owner, server_id: ServerId, address: str, *, stream: str = ALL_STREAMS
) -> bool:
    """Whether mail on this stream would be withheld from this address; by default: on every stream.

    Raises Invalid(email); NotFound(server).
    """
    key = parse_address(address, "email").key

    def work() -> Work[bool]:
        yield from _checked(owner, server_id, stream)
        return bool((yield from suppressions.check(owner.account_id, server_id, stream, [key])))

    return await ctx.store.read(work)


@dataclass(frozen=True)
class Found:
    """What a server's lists have of one address, as it is compared."""

    address: str
    rows: tuple[Suppression, ...]


async def find(ctx: Context, owner: Owner, server_id: ServerId, address: str) -> Found:
    """Every row that holds mail to this address back. Raises Invalid(email); NotFound(server)."""
    key = parse_address(address, "email").key

    def work() -> Work[Found]:
        yield from _checked(owner, server_id, ALL_STREAMS)
        rows = yield from suppressions.all_of(owner.account_id, server_id, key)
        return Found(key, tuple(rows))

    return await ctx.store.read(work)


async def list_suppressions(
    ctx: Context,
    owner: Owner,
    server_id: ServerId,
    *,
    stream: str | None = None,
    containing: str = "",
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Suppression], int]:
    """One page of a server's list and how many there are. Raises NotFound(server).

    containing: only addresses with this text in them, upper and lower case the same.
    """

    def work() -> Work[tuple[list[Suppression], int]]:
        yield from _checked(owner, server_id, ALL_STREAMS)
        return (
            yield from suppressions.list_of(
                owner.account_id,
                server_id,
                stream=stream,
                containing=containing.lower(),
                limit=max(0, limit),
                offset=max(0, offset),
            )
        )

    return await ctx.store.read(work)


async def _in_slices(
    ctx: Context,
    owner: Owner,
    server_id: ServerId,
    addresses: Sequence[str],
    stream: str,
    change: Callable[[Sequence[str]], Work[set[str]]],
) -> Changed:
    """`change` each slice of the addresses in a unit of its own; it says which of them it changed."""
    keys, invalid = _keys(addresses)

    def work(part: Sequence[str]) -> Work[set[str]]:
        yield from _checked(owner, server_id, stream)
        return (yield from change(part))

    changed: set[str] = set()
    for start in range(0, max(1, len(keys)), _SLICE):  # once with none, too: the server may not be there
        part = keys[start : start + _SLICE]
        changed |= await ctx.store.write(partial(work, part), sum(map(len, part)))
    return Changed(
        tuple(key for key in keys if key in changed),
        tuple(key for key in keys if key not in changed),
        invalid,
    )


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


def _checked(owner: Owner, server_id: ServerId, stream: str) -> Work[None]:
    """The server is the caller's, and the stream is one of its."""
    server = yield from servers.get(owner.account_id, server_id)
    if server is None or not owner.sees_server(server_id):
        raise NotFound("server")
    if stream != ALL_STREAMS:
        found = yield from streams.get(owner.account_id, server_id, stream)
        if found is None:
            raise Invalid("stream", "is not a stream of this server")


def _add(
    actor: Actor,
    owner: Owner,
    server_id: ServerId,
    keys: Sequence[str],
    reason: Reason,
    origin: Origin,
    stream: str,
) -> Work[set[str]]:
    at = yield from now()
    new = yield from suppressions.add(
        owner.account_id, server_id, at, keys, reason=reason, origin=origin, stream=stream
    )
    if new:
        yield from _line(owner, actor, server_id, "suppression.add", stream, new)
    return new


def _line(
    owner: Owner, actor: Actor, server_id: ServerId, action: str, stream: str, addresses: set[str]
) -> Work[None]:
    at = yield from now()
    detail: dict[str, object] = {"stream": stream or "all", "count": len(addresses)}
    if len(addresses) <= _MOST_NAMED:
        detail["addresses"] = sorted(addresses)
    yield from audit.add(owner.account_id, at, actor, action, f"server {server_id}", detail)
