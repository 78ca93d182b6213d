"""Message streams of a server: made, looked at, changed, archived."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from postroom.actions.changes import UNSET, Unset, given
from postroom.actions.checks import has_refused_characters, is_blank
from postroom.actions.context import Actor, Context
from postroom.actions.servers import locked, owned
from postroom.actions.trail import difference, present
from postroom.clock import MICROS
from postroom.core.server import Owner
from postroom.core.stream import Stream, StreamType, Unsubscribing
from postroom.errors import Invalid, NotFound
from postroom.ids import ServerId
from postroom.storage import audit, streams
from postroom.storage.interface import Work, now

KIND = "stream"
MOST_STREAMS = 10  # of a server, archived ones not counted
MOST_NAME_CHARACTERS = 100
MOST_DESCRIPTION_CHARACTERS = 1000
UNARCHIVABLE_US = 45 * 86_400 * MICROS
_ID = re.compile(r"[a-z][a-z0-9_-]{0,29}")
_RESERVED = frozenset({"all"})
_RESERVED_PREFIX = "pm-"
_MARKUP = re.compile(r"<[A-Za-z/!?]")
_ALWAYS_THERE = frozenset({"outbound", "inbound"})


class Refusal(Enum):
    """Why a stream cannot be made or changed so: the field, and what is wrong with it."""

    NO_ID = ("stream", "can't be blank")
    ID_FORM = ("stream", "must begin with a letter and hold at most 30 of a-z, 0-9, - and _")
    ID_PREFIX = ("stream", f"must not begin with {_RESERVED_PREFIX}")
    ID_RESERVED = ("stream", "is reserved")
    ID_TAKEN = ("stream", "is a stream of this server already")
    NO_NAME = ("name", "can't be blank")
    NAME_LENGTH = ("name", f"is too long (maximum is {MOST_NAME_CHARACTERS} characters)")
    NAME_TEXT = ("name", "contains characters that are not allowed")
    DESCRIPTION_LENGTH = ("description", f"is too long (maximum is {MOST_DESCRIPTION_CHARACTERS} characters)")
    DESCRIPTION_TEXT = ("description", "contains characters that are not allowed")
    DESCRIPTION_MARKUP = ("description", "must not hold HTML")
    ONE_INBOUND = ("type", "inbound: a server has one inbound stream")
    UNSUBSCRIBING = ("unsubscribing", "does not go with the type of the stream")
    TOO_MANY = ("stream", f"would be one too many: a server has at most {MOST_STREAMS}")
    ALWAYS_THERE = ("stream", "cannot be archived")
    TOO_LATE = ("stream", "was archived too long ago")


class StreamRefused(Invalid):
    """A stream cannot be made or changed so."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(*refusal.value)


@dataclass(frozen=True)
class StreamDraft:
    """A stream to be made. unsubscribing: None takes what its type has."""

    stream: str
    name: str
    type: StreamType
    description: str | None = None
    unsubscribing: Unsubscribing | None = None


@dataclass(frozen=True)
class StreamChanges:
    """Fields to change; UNSET leaves one as it is."""

    name: str | Unset = UNSET
    description: str | Unset | None = UNSET
    unsubscribing: Unsubscribing | Unset = UNSET


async def list_streams(ctx: Context, owner: Owner, server_id: ServerId) -> list[Stream]:
    """The streams of one server, archived ones included, by name. Raises NotFound."""

    def work() -> Work[list[Stream]]:
        server = yield from owned(owner, server_id)
        return (yield from streams.list_of(server.account_id, server.server_id))

    return await ctx.store.read(work)


async def get_stream(ctx: Context, owner: Owner, server_id: ServerId, stream: str) -> Stream:
    """One stream, archived or not. Raises NotFound (server, stream)."""
    return await ctx.store.read(lambda: _found(owner, server_id, stream))


async def create_stream(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, draft: StreamDraft
) -> Stream:
    """A new stream. Raises StreamRefused; NotFound(server)."""
    _check_id(draft.stream)
    name = _checked_name(draft.name)
    if draft.type is StreamType.INBOUND:
        raise StreamRefused(Refusal.ONE_INBOUND)
    description = _checked_description(draft.description)
    usual = Unsubscribing.OURS if draft.type is StreamType.BROADCAST else Unsubscribing.NONE
    unsubscribing = _checked_unsubscribing(draft.unsubscribing or usual, draft.type)

    def work() -> Work[Stream]:
        account_id = yield from locked(owner, server_id)
        there = yield from streams.list_of(account_id, server_id)
        if any(one.stream == draft.stream for one in there):
            raise StreamRefused(Refusal.ID_TAKEN)
        _check_room(there)
        at = yield from now()
        made = Stream(
            account_id, server_id, draft.stream, name, draft.type, at, None, description, unsubscribing
        )
        yield from streams.add(made)
        yield from _audit(made, at, actor, "stream.create", {"after": present(_shown(made))})
        return made

    return await ctx.store.write(work)


