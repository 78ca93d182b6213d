"""A raw SMTP server that misbehaves on request: what it does at each stage is a script.

It is no library's server, so nothing keeps it from breaking the protocol, and it takes apart the
client's bytes itself, so that what arrived is recorded exactly. A stage without a script works.

    async with ScriptedServer({Stage.RCPT: reply("550 5.1.1 no such user")}) as server:
        ...
    async with ScriptedServer({Stage.AFTER_DOT: [drop(), ok()]}) as server:   # the first time, then on
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.loop_turns import close_listener, until_closed
from tests.support.smtp_pipe import Gone, Pipe
from tests.support.smtp_script import (
    Action,
    Kind,
    Script,
    Stage,
    drop,
    endless,
    garbage,
    hang,
    long_line,
    ok,
    reply,
    reset,
    send,
    split,
)

__all__ = [
    "Action",
    "Kind",
    "Script",
    "ScriptedServer",
    "Stage",
    "Transaction",
    "drop",
    "endless",
    "garbage",
    "hang",
    "long_line",
    "ok",
    "reply",
    "reset",
    "send",
    "split",
]


@dataclass
class Transaction:
    """One transaction as the server saw it. `data`: the content, un-stuffed, exactly as received."""

    connection: int
    helo: str
    tls: str  # like "TLSv1.3", "" for clear text
    login: tuple[str, str] | None  # method, user name
    mail: str  # the whole MAIL line
    sender: str
    started_at: float  # time.monotonic() at MAIL
    rcpts: list[str] = field(default_factory=list)
    data: bytes = b""
    complete: bool = False  # the final dot was read
    finished_at: float = 0.0
    answer: bytes = b""  # what was sent after the dot; b"" if nothing was

    @property
    def accepted(self) -> bool:
        """A 2xx was sent after the dot."""
        return self.answer[:1] == b"2"

    @property
    def recipients(self) -> list[str]:
        return [_path(line) for line in self.rcpts]


class ScriptedServer:
    """Listens on a loopback port while entered; `port` is known then.

    script: stage -> an action, or several: one each time that stage is met, on whatever connection;
    the last one stays. tls: the context for STARTTLS, which is offered then, or for `implicit` TLS.
    extensions, extensions_after_tls: the EHLO keywords. users: AUTH is checked against these.
    fragment: bytes per write of replies. receive_buffer: small, it makes the client feel backpressure.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        extensions: Sequence[str] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 0"),
        extensions_after_tls: Sequence[str] | None = None,
        users: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.port = 0
        self.tls = tls
        self.implicit = implicit
        self.extensions = tuple(extensions)
        self.extensions_after_tls = (
            self.extensions if extensions_after_tls is None else tuple(extensions_after_tls)
        )
        self.users = dict(users or {})
        self.transactions: list[Transaction] = []
        self.commands: list[str] = []  # every command line, all connections, in order
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.met: list[Stage] = []
        self.challenge_unknown = False  # answer what is no command with another 334, for ever
        self._script: dict[Stage, list[Action]] = {
            stage: [actions] if isinstance(actions, Action) else list(actions)
            for stage, actions in (script or {}).items()
        }
        self._receive_buffer = receive_buffer
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pipes: set[Pipe] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        sock = socket.create_server((self.host, 0), backlog=256)
        if self._receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Pipe(self._serve), sock=sock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await close_listener(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pipe in self._pipes:  # of conversations that never began
            pipe.cut()
        await until_closed()
        await self._server.wait_closed()

    @property
    def messages(self) -> list[Transaction]:
        """Transactions accepted after the dot."""
        return [transaction for transaction in self.transactions if transaction.accepted]

    async def until(self, condition: Callable[[ScriptedServer], bool], timeout_s: float = 5.0) -> None:
        """Wait until `condition(server)` holds; it is looked at whenever something happens."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    def act(self, stage: Stage) -> Action:
        """The script's next action for this stage."""
        self.met.append(stage)
        actions = self._script.get(stage)
        if not actions:
            return ok()
        return actions.pop(0) if len(actions) > 1 else actions[0]

    async def changed(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _serve(self, pipe: Pipe) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self._pipes.add(pipe)
        task = asyncio.get_running_loop().create_task(self._converse(pipe, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, pipe: Pipe, number: int) -> None:
        try:
            await _Conversation(self, pipe, number).run()
        except Gone:
            pass
        finally:
            pipe.cut()
            self._pipes.discard(pipe)
            self.open -= 1
            await self.changed()


class _Conversation:
    """One connection, from banner to end."""

    def __init__(self, server: ScriptedServer, pipe: Pipe, number: int) -> None:
        self._server = server
        self._pipe = pipe
        self._number = number
        self._helo = ""
        self._login: tuple[str, str] | None = None
        self._secured = False
        self._current: Transaction | None = None

    async def run(self) -> None:
        server = self._server
        await self._at(Stage.CONNECT, b"")
        if server.implicit:
            await self._handshake()
        await self._at(Stage.BANNER, b"220 scripted.test ESMTP\r\n")
        while True:
            raw = await self._pipe.line()
            line = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
            server.commands.append(line)
            await self._command(line)
            await server.changed()

    async def _command(self, line: str) -> None:
        verb = line.split(" ", 1)[0].upper()
        if verb == "EHLO":
            self._helo = line[5:]
            self._current = None
            await self._at(Stage.EHLO2 if self._secured else Stage.EHLO, self._capabilities())
        elif verb == "HELO":
            self._helo = line[5:]
            await self._at(Stage.HELO, b"250 scripted.test\r\n")
        elif verb == "STARTTLS" and self._server.tls is not None:
            await self._start_tls()
        elif verb == "AUTH":
            await self._auth(line)
        elif verb == "MAIL":
            await self._mail(line)
        elif verb == "RCPT":
            await self._rcpt(line)
        elif verb == "DATA":
            await self._data()
        elif verb == "RSET":
            self._current = None
            await self._at(Stage.RSET, b"250 2.0.0 reset\r\n")
        elif verb == "QUIT":
            await self._at(Stage.QUIT, b"221 2.0.0 bye\r\n")
            self._pipe.close()
            await self._pipe.lost()
            raise Gone
        else:
            unknown = b"334 bW9yZQ==\r\n" if self._server.challenge_unknown else b"500 5.5.2 what?\r\n"
            await self._pipe.write(unknown)

    async def _at(self, stage: Stage, usual: bytes) -> bytes:
        """Do what the script says here -> the bytes that were sent. Raises Gone if it ends here."""
        action = self._server.act(stage)
        if action.kind is Kind.OK:
            if usual:
                await self._pipe.write(usual)
            return usual
        if action.kind is Kind.SEND:
            for left, piece in enumerate(action.pieces, 1 - len(action.pieces)):
                await self._pipe.write(piece)
                if left:
                    await asyncio.sleep(0.0005)  # so that pieces travel alone
            await self._end(action.then)
            return b"".join(action.pieces)
        await self._end(action.kind)
        return b""

    async def _end(self, kind: Kind) -> None:
        if kind is Kind.HANG:
            if self._server.met[-1] is Stage.MID_BODY:
                self._pipe.stop_reading()  # elsewhere it reads on, to notice when the client goes
            await self._server.changed()
            await self._pipe.lost()
            raise Gone
        if kind is Kind.DROP:
            self._pipe.close()
            raise Gone
        if kind is Kind.RESET:
            self._pipe.cut(with_reset=True)
            raise Gone

    def _capabilities(self) -> bytes:
        server = self._server
        if self._secured:
            words = list(server.extensions_after_tls)
        else:
            words = [*server.extensions, *(["STARTTLS"] if server.tls and not server.implicit else [])]
        lines = ["scripted.test greets you", *words]
        last = len(lines) - 1
        return "".join(f"250{' ' if i == last else '-'}{w}\r\n" for i, w in enumerate(lines)).encode()

    async def _start_tls(self) -> None:
        sent = await self._at(Stage.STARTTLS, b"220 2.0.0 ready\r\n")
        if sent.startswith(b"220"):
            await self._handshake()

    async def _handshake(self) -> None:
        await self._at(Stage.HANDSHAKE, b"")
        assert self._server.tls is not None
        await self._pipe.start_tls(self._server.tls)
        self._secured = True
        self._login = None

    async def _auth(self, line: str) -> None:
        words = line.split(" ")
        method = words[1].upper() if len(words) > 1 else ""
        action = self._server.act(Stage.AUTH)
        if action.kind is not Kind.OK:
            for piece in action.pieces:
                await self._pipe.write(piece)
            await self._end(action.then if action.kind is Kind.SEND else action.kind)
            return
        user, good = "", False
        if method == "PLAIN":
            response = words[2] if len(words) > 2 else await self._challenge(b"")
            _, user, password = (_decode(response) + "\0\0").split("\0")[:3]
            good = self._server.users.get(user) == password
        elif method == "LOGIN":
            user = _decode(await self._challenge(b"Username:"))
            good = self._server.users.get(user) == _decode(await self._challenge(b"Password:"))
        elif method == "CRAM-MD5":
            question = b"<1.2@scripted.test>"
            user, _, digest = _decode(await self._challenge(question)).rpartition(" ")
            secret = self._server.users.get(user, "")
            good = hmac.compare_digest(digest, hmac.new(secret.encode(), question, "md5").hexdigest())
        if good and user in self._server.users:
            self._login = (method, user)
            await self._pipe.write(b"235 2.7.0 welcome\r\n")
        else:
            await self._pipe.write(b"535 5.7.8 bad login\r\n")

    async def _challenge(self, text: bytes) -> str:
        await self._pipe.write(b"334 " + base64.b64encode(text) + b"\r\n")
        return (await self._pipe.line()).decode("ascii", "replace").strip()

    async def _mail(self, line: str) -> None:
        assert self._pipe.transport is not None
        tls = self._pipe.transport.get_extra_info("ssl_object")
        transaction = Transaction(
            connection=self._number,
            helo=self._helo,
            tls=(tls.version() or "") if tls else "",
            login=self._login,
            mail=line,
            sender=_path(line),
            started_at=time.monotonic(),
        )
        self._server.transactions.append(transaction)
        sent = await self._at(Stage.MAIL, b"250 2.1.0 sender ok\r\n")
        self._current = transaction if sent.startswith(b"2") else None

    async def _rcpt(self, line: str) -> None:
        if self._current is None:
            await self._pipe.write(b"503 5.5.1 MAIL first\r\n")
            return
        sent = await self._at(Stage.RCPT, b"250 2.1.5 recipient ok\r\n")
        if sent.startswith(b"2"):
            self._current.rcpts.append(line)

    async def _data(self) -> None:
        scripted = Stage.DATA in self._server._script
        if (self._current is None or not self._current.rcpts) and not scripted:
            await self._pipe.write(b"503 5.5.1 no recipients\r\n")
            return
        sent = await self._at(Stage.DATA, b"354 go ahead\r\n")
        if not sent.startswith(b"354"):
            return
        if self._current is None:
            self._current = Transaction(self._number, self._helo, "", None, "", "", time.monotonic())
            self._server.transactions.append(self._current)
        transaction, self._current = self._current, None
        await self._pipe.some()
        await self._server.changed()
        await self._at(Stage.MID_BODY, b"")
        await self._read_content(transaction)
        transaction.complete = True
        await self._server.changed()
        usual = b"250 2.0.0 Ok: queued as T%d\r\n" % len(self._server.transactions)
        action = self._server.act(Stage.AFTER_DOT)
        transaction.answer = usual if action.kind is Kind.OK else b"".join(action.pieces)
        transaction.finished_at = time.monotonic()
        for piece in action.pieces or ((usual,) if action.kind is Kind.OK else ()):
            await self._pipe.write(piece)
            if len(action.pieces) > 1:
                await asyncio.sleep(0.0005)
        await self._end(action.then if action.kind is Kind.SEND else action.kind)

    async def _read_content(self, transaction: Transaction) -> None:
        """Up to CRLF.CRLF and nothing else; a dot is only taken off at the start of a CRLF line."""
        parts: list[bytes] = []
        fresh = True
        try:
            while True:
                line = await self._pipe.line()
                if fresh and line == b".\r\n":
                    return
                parts.append(line[1:] if fresh and line.startswith(b".") else line)
                fresh = line.endswith(b"\r\n")
        finally:
            transaction.data = b"".join(parts)


def _path(line: str) -> str:
    return line[line.find("<") + 1 : line.rfind(">")]


def _decode(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""
