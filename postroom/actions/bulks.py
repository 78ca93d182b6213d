"""Bulks: accepted whole, made into messages slice by slice, looked at.

A slice and its messages are one unit of work, which begins by deleting the slice: killed before its commit
nothing of it is there and it is made again, after it there is nothing to make again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from postroom.actions.accept import (
    Accepted,
    AllSuppressed,
    Prepared,
    admit,
    prepare,
    storing,
    tell,
)
from postroom.actions.context import Context
from postroom.actions.servers import owned
from postroom.actions.submission import Submission
from postroom.core.bulk import Bulk, BulkSlice
from postroom.core.server import Owner
from postroom.errors import Denied, Invalid, NotFound, PostroomError, TooLarge
from postroom.ids import BulkId, LaneId, ServerId, new_public_id
from postroom.logs import logger
from postroom.storage import bulks
from postroom.storage.interface import Work, now

KIND = "bulk"
log = logger("bulks")
_REFUSED = (AllSuppressed, Denied, Invalid, TooLarge)


@dataclass(frozen=True)
class BulkDraft:
    """A bulk to be accepted. like: one of its messages, for what holds for all: server, stream, From.

    shared, and the bodies of its slices: in the words of its way in, which reads them again.
    """

    like: Submission
    subject: str | None
    total: int
    shared: bytes = field(repr=False)
    slices: Sequence[BulkSlice] = field(repr=False)


class PutOff(PostroomError):
    """It cannot be gone on with now, and nothing of it is lost."""


async def accept_bulk(ctx: Context, draft: BulkDraft) -> Bulk:
    """Accept a bulk, durably. Raises what accepting one of its messages does."""
    like = draft.like
    began_us = ctx.clock.now_us()

    def work() -> Work[Bulk]:
        admitted = yield from admit(like)
        at = yield from now()
        made = Bulk(
            like.account_id,
            BulkId(0),
            like.server_id,
            new_public_id(began_us),
            like.key_id,
            like.origin,
            admitted.stream,
            draft.subject,
            draft.total,
            0,
            0,
            at,
            None,
        )
        yield from bulks.add(made, draft.shared, draft.slices)
        return made

    size = len(draft.shared) + sum(len(one.body) for one in draft.slices)
    bulk = await ctx.store.write(work, size_bytes=size)
    ctx.bulk_came.set()
    return bulk


async def get_bulk(ctx: Context, owner: Owner, server_id: ServerId, public_id: str) -> Bulk:
    """One bulk of a server. Raises NotFound."""

    def work() -> Work[Bulk]:
        server = yield from owned(owner, server_id)
        found = None
        if "\0" not in public_id:
            found = yield from bulks.get(server.account_id, server.server_id, public_id.lower())
        if found is None:
            raise NotFound(KIND)
        return found

    return await ctx.store.read(work)


async def list_bulks(
    ctx: Context, owner: Owner, server_id: ServerId, *, before: BulkId | None = None, limit: int
) -> list[Bulk]:
    """The server's bulks, newest first. Raises NotFound(server)."""

    def work() -> Work[list[Bulk]]:
        server = yield from owned(owner, server_id)
        return (yield from bulks.list_of(server.account_id, server.server_id, before=before, limit=limit))

    return await ctx.store.read(work)


async def open_bulks(ctx: Context, *, after: int = 0, limit: int = 50) -> list[Bulk]:
    """Those of all accounts that still have messages to make, oldest first. after: a bulk's number."""
    return await ctx.store.read(lambda: bulks.open_ones(after, limit))


async def next_slice(ctx: Context, bulk: Bulk) -> tuple[bytes, BulkSlice] | None:
    """What its messages share, and what of them is to be made next."""
    return await ctx.store.read(lambda: bulks.next_slice(bulk))


async def release(
    ctx: Context, bulk: Bulk, part: BulkSlice, given: Sequence[Submission | PostroomError]
) -> bool:
    """Accept a slice's messages, durably and all at once; False: somebody else did.

    An error in place of a message counts it as failed, as what cannot be accepted is. Raises PutOff where
    no connection may carry such mail now, and where the server is gone; Unavailable.
    """
    prepared = [await _prepared(ctx, one) for one in given]

    def work() -> Work[list[tuple[Prepared, Accepted, LaneId | None]] | None]:
        if not (yield from bulks.take(bulk, part.first)):
            return None
        made: list[tuple[Prepared, Accepted, LaneId | None]] = []
        for one in prepared:
            if isinstance(one, PostroomError):
                continue
            try:
                accepted, lane = yield from storing(ctx, one)
            except _REFUSED as error:
                _raise_if_passing(error)
                continue
            except NotFound as error:
                raise PutOff(str(error)) from None
            made.append((one, accepted, lane))
        at = yield from now()
        yield from bulks.advance(bulk, len(made), part.count - len(made), at)
        return made

    size = sum(one.size_bytes for one in prepared if isinstance(one, Prepared))
    made = await ctx.store.write(work, size_bytes=size)
    if made is None:
        return False
    for one, accepted, lane in made:
        tell(ctx, one, accepted, lane)
    if len(made) < part.count:
        log.info("messages of a bulk failed", bulk=bulk.public_id, failed=part.count - len(made))
    return True


async def _prepared(ctx: Context, given: Submission | PostroomError) -> Prepared | PostroomError:
    if isinstance(given, PostroomError):
        return given
    try:
        return await prepare(ctx, given)
    except Invalid as error:
        return error


def _raise_if_passing(error: PostroomError) -> None:
    """What the owner of the server may set right again fails no message."""
    if isinstance(error, Invalid) and error.errors[0].field == "purpose":
        raise PutOff(str(error)) from None
