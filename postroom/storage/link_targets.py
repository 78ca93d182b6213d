"""What the tracked links in a message lead to: one row for each content, found by a link's token for ever."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from postroom.ids import AccountId
from postroom.packing import deflate, inflate
from postroom.storage.interface import Sql, Work

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, ...]).decode

_INSERT = """
INSERT INTO link_targets (account_id, content_id, targets) VALUES (:account_id, :content_id, :targets)
"""
_OF_CONTENT = "SELECT targets FROM link_targets WHERE content_id = :content_id"


def add(account_id: AccountId, content_id: int, targets: Sequence[str]) -> Sql:
    """Stores the targets of a new content; a link's number is its place among them."""
    packed = deflate(_encode(tuple(targets)))
    return Sql(_INSERT, {"account_id": account_id, "content_id": content_id, "targets": packed})


def of_content(content_id: int) -> Work[Sequence[str]]:
    """By the number in a token of ours, which knows no account; none where nothing is tracked."""
    rows = yield Sql(_OF_CONTENT, {"content_id": content_id})
    return _decode(inflate(rows[0][0])) if rows else ()
