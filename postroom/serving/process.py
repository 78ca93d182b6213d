"""One process of `serve`: open the data, start what its roles name, say so, wait for an end, drain, close.

Order at start: data, addresses, engine, commands' socket, housekeeping, HTTP, SMTP, inbox; at the end HTTP,
SMTP and the engine stop taking and what is on its way ends, then the rest. Commands are answered until the
engine has stopped. On SQLite the folder's lock makes this the one process. On PostgreSQL there may be more on
the same folder: the commands' socket and the test inbox go to one, and to the next when that is gone.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from postroom import logs
from postroom.config import Settings
from postroom.control.address import ControlSocket
from postroom.control.instance import is_fresh
from postroom.control.lock import SERVE, FolderLock, Locked
from postroom.control.operations import run as run_operation
from postroom.control.peer import this_user
from postroom.control.server import ControlServer
from postroom.http.asgi import ASGIApp
from postroom.http.server import HttpHandle, serve_http
from postroom.inbound.inbox import Inbox
from postroom.inbound.tls import ServerTls
from postroom.serving.listeners import Listeners, bind_all, url_of
from postroom.serving.ready import Ready, ready_on
from postroom.serving.seeing import Seeing
from postroom.serving.submission import start_submission, submission_tls
from postroom.serving.turns import Stop, Turn
from postroom.wiring import (
    PostRoom,
    bulk_feed,
    http_application,
    open_post_room,
    operations_application,
    subject_blocks,
)

log = logs.logger("serve")
_COLLECT = (20_000, 20, 20)
_AGAIN_S = 0.05


async def open_when_free(settings: Settings, *, patience_s: float = 10.0) -> PostRoom:
    """The data folder for `serve`, once a command that works in it now has ended. Raises as `open_post_room`.

    Who starts `serve` again after a crash need not know that somebody typed a command meanwhile.
    """
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            return await open_post_room(settings, role=SERVE)
        except Locked as error:
            if error.by_serve or asyncio.get_running_loop().time() >= deadline:
                raise
        await asyncio.sleep(_AGAIN_S)


class Serving:
    """One process. `ready` is called once, when everything runs.

    listeners: bound by a supervisor, whose child this is; None: it binds them itself.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        first_run: bool,
        ready: Callable[[Ready], None],
        listeners: Listeners | None = None,
    ) -> None:
        self._settings, self._first_run, self._ready = settings, first_run, ready
        self._given = listeners
        self._roles = frozenset(settings.roles)
        self._stop = asyncio.Event()
        self._missing: list[str] = ["starting"]
        self._turns: list[Turn] = []
        self._drains: list[Callable[[], Awaitable[object]]] = []  # all at once, when it stops
        self._at_once: list[Callable[[], None]] = []  # before it ends without draining

    def stop(self, why: str) -> None:
        """Take nothing more and end within the time there is for it; once more does nothing."""
        if not self._stop.is_set():
            log.info("stopping", why=why, drain_s=self._settings.drain_s)
            self._stop.set()

    def stop_at_once(self, why: str) -> None:
        """End this process now. Nothing is lost: a journal is replayed, as after any crash."""
        log.warning("stopping at once", why=why)
        for tidy in self._at_once:
            tidy()
        os._exit(0)

    async def run(self) -> bool:
        """Until it is stopped; False: it ended by itself.

        Raises Locked, PostroomError, KeyringError at start.
        """
        async with AsyncExitStack() as stack:
            room = await open_when_free(self._settings)
            stack.push_async_callback(room.close)
            self._heed_signals(stack)
            listeners = self._given or bind_all(self._settings, first_run=self._first_run)
            stack.callback(listeners.close)
            room.dialer.listeners.update(listeners.submission())
            tls = await submission_tls(self._settings, listeners)
            room.links.base_url = self._base_url(listeners)
            if "deliver" in self._roles:
                await room.dispatcher.start()
                stack.push_async_callback(room.dispatcher.stop, 0.0)
                self._drains.append(lambda: room.dispatcher.stop(self._settings.drain_s))
            seeing = Seeing(room, watches="deliver" in self._roles)
            stack.push_async_callback(seeing.stop)
            await seeing.start()
            answers = await self._one_at_a_time("commands", lambda: self._begin_commands(room), stack)
            if "housekeeping" in self._roles:
                room.desk.housekeeping.start()
                stack.push_async_callback(room.desk.housekeeping.stop)
            listening = await self._start_listening(room, seeing, listeners, tls, stack)
            self._missing = self._lacking(room)
            # On a shared folder by the process that answers commands, so that only one does it.
            made = await self._bootstrapped(room) if answers else None
            fresh = await is_fresh(room.desk)
            _spare_the_collector()
            self._tell(room, listeners, made, fresh)
            return await self._until_stopped(listening)

    # --- starting --------------------------------------------------------------------------------------

    def _heed_signals(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
            stack.callback(loop.remove_signal_handler, number)

    def _signalled(self, number: int) -> None:
        if not self._stop.is_set():
            self.stop(signal.Signals(number).name)
        elif self._given is None:  # a child hears a signal twice: its supervisor says when to end at once
            self.stop_at_once(f"a second {signal.Signals(number).name}")

    def _base_url(self, listeners: Listeners) -> str:
        """Where links in mail lead."""
        http = listeners.get("http")
        return self._settings.public_url or (url_of(http) if http else f"http://{self._settings.http}")

    async def _one_at_a_time(
        self, what: str, begin: Callable[[], Awaitable[Stop]], stack: AsyncExitStack
    ) -> bool:
        """A part that one process of the folder runs, and whether that is this one; on SQLite there is no
        other."""
        if not self._settings.database:
            stack.push_async_callback(await begin())
            return True
        turn = Turn(what, begin)
        stack.push_async_callback(turn.stop)
        await turn.start()
        self._turns.append(turn)
        return turn.ours

    async def _begin_commands(self, room: PostRoom) -> Stop:
        """Answer commands on DATA/control.sock; on SQLite the room holds the folder's lock already."""
        folder = self._settings.data
        held = FolderLock.take(folder, SERVE) if self._settings.database else None
        try:
            control_socket = ControlSocket.bind(folder)
            server = ControlServer(functools.partial(run_operation, room.desk), control_socket)
            await server.start()
        except BaseException:
            if held is not None:
                held.release()
            raise
        self._at_once.append(control_socket.remove)

        async def end() -> None:
            await server.stop()
            if held is not None:
                held.release()

        return end

    async def _start_listening(
        self,
        room: PostRoom,
        seeing: Seeing,
        listeners: Listeners,
        tls: ServerTls | None,
        stack: AsyncExitStack,
    ) -> list[HttpHandle]:
        """HTTP, SMTP, the test inbox; what ends if an HTTP server does so by itself."""
        handles = await self._start_http(room, seeing, listeners, stack)
        submission = await start_submission(room, listeners, tls)
        if submission is not None:
            stack.push_async_callback(submission.stop)
            self._drains.append(submission.stop)
            sessions = submission.sessions
            seeing.smtp_sessions(lambda: {"submission": len(sessions)})
        if listeners.get("inbox") is not None:
            await self._one_at_a_time("inbox", lambda: self._begin_inbox(room, listeners), stack)
        return handles

    async def _start_http(
        self, room: PostRoom, seeing: Seeing, listeners: Listeners, stack: AsyncExitStack
    ) -> list[HttpHandle]:
        settings, handles = self._settings, []
        for name in ("http", "operations"):
            listener = listeners.get(name)
            if listener is None:
                continue
            missing, pages = (lambda: self._missing), seeing.pages
            app: ASGIApp = (
                http_application(room, url=url_of(listener), missing=missing, pages=pages)
                if name == "http"
                else operations_application(room, missing=missing, pages=pages)
            )
            handle = await serve_http(
                app,
                listener,
                most_headers=settings.max_headers,
                most_header_bytes=settings.max_header_bytes,
                drain_s=settings.drain_s,
                share=listeners.share(name),
            )
            stack.push_async_callback(handle.stop)
            self._drains.append(handle.stop)
            handles.append(handle)
        if listeners.get("http") is not None:
            feed = bulk_feed(room)
            feed.start()
            stack.push_async_callback(feed.stop)
            blocks = subject_blocks(room)
            blocks.start()
            stack.push_async_callback(blocks.stop)
        return handles

    async def _begin_inbox(self, room: PostRoom, listeners: Listeners) -> Stop:
        inbox = Inbox(room.inbox_folder, self._settings.inbox_keep)
        # A copy: it is closed when the inbox is not ours, and the next try needs the socket again.
        await inbox.start(listeners.sockets["inbox"].dup())
        return inbox.stop

    def _lacking(self, room: PostRoom) -> list[str]:
        return ["the engine"] if "deliver" in self._roles and not room.dispatcher.running else []

    async def _bootstrapped(self, room: PostRoom) -> dict[str, object] | None:
        if not self._first_run or not await is_fresh(room.desk):
            return None
        made = await run_operation(room.desk, "bootstrap", {}, this_user())
        assert isinstance(made, dict)
        return made

    def _tell(
        self, room: PostRoom, listeners: Listeners, made: dict[str, object] | None, fresh: bool
    ) -> None:
        found = ready_on(self._settings, listeners, first_run=self._first_run, made=made, fresh=fresh)
        listening = {
            "http": found.url and found.url.removeprefix("http://"),
            "inbox": found.inbox and f"{found.inbox[0]}:{found.inbox[1]}",
            "smtp": found.smtp,
            "smtps": found.smtps,
            "operations": found.operations and found.operations.removeprefix("http://"),
        }
        room.desk.listening.update({name: at for name, at in listening.items() if at})
        log.info(
            "serving",
            url=found.url,
            data=found.data,
            instance=room.instance,
            **({"roles": list(found.roles)} if self._settings.role else {}),
        )
        self._ready(found)

    # --- ending ----------------------------------------------------------------------------------------

    async def _until_stopped(self, listening: Sequence[HttpHandle]) -> bool:
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._stop.wait())]
        waits += [asyncio.ensure_future(handle.wait()) for handle in listening]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waits[0].cancel()
        as_asked = self._stop.is_set()
        if not as_asked:
            why = next((one.exception() for one in waits[1:] if one.done()), None)
            log.error("the HTTP server ended by itself", exc_info=why)
        self._missing = ["stopping"]
        await asyncio.gather(*(turn.pass_on() for turn in self._turns))
        # Together: requests that are open may still wait for the engine, and all drain within one time.
        await asyncio.gather(*(drain() for drain in self._drains))
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        log.info("stopped")
        return as_asked


def _spare_the_collector() -> None:
    """What was loaded to run stays for good and need not be walked again; what mail leaves is looked at less
    often than after each 700 objects, which is Python's default for programs that make few."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
