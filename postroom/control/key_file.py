"""Operations on the key file. Never a byte of a key in an answer."""

from __future__ import annotations

from postroom.actions import key_file
from postroom.actions.key_file import FileKey
from postroom.control.desk import Desk


async def show(desk: Desk) -> dict[str, object]:
    """The keys of the ring: id, state, when made, how many stored values each seals."""
    return {"path": str(desk.ctx.ring.path), "data": [_shown(one) for one in await key_file.show(desk.ctx)]}


async def rotate(desk: Desk, *, keep_old: bool = False) -> dict[str, object]:
    """A new key seals, everything stored is sealed anew, the former key goes (or is kept for backups)."""
    async with desk.rotating:
        done = await key_file.rotate(desk.ctx, desk.actor, keep=keep_old)
    return {
        "key_id": done.key_id,
        "went_on": done.went_on,
        "sealed_anew": done.sealed_anew,
        "former": {key_id: state.value for key_id, state in done.former.items()},
    }


async def retire(desk: Desk, *, key_id: str) -> dict[str, object]:
    """Remove the bytes of a key that nothing here needs."""
    async with desk.rotating:
        return _shown(await key_file.retire(desk.ctx, desk.actor, key_id))


def _shown(key: FileKey) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "state": key.state.value,
        "created_at": key.created or None,
        "rows": dict(key.rows),
    }
