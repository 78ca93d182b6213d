"""What messages are found by besides people: their tags and metadata, one row each, indexed by its digest.

Which entries of a message's options those are is said here. A label names its stream too, so that what is
looked for on one is one range of one index, however much there is on the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from postroom.ids import AccountId, MessageId, ServerId
from postroom.storage.interface import Sql, Work

TAG, METADATA = "tag", "metadata"  # of a message's options
_encode = msgspec.msgpack.Encoder().encode

_INSERT = """
INSERT INTO labels (account_id, server_id, label, message_id)
VALUES (:account_id, :server_id, :label, :message_id)
"""
_DELETE = """
DELETE FROM labels WHERE account_id = :account_id AND server_id = :server_id AND label = :label
AND message_id = :message_id
"""


@dataclass(frozen=True)
class Label:
    """A tag, or one name of the metadata with its value; names are alike in upper and lower case."""

    value: str
    name: str | None = None  # None: the tag

    def on(self, stream: str) -> bytes:
        """As stored, for messages on this stream; no two different ones are the same."""
        name = None if self.name is None else self.name.lower()
        return hashlib.blake2b(_encode((stream, name, self.value)), digest_size=16).digest()


def of(options: Mapping[str, object]) -> list[Label]:
    """Those of a message with these options."""
    if TAG not in options and METADATA not in options:
        return []
    found: dict[Label, None] = {}
    tag, metadata = options.get(TAG), options.get(METADATA)
    if isinstance(tag, str) and tag:
        found[Label(tag)] = None
    for name, value in metadata.items() if isinstance(metadata, dict) else ():
        found[Label(str(value), str(name).lower())] = None
    return list(found)


def add(
    account_id: AccountId, server_id: ServerId, stream: str, message_id: MessageId, labels: Sequence[Label]
) -> Sql:
    """Has a new message found by these."""
    return Sql(_INSERT, _rows(account_id, server_id, stream, message_id, labels))


def remove(
    account_id: AccountId, server_id: ServerId, stream: str, message_id: MessageId, labels: Sequence[Label]
) -> Work[None]:
    """The reverse, for a message that goes."""
    yield Sql(_DELETE, _rows(account_id, server_id, stream, message_id, labels))


def _rows(
    account_id: AccountId, server_id: ServerId, stream: str, message_id: MessageId, labels: Sequence[Label]
) -> list[dict[str, object]]:
    whose = {"account_id": account_id, "server_id": server_id, "message_id": message_id}
    return [{**whose, "label": one.on(stream)} for one in labels]
