"""Sealing and opening with a key file that any process may have rotated a moment ago.

A unit that seals holds the generation of the key file until it is committed. A rotation raises it once the
new key seals, which waits for those units: so whoever seals after that has read the file again, and nothing
is sealed with the former key any more. Whoever opens a value of a key it does not know reads the file again.
"""

from __future__ import annotations

from collections.abc import Mapping

from postroom.errors import Unavailable
from postroom.keyring import KeyRing, KeyringError, key_id_of
from postroom.storage import generations
from postroom.storage.interface import Work


def seal(ring: KeyRing, uid: bytes, table: str, plain: Mapping[str, bytes]) -> Work[dict[str, bytes]]:
    """By field, as they are stored; in the unit of work that stores them. Raises Unavailable."""
    if not plain:
        return {}
    generation = yield from generations.hold(generations.KEY_FILE)
    if generation != ring.generation:
        try:
            ring.reload()
        except KeyringError as error:
            raise Unavailable(f"the key file was rotated and cannot be read: {error}") from error
        ring.generation = generation
    return {field: ring.seal(value, uid=uid, table=table, field=field) for field, value in plain.items()}


def unseal(ring: KeyRing, sealed: bytes, *, uid: bytes, table: str, field: str) -> bytes:
    """What was sealed. Raises KeyringError."""
    if not ring.knows(key_id_of(sealed)):
        ring.reload()
    return ring.open(sealed, uid=uid, table=table, field=field)
