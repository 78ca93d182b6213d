"""Many messages with subjects of one's own, and their blocks, for tests of searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.actions.context import Context
from postroom.actions.subject_blocks import BlockSettings, SubjectBlocks
from postroom.clock import MICROS
from postroom.storage.interface import Sql, Work
from postroom.storage.labels import Label
from tests.support import seed_rows
from tests.support.clock import START_US

TAG = Label("tag")
_MESSAGE = (
    "INSERT INTO messages (account_id, message_id, public_id, server_id, stream, purpose, sender, subject,"
    " rfc_message_id, content_id, size_bytes, origin, created_at) VALUES (1, :number, :name, 1, :stream,"
    " 'transactional', :sender, :subject, :name, 1, 1, 'test', :at)"
)
_DELIVERY = (
    "INSERT INTO deliveries (account_id, server_id, message_id, lane_id, recipient, address, kind, state,"
    " due) VALUES (1, 1, :number, 1, :address, :address, 'to', :state, 0)"
)
_LABEL = "INSERT INTO labels (account_id, server_id, label, message_id) VALUES (1, 1, :label, :number)"


@dataclass(frozen=True)
class Said:
    """A message as a search knows it. at_s: when it was accepted, seconds after the clock's start."""

    number: int
    subject: str
    stream: str = "outbound"
    sender: str = "a@example.com"
    address: str = "r@example.net"
    settled: bool = True
    tagged: bool = False
    at_s: float = 0.0

    @property
    def at_us(self) -> int:
        return START_US + int(self.at_s * MICROS)


def insert(messages: Sequence[Said]) -> Work[None]:
    """Store them."""
    yield Sql(
        _MESSAGE,
        [
            {
                "number": one.number,
                "name": f"m{one.number}",
                "stream": one.stream,
                "sender": one.sender,
                "subject": one.subject,
                "at": one.at_us,
            }
            for one in messages
        ],
    )
    yield Sql(
        _DELIVERY,
        [
            {"number": one.number, "address": one.address, "state": "sent" if one.settled else "ready"}
            for one in messages
        ],
    )
    tagged = [{"label": TAG.on(one.stream), "number": one.number} for one in messages if one.tagged]
    if tagged:
        yield Sql(_LABEL, tagged)


def maker(
    ctx: Context,
    size: int,
    *,
    characters: int = 1 << 20,
    age_s: float = 0.0,
    open_s: float = 30.0,
    every_s: float = 60.0,
    keep_s: float = 3600.0,
    on_postgres: bool = False,
) -> SubjectBlocks:
    """Of blocks of so many, of messages of any age."""
    settings = BlockSettings(size, characters, age_s, open_s, 0.0, every_s, keep_s)
    return SubjectBlocks(ctx, settings, on_postgres=on_postgres)


def ranges() -> Work[list[tuple[str, int, int]]]:
    """What the blocks that are there speak for."""
    rows = yield Sql("SELECT stream, first_id, last_id FROM subject_blocks ORDER BY stream, first_id")
    return [tuple(row) for row in rows]


def tenants() -> Work[None]:
    """An account and a server for them."""
    yield from seed_rows.tenants()
