"""The life of `serve`: take the folder, bind, start, say so, wait for a signal, drain, close.

Order at start: lock, data, addresses, inbox, engine, control socket, HTTP; at the end HTTP and the engine
stop taking, what is on its way ends, then the inbox, the control socket and the database close. Commands are
answered until the engine has stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from postroom import logs
from postroom.cli.exits import INTERNAL, OK
from postroom.cli.seeing import Seeing
from postroom.config import Endpoint, Settings
from postroom.control.address import ControlSocket
from postroom.control.instance import is_fresh
from postroom.control.lock import SERVE, Locked
from postroom.control.operations import run as run_operation
from postroom.control.peer import this_user
from postroom.control.server import ControlServer
from postroom.errors import Conflict, Unavailable
from postroom.folder import TLS_NAME
from postroom.http.asgi import ASGIApp
from postroom.http.server import HttpHandle, serve_http
from postroom.inbound.inbox import Inbox, open_socket
from postroom.inbound.submission import ClearAuth, SubmissionServer
from postroom.inbound.tls import ServerTls, server_tls
from postroom.peers import is_loopback
from postroom.wiring import (
    PostRoom,
    helo_name,
    http_application,
    open_post_room,
    session_limits,
)

log = logs.logger("serve")
_COLLECT = (20_000, 20, 20)
_BACKLOG = 512
_AGAIN_S = 0.05
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what somebody may have set


@dataclass(frozen=True)
class Ready:
    """What runs, once everything does.

    made: the answer of bootstrap, with keys, at a first start. fresh: nobody has made an account yet.
    """

    url: str
    inbox: tuple[str, int] | None
    smtp: str
    smtps: str | None
    data: str
    public_url: str
    first_run: bool
    made: dict[str, object] | None = field(repr=False)
    fresh: bool = False
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "url": self.url,
            "public_url": self.public_url or None,
            "inbox": None if self.inbox is None else f"{self.inbox[0]}:{self.inbox[1]}",
            "smtp": self.smtp,
            "smtps": self.smtps,
            "data": self.data,
            "pid": os.getpid(),
            "notes": list(self.notes),
            "bootstrap": self.made,
        }


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
    """One `serve`. `ready` is called once, when everything runs."""

    def __init__(self, settings: Settings, *, first_run: bool, ready: Callable[[Ready], None]) -> None:
        self._settings, self._first_run, self._ready = settings, first_run, ready
        self._stop = asyncio.Event()
        self._notes: list[str] = []
        self._missing: list[str] = ["starting"]

    async def run(self) -> int:
        """Until a signal; the exit code. Raises Locked, PostroomError, KeyringError at start."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            room = await open_when_free(self._settings)
            stack.push_async_callback(room.close)
            control_socket = ControlSocket.bind(self._settings.data)
            stack.callback(control_socket.remove)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._signalled, number, control_socket)
                stack.callback(loop.remove_signal_handler, number)
            http_socket = self._bind_http()
            stack.callback(http_socket.close)
            inbox_at = await self._start_inbox(room, stack)
            smtp_socket, smtps_socket = self._bind_smtp()
            for listener in filter(None, (smtp_socket, smtps_socket)):
                stack.callback(listener.close)
                room.dialer.listeners.add(listener.getsockname()[:2])
            tls = await self._tls(smtp_socket, smtps_socket)
            room.links.base_url = self._settings.public_url or _url(http_socket)
            await room.dispatcher.start()
            stack.push_async_callback(room.dispatcher.stop, 0.0)
            seeing = Seeing(room)
            stack.push_async_callback(seeing.stop)
            await seeing.start()
            control = ControlServer(room.desk, control_socket)
            await control.start()
            stack.push_async_callback(control.stop)
            room.desk.housekeeping.start()
            stack.push_async_callback(room.desk.housekeeping.stop)
            url = _url(http_socket)
            http = await self._start_http(room, url, http_socket, seeing.pages)
            stack.push_async_callback(http.stop)
            smtp_at = _shown(smtp_socket)
            smtps_at = None if smtps_socket is None else _shown(smtps_socket)
            submission = await self._start_submission(room, smtp_socket, smtps_socket, tls)
            stack.push_async_callback(submission.stop)
            seeing.smtp_sessions(lambda: {"submission": len(submission.sessions)})
            self._missing = [] if room.dispatcher.running else ["the engine"]
            made = await self._bootstrapped(room)
            fresh = await is_fresh(room.desk)
            _spare_the_collector()
            self._tell(room, url, inbox_at, smtp_at, smtps_at, made, fresh)
            return await self._until_stopped(room, http, submission)

    def _signalled(self, number: int, control_socket: ControlSocket) -> None:
        if self._stop.is_set():
            log.warning("second signal: stopping at once", signal=number)
            control_socket.remove()
            # Nothing is lost: a journal is replayed at the next start, as after any crash.
            os._exit(OK)
        log.info("stopping", signal=number, drain_s=self._settings.drain_s)
        self._stop.set()

    async def _until_stopped(self, room: PostRoom, http: HttpHandle, submission: SubmissionServer) -> int:
        stopped = asyncio.create_task(self._stop.wait())
        died = asyncio.create_task(http.wait())
        try:
            await asyncio.wait((stopped, died), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        code = OK
        if died.done() and not self._stop.is_set():
            log.error("the HTTP server ended by itself", exc_info=died.exception())
            code = INTERNAL
        died.cancel()
        self._missing = ["stopping"]
        # Together: requests that are open may still wait for the engine, and both drain within one time.
        await asyncio.gather(http.stop(), submission.stop(), room.dispatcher.stop(self._settings.drain_s))
        await asyncio.gather(died, return_exceptions=True)
        log.info("stopped")
        return code

    def _bind_http(self) -> socket.socket:
        return self._bind_or_another(self._settings.http, "http", "it listens")

    def _bind_smtp(self) -> tuple[socket.socket, socket.socket | None]:
        clear = self._bind_or_another(self._settings.smtp, "smtp", "SMTP is taken")
        if self._settings.smtps is None:
            return clear, None
        try:
            return clear, self._bind_or_another(self._settings.smtps, "smtps", "SMTP with TLS is taken")
        except BaseException:
            clear.close()
            raise

    def _bind_or_another(self, wanted: Endpoint, setting: str, what: str) -> socket.socket:
        try:
            return _bind(wanted.host, wanted.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Unavailable(f"cannot listen on {wanted}: {error.strerror}") from error
            self._require_no_wish(wanted, setting, error)
            found = _bind(wanted.host, 0)
            self._notes.append(f"{wanted} was taken, so {what} on port {found.getsockname()[1]}.")
            return found

    def _require_no_wish(self, wanted: Endpoint, setting: str, cause: Exception | None) -> None:
        """Elsewhere than asked for only where nobody asked, or where somebody tries it out."""
        if setting in self._settings.sources and not self._first_run:
            raise Unavailable(
                f"cannot listen on {wanted}: another program listens there; end it, or choose another address"
                f" with --{setting}"
            ) from cause

    def _offers_starttls(self, clear: socket.socket) -> bool:
        # No self-made certificate on loopback: many libraries take STARTTLS when it is offered, and fail.
        return self._settings.smtp_tls_cert is not None or not is_loopback(clear.getsockname()[0])

    async def _tls(self, clear: socket.socket, secure: socket.socket | None) -> ServerTls | None:
        """What the listeners show; read before anything is sent, so that a bad file stops the start."""
        if secure is None and not self._offers_starttls(clear):
            return None
        settings = self._settings
        name = settings.helo_name or helo_name()
        return await asyncio.to_thread(
            server_tls, settings.data / TLS_NAME, name, settings.smtp_tls_cert, settings.smtp_tls_key
        )

    async def _start_submission(
        self, room: PostRoom, clear: socket.socket, secure: socket.socket | None, tls: ServerTls | None
    ) -> SubmissionServer:
        settings = self._settings
        starttls = self._offers_starttls(clear)
        server = SubmissionServer(
            room.ctx,
            tls=tls.context if tls is not None and starttls else None,
            clear_auth=ClearAuth.ALWAYS if settings.smtp_clear_auth else ClearAuth.LOOPBACK,
            host_name=settings.helo_name or helo_name(),
            instance=room.instance,
            tell_client=settings.submission_tell_client,
            limits=session_limits(settings),
        )
        try:
            await server.start(clear)
            if secure is not None:
                assert tls is not None
                await server.start(secure, tls.context)
        except BaseException:
            await server.stop()
            raise
        return server

    async def _start_inbox(self, room: PostRoom, stack: AsyncExitStack) -> tuple[str, int] | None:
        wanted = self._settings.inbox
        if wanted is None:
            return None
        inbox = Inbox(room.inbox_folder, self._settings.inbox_keep)
        listener = self._bind_inbox(wanted)
        host, port = listener.getsockname()[:2]
        await inbox.start(listener)
        stack.push_async_callback(inbox.stop)
        return host, port

    def _bind_inbox(self, wanted: Endpoint) -> socket.socket:
        try:
            listener = open_socket(wanted.host, wanted.port)
            with contextlib.suppress(OSError):
                listener.listen(_BACKLOG)
                return listener
            listener.close()  # bound by two and listened on by the other: taken all the same
        except Conflict as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRINUSE:
                raise
        self._require_no_wish(wanted, "inbox", None)
        listener = open_socket(wanted.host, 0)
        port = listener.getsockname()[1]
        self._notes.append(f"{wanted} was taken, so the test inbox listens on port {port}.")
        return listener

    async def _start_http(
        self, room: PostRoom, url: str, listener: socket.socket, pages: Mapping[str, ASGIApp]
    ) -> HttpHandle:
        settings = self._settings
        app: ASGIApp = http_application(room, url=url, missing=lambda: self._missing, pages=pages)
        return await serve_http(
            app,
            listener,
            most_headers=settings.max_headers,
            most_header_bytes=settings.max_header_bytes,
            drain_s=settings.drain_s,
        )

    async def _bootstrapped(self, room: PostRoom) -> dict[str, object] | None:
        if not self._first_run or not await is_fresh(room.desk):
            return None
        made = await run_operation(room.desk, "bootstrap", {}, this_user())
        assert isinstance(made, dict)
        return made

    def _tell(
        self,
        room: PostRoom,
        url: str,
        inbox: tuple[str, int] | None,
        smtp: str,
        smtps: str | None,
        made: dict[str, object] | None,
        fresh: bool,
    ) -> None:
        settings = self._settings
        room.desk.listening["http"] = url.removeprefix("http://")
        if inbox is not None:
            room.desk.listening["inbox"] = f"{inbox[0]}:{inbox[1]}"
        room.desk.listening["smtp"] = smtp
        if smtps is not None:
            room.desk.listening["smtps"] = smtps
        log.info("serving", url=url, data=str(settings.data), instance=room.instance)
        self._ready(
            Ready(
                url=url,
                inbox=inbox,
                smtp=smtp,
                smtps=smtps,
                data=str(settings.data),
                public_url=settings.public_url,
                first_run=self._first_run,
                made=made,
                fresh=fresh,
                notes=tuple(self._notes),
            )
        )


def _bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # now, so that a taken port is known before anything else starts
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return str(Endpoint(host, port))


def _url(listener: socket.socket) -> str:
    """How this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _spare_the_collector() -> None:
    """What was loaded to run stays for good and need not be walked again; what mail leaves is looked at less
    often than after each 700 objects, which is Python's default for programs that make few."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
