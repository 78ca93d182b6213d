"""Blocks of subjects: those of a few thousand messages of a stream, packed into a row and searched at once.

A block speaks for all messages of its stream from `first_id` to `last_id`. The next one begins with the
number after, so two that make it make the same one, and it shows in their numbers that nothing is between
two. The first begins with 1. Only what nothing can come between any more is put into one: nobody looks again
whether a block has all of its messages.

Who makes them is `actions.subject_blocks`, who reads them `storage.subject_search`. A search finds the same
where there are none.
"""

# ruff: noqa: S608 - only conditions of our own are put into statements

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import msgspec

from postroom.ids import AccountId, MessageId, ServerId
from postroom.packing import deflate, inflate
from postroom.storage.interface import Sql, Work, now
from postroom.storage.trigrams import bitmap_of, folded

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[int], str]).decode

_STREAM = "account_id = :account_id AND server_id = :server_id AND stream = :stream"
_BELOW = f"FROM subject_blocks WHERE {_STREAM} AND first_id < :before ORDER BY first_id DESC LIMIT :most"
_NEXT = f"FROM messages WHERE {_STREAM} AND message_id >= :first_id ORDER BY message_id LIMIT :size"
_INSERT = """
INSERT INTO subject_blocks (account_id, server_id, stream, first_id, last_id, grams, subjects)
VALUES (:account_id, :server_id, :stream, :first_id, :last_id, :grams, :subjects)
ON CONFLICT (account_id, server_id, stream, first_id) DO NOTHING
"""


@dataclass(frozen=True)
class StreamKey:
    """One stream of one server."""

    account_id: AccountId
    server_id: ServerId
    stream: str

    def named(self, **others: object) -> dict[str, object]:
        """As parameters, with others."""
        whose = {"account_id": self.account_id, "server_id": self.server_id, "stream": self.stream}
        return {**whose, **others}


@dataclass(frozen=True)
class Bitmap:
    """A block but for its subjects."""

    first_id: int
    last_id: int
    grams: bytes


@dataclass(frozen=True)
class Block:
    """A block that was made. oldest: the first message in it."""

    bitmap: Bitmap
    oldest: MessageId
    subjects: bytes


@dataclass(frozen=True)
class Unpacked:
    """The messages of the next block, oldest first, with their subjects."""

    first_id: int
    messages: Sequence[tuple[MessageId, str]]


def pack(found: Unpacked) -> Block:
    """Make it; some 30 ms for 5,000."""
    numbers = [number for number, _ in found.messages]
    lines = "\n".join(folded(subject) for _, subject in found.messages)
    steps = [number - before for before, number in zip([found.first_id, *numbers], numbers, strict=False)]
    bitmap = Bitmap(found.first_id, numbers[-1], bitmap_of(lines))
    return Block(bitmap, numbers[0], deflate(_encode((steps, lines))))


def matching(first_id: int, subjects: bytes, text: str) -> list[MessageId]:
    """The messages of a block whose subjects have this folded text, newest first. Raises ValueError."""
    steps, lines = _decode(inflate(subjects))
    numbers = list(accumulate(steps, initial=first_id))
    found: list[MessageId] = []
    begin, line = 0, 1
    while (at := lines.find(text, begin)) >= 0:
        line += lines.count("\n", begin, at)
        found.append(MessageId(numbers[line]))
        end = lines.find("\n", at)
        if end < 0:
            break
        begin, line = end + 1, line + 1
    return found[::-1]


# --- reading them --------------------------------------------------------------------------------------


def newest_below(stream: StreamKey, before: int) -> Work[int | None]:
    """Up to which message the newest block reaches that begins before this one; None: there is none."""
    rows = yield Sql(f"SELECT last_id {_BELOW}", stream.named(before=before, most=1))
    return rows[0][0] if rows else None


def bitmaps_below(stream: StreamKey, before: int, most: int) -> Work[list[Bitmap]]:
    """Of the next blocks that begin before this message, newest first."""
    rows = yield Sql(f"SELECT first_id, last_id, grams {_BELOW}", stream.named(before=before, most=most))
    return [Bitmap(*row) for row in rows]


def subjects_of(stream: StreamKey, first_id: int) -> Work[bytes]:
    """What `matching` looks through, of a block that is there."""
    rows = yield Sql(
        f"SELECT subjects FROM subject_blocks WHERE {_STREAM} AND first_id = :first_id",
        stream.named(first_id=first_id),
    )
    found: bytes = rows[0][0]
    return found


# --- making and removing them --------------------------------------------------------------------------


def next_of(stream: StreamKey, size: int, characters: int, age_s: float) -> Work[Unpacked | None]:
    """The messages of the next block, or None where it would not be full, or one of them is too young.

    size: how many; fewer where their subjects are long, about as many as have so many characters.
    """
    rows = yield Sql(
        f"SELECT last_id FROM subject_blocks WHERE {_STREAM} ORDER BY first_id DESC LIMIT 1", stream.named()
    )
    first_id = rows[0][0] + 1 if rows else 1
    params = stream.named(first_id=first_id, size=size)
    rows = yield Sql(f"SELECT COUNT(*) FROM (SELECT message_id {_NEXT}) c", params)
    if rows[0][0] < size:
        return None
    at_us = yield from now()
    rows = yield Sql(f"SELECT message_id, subject, created_at {_NEXT}", params)
    messages: list[tuple[MessageId, str]] = []
    newest_us = length = 0
    for message_id, subject, created_us in rows:
        messages.append((message_id, subject))
        newest_us, length = max(newest_us, created_us), length + len(subject)
        if length >= characters:
            break
    return Unpacked(first_id, messages) if newest_us <= at_us - age_s * 1_000_000 else None


def add(stream: StreamKey, block: Block) -> Work[bool]:
    """Keep a block, unless its messages are being purged; whether it was.

    A purge begins with the oldest, and removes the blocks after the messages: it waits for this, or this sees
    that the message is gone.
    """
    there = yield Sql(
        f"SELECT message_id FROM messages WHERE {_STREAM} AND message_id = :oldest",
        stream.named(oldest=block.oldest),
        lock=" FOR KEY SHARE",
    )
    if there:
        bitmap = block.bitmap
        row = {"first_id": bitmap.first_id, "last_id": bitmap.last_id, "grams": bitmap.grams}
        yield Sql(_INSERT, stream.named(**row, subjects=block.subjects))
    return bool(there)


def remove(stream: StreamKey, last_id: int) -> Work[None]:
    """Those that have messages up to this one, which is gone."""
    yield Sql(
        f"DELETE FROM subject_blocks WHERE {_STREAM} AND first_id <= :last_id", stream.named(last_id=last_id)
    )


def writing_for(seconds: float) -> Work[bool]:
    """On PostgreSQL: whether a transaction that writes has been open for so long.

    One whose COMMIT waits for a standby may be open for hours. Sessions of other roles do not show.
    """
    rows = yield Sql(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL"
        " AND backend_type = 'client backend' AND clock_timestamp() - xact_start >="
        " make_interval(secs => CAST(:seconds AS double precision))",
        {"seconds": seconds},
    )
    return bool(rows[0][0])
