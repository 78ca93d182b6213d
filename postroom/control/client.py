"""A command's side of the control socket: send one operation, return its answer or raise its error."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from postroom.control.protocol import ProtocolError, error_from_json, frame, read_frame
from postroom.errors import Unavailable


class NotListening(Exception):
    """Nobody listens on that socket now; nothing was sent."""


async def call(path: Path, operation: str, args: Mapping[str, object]) -> Any:
    """The operation's answer, JSON values. Raises NotListening, any PostroomError.

    There is no time limit: an operation may wait for mail that is on its way, and its own waits are finite.
    """
    request = frame({"op": operation, "args": dict(args)})
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError as error:
        raise NotListening(str(path)) from error
    try:
        writer.write(request)
        await writer.drain()
        answer = await read_frame(reader)
    except (OSError, asyncio.IncompleteReadError, ProtocolError) as error:
        raise Unavailable(
            f"`serve` ended before it answered; whether {operation} was done is not known"
        ) from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if isinstance(answer, dict) and "ok" in answer:
        return answer["ok"]
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        raise error_from_json(answer["error"])
    raise Unavailable("`serve` gave an answer that cannot be read; is it of another version?")
