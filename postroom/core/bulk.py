"""A bulk: one request to send a message to many, each filled with a model of its own.

It is stored whole when it is accepted, and made into messages in the background, slice by slice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.ids import AccountId, BulkId, KeyId, ServerId


@dataclass(frozen=True)
class Bulk:
    """One as stored. public_id: a UUID. subject: as it was sent, before it is filled.

    released: messages that were accepted. failed: those that could not be.
    """

    account_id: AccountId
    bulk_id: BulkId
    server_id: ServerId
    public_id: str
    key_id: KeyId | None
    origin: str
    stream: str
    subject: str | None
    total: int
    released: int
    failed: int
    created_at_us: int
    completed_at_us: int | None

    @property
    def done(self) -> int:
        """Messages that nothing more happens to here."""
        return self.released + self.failed


@dataclass(frozen=True)
class BulkSlice:
    """So many messages of a bulk in the words of its way in. first: the number of its first, from 0."""

    first: int
    count: int
    body: bytes = field(repr=False)
