"""Where an operation runs: in `serve`, if it holds the data folder's lock, or else here and now.

Either way what a command reports as done is in force when it says so. On SQLite a lock held by another
command, or by a `serve` that starts or stops, is waited for a little while; on PostgreSQL nothing is waited
for, since the database takes any number of processes, and tells those that serve.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from postroom.config import Settings
from postroom.control.address import socket_path
from postroom.control.client import NotListening
from postroom.control.client import call as ask
from postroom.control.lock import SERVE, Locked, holder_of
from postroom.errors import NotFound, Unavailable
from postroom.folder import DATABASE_NAME

PATIENCE_S = 10.0
_AGAIN_S = 0.05
# What makes sense on a folder that does not exist yet. Anything else there is a mistyped --data.
_MAKES_THE_FOLDER = frozenset({"bootstrap", "account.create", "identity.trust"})


async def call(
    settings: Settings, operation: str, args: Mapping[str, object], *, patience_s: float = PATIENCE_S
) -> Any:
    """The operation's answer, JSON values. Raises PostroomError (Locked among them), KeyringError."""
    folder = settings.data
    if operation not in _MAKES_THE_FOLDER and not holder_of(folder):
        require_data(settings)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        held = holder_of(folder)
        try:
            if held is None:
                return await _here(settings, operation, args)
            return await ask(socket_path(folder), operation, args)
        except Locked as error:
            held = error
        except NotListening:
            assert held is not None
            if settings.database:
                return await _here(settings, operation, args)
        if loop.time() >= deadline:
            raise held
        await asyncio.sleep(_AGAIN_S)


async def _here(settings: Settings, operation: str, args: Mapping[str, object]) -> Any:
    from postroom import wiring  # the whole engine, which a command that asks `serve` never needs
    from postroom.control.operations import run
    from postroom.control.peer import this_user

    async with wiring.opened(settings) as room:
        # Through JSON, so that it looks the same as what comes over the socket.
        return json.loads(json.dumps(await run(room.desk, operation, args, this_user())))


def must_serve(settings: Settings) -> None:
    """For what only a running `serve` can tell. Raises Unavailable; a folder that is absent is let pass.

    On PostgreSQL it may run on another machine, which the operation finds out.
    """
    if settings.database:
        return
    holder = holder_of(settings.data)
    if settings.data.exists() and (holder is None or holder.role != SERVE):
        raise Unavailable(f"no `serve` is running on {settings.data}; `postroom serve` starts one")


def require_data(settings: Settings) -> None:
    """Raises NoData where there is no database."""
    if settings.database:
        return  # whether it is there shows when it is asked
    if not (settings.data / DATABASE_NAME).exists():
        raise NoData(
            f"there is no Postroom data in {settings.data}; `postroom serve` or `postroom bootstrap` makes it"
        )


class NoData(NotFound):
    """There is no data folder."""

    def __init__(self, text: str) -> None:
        super().__init__("data")
        self.args = (text,)