async def update_stream(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, stream: str, changes: StreamChanges
) -> Stream:
    """Change some fields; what asks for no change changes nothing. Raises StreamRefused, NotFound."""
    name = changes.name if isinstance(changes.name, Unset) else _checked_name(changes.name)
    description = changes.description
    if not isinstance(description, Unset):
        description = _checked_description(description)

    def change(current: Stream, at_us: int) -> Stream:
        asked = given(changes.unsubscribing, current.unsubscribing)
        return replace(
            current,
            name=given(name, current.name),
            description=given(description, current.description),
            unsubscribing=_checked_unsubscribing(asked, current.type),
        )

    def work() -> Work[Stream]:
        yield from locked(owner, server_id)
        current = yield from _found(owner, server_id, stream)
        at = yield from now()
        changed = change(current, at)
        told = difference(_shown(current), _shown(changed))
        if told is None:
            return current
        changed = replace(changed, updated_at_us=at)
        yield from streams.change(changed)
        yield from _audit(changed, at, actor, "stream.update", told)
        return changed

    return await ctx.store.write(work)


async def archive_stream(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, stream: str
) -> Stream:
    """Nothing more is accepted for it; what was accepted before goes out. Raises StreamRefused, NotFound."""

    def work() -> Work[Stream]:
        yield from locked(owner, server_id)
        current = yield from _found(owner, server_id, stream)
        if current.stream in _ALWAYS_THERE or current.type is StreamType.INBOUND:
            raise StreamRefused(Refusal.ALWAYS_THERE)
        if current.archived_at_us is not None:
            return current
        at = yield from now()
        changed = replace(current, archived_at_us=at, updated_at_us=at)
        yield from streams.change(changed)
        yield from _audit(changed, at, actor, "stream.archive", {})
        return changed

    return await ctx.store.write(work)


async def unarchive_stream(
    ctx: Context, actor: Actor, owner: Owner, server_id: ServerId, stream: str
) -> Stream:
    """It takes messages again. Raises StreamRefused 45 days after it was archived; NotFound."""

    def work() -> Work[Stream]:
        account_id = yield from locked(owner, server_id)
        current = yield from _found(owner, server_id, stream)
        if current.archived_at_us is None:
            return current
        at = yield from now()
        if at >= purge_due_us(current.archived_at_us):
            raise StreamRefused(Refusal.TOO_LATE)
        _check_room((yield from streams.list_of(account_id, server_id)))
        changed = replace(current, archived_at_us=None, updated_at_us=at)
        yield from streams.change(changed)
        yield from _audit(changed, at, actor, "stream.unarchive", {})
        return changed

    return await ctx.store.write(work)


def purge_due_us(archived_at_us: int) -> int:
    """Until when an archived stream may be taken back."""
    return archived_at_us + UNARCHIVABLE_US


def _found(owner: Owner, server_id: ServerId, stream: str) -> Work[Stream]:
    server = yield from owned(owner, server_id)
    known = _ID.fullmatch(stream) is not None
    found = (yield from streams.get(server.account_id, server.server_id, stream)) if known else None
    if found is None:
        raise NotFound(KIND)
    return found


def _check_id(stream: str) -> None:
    if not stream:
        raise StreamRefused(Refusal.NO_ID)
    if stream.startswith(_RESERVED_PREFIX):
        raise StreamRefused(Refusal.ID_PREFIX)
    if not _ID.fullmatch(stream):
        raise StreamRefused(Refusal.ID_FORM)
    if stream in _RESERVED:
        raise StreamRefused(Refusal.ID_RESERVED)


def _check_room(there: list[Stream]) -> None:
    if sum(one.archived_at_us is None for one in there) >= MOST_STREAMS:
        raise StreamRefused(Refusal.TOO_MANY)


def _checked_name(name: str) -> str:
    if is_blank(name):
        raise StreamRefused(Refusal.NO_NAME)
    if len(name.strip()) > MOST_NAME_CHARACTERS:
        raise StreamRefused(Refusal.NAME_LENGTH)
    if has_refused_characters(name):
        raise StreamRefused(Refusal.NAME_TEXT)
    return name.strip()


def _checked_description(text: str | None) -> str | None:
    """Several lines are fine; None for none."""
    if text is None or is_blank(text):
        return None
    if len(text) > MOST_DESCRIPTION_CHARACTERS:
        raise StreamRefused(Refusal.DESCRIPTION_LENGTH)
    if has_refused_characters(re.sub(r"[\r\n\t]", " ", text)):
        raise StreamRefused(Refusal.DESCRIPTION_TEXT)
    if _MARKUP.search(text):
        raise StreamRefused(Refusal.DESCRIPTION_MARKUP)
    return text


def _checked_unsubscribing(asked: Unsubscribing, type_: StreamType) -> Unsubscribing:
    """Broadcasts must offer it somehow; nothing else does."""
    if (type_ is StreamType.BROADCAST) == (asked is Unsubscribing.NONE):
        raise StreamRefused(Refusal.UNSUBSCRIBING)
    return asked


def _shown(stream: Stream) -> dict[str, object]:
    return {
        "name": stream.name,
        "type": stream.type.value,
        "description": stream.description,
        "unsubscribing": stream.unsubscribing.value,
    }


def _audit(stream: Stream, at_us: int, actor: Actor, action: str, detail: Mapping[str, object]) -> Work[None]:
    told = {"stream": stream.stream, **detail}
    yield from audit.add(stream.account_id, at_us, actor, action, f"server {stream.server_id}", told)
