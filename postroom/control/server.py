"""`serve`'s side of the control socket: reads one operation, runs it, answers, closes.

Whoever can connect is the operator: the socket belongs to our user and has mode 0600. Sessions, sizes and
the time to send a request are bounded all the same, so that a broken client cannot hurt a running `serve`.
An operation is finished even if its caller went away: it may be half committed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from postroom import logs
from postroom.control.address import ControlSocket
from postroom.control.peer import peer
from postroom.control.protocol import InternalError, ProtocolError, error_to_json, frame, read_frame
from postroom.errors import Invalid, PostroomError, Unavailable

MOST_SESSIONS = 32
_REQUEST_S = 30.0

Run = Callable[[str, Any, str], Awaitable[object]]  # Any: JSON values

log = logs.logger("control")


class ControlServer:
    """Listens on `socket` once started. run: an operation by name, arguments and who asks for it."""

    def __init__(self, run: Run, socket: ControlSocket) -> None:
        self._run, self._socket = run, socket
        self._sessions: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_unix_server(self._accepted, sock=self._socket.listener)

    async def stop(self) -> None:
        """Take no more requests, finish those that run, remove the socket."""
        if self._server is not None:
            self._server.close()
            await asyncio.gather(*self._sessions, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None
        self._socket.remove()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._sessions) > MOST_SESSIONS:
                answer: dict[str, object] = {"error": error_to_json(Unavailable("too many commands at once"))}
            else:
                answer = await self._answer(reader, peer(writer.get_extra_info("socket")))
            writer.write(_framed(answer))
            async with asyncio.timeout(_REQUEST_S):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("a control session broke off", error=repr(error))
        except ProtocolError as error:
            log.warning("refused a control request", error=str(error))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, source: str) -> dict[str, object]:
        async with asyncio.timeout(_REQUEST_S):
            request = await read_frame(reader)
        if not isinstance(request, dict) or not isinstance(request.get("op"), str):
            return {"error": error_to_json(Invalid("op", "is missing"))}
        try:
            return {"ok": await self._run(request["op"], request.get("args", {}), source)}
        except PostroomError as error:
            return {"error": error_to_json(error)}
        except Exception:  # the caller hears that it failed; the log says why
            log.exception("an operation failed", operation=request["op"])
            return {"error": error_to_json(InternalError())}


def _framed(answer: dict[str, object]) -> bytes:
    try:
        return frame(answer)
    except PostroomError as error:
        return frame({"error": error_to_json(error)})
