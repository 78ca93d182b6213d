"""An SMTP server that takes mail and remembers only that it did: the receiving side of drills and tests.

    python -m tests.support.sink --port 2525 --log sink.log [--drop-after-dot 0.01] [--delay-ms 20]
                                 [--tls cert.pem key.pem] [--implicit-tls] [--refuse-login]

It prints `LISTENING host port` when ready and ends on SIGTERM. For every recipient of every message it
takes, it appends `<time_us_at_dot> <message-id> <rcpt> <session number>` to the log *before* its 250
(O_APPEND: several sinks may share a log), so the log is what a receiver would swear to. `read_log`,
`copies` and `max_in_any_window` judge it. It speaks PIPELINING, 8BITMIME, SMTPUTF8, STARTTLS and
takes any AUTH PLAIN or LOGIN (RFC 5321, 2920, 4954, 3207). What
a recipient's local part asks for, happens: see `tests.support.sink_trouble`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.support.loop_turns import close_listener
from tests.support.sink_log import SinkRecord, copies, max_in_any_window, read_log
from tests.support.sink_trouble import Trouble, trouble_of

__all__ = [
    "Received",
    "Sink",
    "SinkOptions",
    "SinkProcess",
    "SinkRecord",
    "copies",
    "max_in_any_window",
    "read_log",
    "sink_process",
]

SIZE_LIMIT_BYTES = 64 * 1024 * 1024
_COMMAND_BYTES = 16 * 1024
_PATH = re.compile(rb'(?i)(?:FROM|TO):[ ]*<((?:"(?:\\.|[^"\\])*"|[^>"])*)>')
_MESSAGE_ID = re.compile(rb"(?im)^message-id:[ \t]*(?:\r\n[ \t]+)?([^\r\n]*)")


@dataclass(frozen=True)
class Received:
    """A message the sink took, for tests that look inside: `content` with dots unstuffed."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    session: int


@dataclass(frozen=True)
class SinkOptions:
    """`drop_probability` and `drop_every` (each n-th) close after the dot, logged but unanswered."""

    log: Path
    host: str = "127.0.0.1"
    port: int = 0
    drop_probability: float = 0.0
    drop_every: int = 0
    delay_s: float = 0.0
    certificate: tuple[Path, Path] | None = None
    implicit_tls: bool = False
    refuse_login: bool = False


class Sink:
    """The server. `on_message` is called for each message taken, before its 250."""

    def __init__(self, options: SinkOptions, on_message: Callable[[Received], None] | None = None) -> None:
        self.options = options
        self.on_message = on_message
        self.accepted = 0
        self.sessions = 0
        self.most_open = 0
        self.port = options.port
        self.open: set[_SinkProtocol] = set()
        self.asked: set[str] = set()
        self.context: ssl.SSLContext | None = None
        self._closed = asyncio.Event()
        self._log = -1
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Open the log and listen; the port."""
        if self.options.certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*self.options.certificate)
        self._log = os.open(self.options.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _SinkProtocol(self),
            self.options.host,
            self.options.port,
            ssl=self.context if self.options.implicit_tls else None,
            backlog=1024,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Stop listening and cut every session."""
        if self._server is None:
            return
        server, self._server = self._server, None
        await close_listener(server)
        sessions = tuple(self.open)
        for session in sessions:
            session.cut()
        if sessions:
            self._closed.clear()
            await self._closed.wait()
        await asyncio.gather(*(session.securing for session in sessions if session.securing is not None))
        await server.wait_closed()
        os.close(self._log)

    def entered(self, session: _SinkProtocol) -> int:
        self.open.add(session)
        self.most_open = max(self.most_open, len(self.open))
        self.sessions += 1
        return self.sessions

    def left(self, session: _SinkProtocol) -> None:
        self.open.discard(session)
        if not self.open:
            self._closed.set()

    def applies(self, trouble: Trouble | None, phase: str, recipient: str) -> bool:
        """Whether this trouble happens here and now."""
        if trouble is None or trouble.phase != phase:
            return False
        if trouble.once:
            if recipient in self.asked:
                return False
            self.asked.add(recipient)
        return True

    def take(self, lines: bytes) -> bool:
        """Log a message; False when its connection is to be dropped."""
        os.write(self._log, lines)
        self.accepted += 1
        if self.options.drop_every and self.accepted % self.options.drop_every == 0:
            return False
        return not (self.options.drop_probability and random.random() < self.options.drop_probability)


class _SinkProtocol(asyncio.Protocol):
    """One session: commands and bodies are taken from the buffer as they come, replies leave together."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._position = 0
        self._scanned = 0
        self._replies: list[bytes] = []
        self._number = 0
        self._waiting = False  # nothing more is read from the buffer: delayed, hanging, or closing
        self._challenges: tuple[bytes, ...] = ()
        self._login_lines = 0  # challenges not answered yet
        self._in_data = False
        self._secure = sink.options.implicit_tls
        self._sender: str | None = None
        self._recipients: list[tuple[str, Trouble | None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.securing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses
        self._number = self._sink.entered(self)
        self._transport.write(b"220 sink.test ESMTP\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        self._waiting = True
        if self._timer is not None:
            self._timer.cancel()
        self._sink.left(self)

    def cut(self) -> None:
        self._waiting = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._waiting:
            self._advance()
        elif len(self._buffer) > SIZE_LIMIT_BYTES:
            self.cut()

    def _advance(self) -> None:
        while not self._waiting and (self._take_message() if self._in_data else self._take_command()):
            pass
        if self._position:
            del self._buffer[: self._position]
            self._scanned = max(0, self._scanned - self._position)
            self._position = 0
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()

    def _close(self) -> None:
        self._waiting = True
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()
        self._transport.close()

    def _take_command(self) -> bool:
        end = self._buffer.find(b"\n", self._position)
        if end < 0:
            if len(self._buffer) - self._position > _COMMAND_BYTES:
                self._replies.append(b"500 5.5.2 Line too long\r\n")
                self._close()
            return False
        line = bytes(self._buffer[self._position : end]).rstrip(b"\r")
        self._position = end + 1
        if self._login_lines:
            self._login_lines = 0 if line == b"*" else self._login_lines - 1
            self._replies.append(b"501 5.7.0 As you wish\r\n" if line == b"*" else self._login_reply())
            return True
        verb = line[:4].upper()
        if verb == b"RCPT":
            self._recipient(line)
        elif verb == b"MAIL":
            self._mail(line)
        elif verb == b"DATA":
            self._data()
        elif verb in (b"EHLO", b"HELO"):
            self._reset()
            self._replies.append(self._greeting() if verb == b"EHLO" else b"250 sink.test\r\n")
        elif verb == b"RSET":
            self._reset()
            self._replies.append(b"250 2.0.0 OK\r\n")
        elif verb == b"NOOP":
            self._replies.append(b"250 2.0.0 OK\r\n")
        elif verb == b"QUIT":
            self._replies.append(b"221 2.0.0 Bye\r\n")
            self._close()
        elif verb == b"AUTH":
            self._login(line.upper().split())
        elif verb == b"STAR" and self._sink.context is not None and not self._secure:
            self._start_tls()
        else:
            self._replies.append(b"502 5.5.1 Not known here\r\n")
        return True

    def _greeting(self) -> bytes:
        words = ["sink.test", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        words += ["AUTH PLAIN LOGIN", f"SIZE {SIZE_LIMIT_BYTES}"]
        if self._sink.context is not None and not self._secure:
            words.append("STARTTLS")
        *first, last = words
        return "".join([*(f"250-{word}\r\n" for word in first), f"250 {last}\r\n"]).encode()

    def _login(self, words: list[bytes]) -> None:
        mechanism = words[1] if len(words) > 1 else b""
        self._challenges = {b"PLAIN": (b"",), b"LOGIN": (b"VXNlcm5hbWU6", b"UGFzc3dvcmQ6")}.get(mechanism, ())
        self._login_lines = max(0, len(self._challenges) - len(words) + 2) if self._challenges else 0
        self._replies.append(self._login_reply() if self._challenges else b"504 5.5.4 Not offered\r\n")

    def _login_reply(self) -> bytes:
        if self._login_lines:
            return b"334 " + self._challenges[-self._login_lines] + b"\r\n"
        if self._sink.options.refuse_login:
            return b"535 5.7.8 Wrong login\r\n"
        return b"235 2.7.0 Welcome\r\n"

    def _mail(self, line: bytes) -> None:
        found = _PATH.match(line, 5)
        if self._sender is not None or found is None:
            self._replies.append(b"503 5.5.1 Not now\r\n" if found else b"501 5.5.4 Which sender?\r\n")
            return
        self._sender = found[1].decode("utf-8", "surrogateescape")
        self._replies.append(b"250 2.1.0 OK\r\n")

    def _recipient(self, line: bytes) -> None:
        found = _PATH.match(line, 5)
        if self._sender is None or not found or not found[1]:
            self._replies.append(b"503 5.5.1 MAIL first\r\n" if found else b"501 5.5.4 To whom?\r\n")
            return
        recipient = found[1].decode("utf-8", "surrogateescape")
        trouble = trouble_of(recipient)
        if trouble is None or not self._sink.applies(trouble, "rcpt", recipient):
            self._recipients.append((recipient, trouble))
            self._replies.append(b"250 2.1.5 OK\r\n")
        else:
            self._suffer(trouble)

    def _suffer(self, trouble: Trouble) -> None:
        if trouble.kind == "hang":
            self._waiting = True
        elif trouble.kind == "drop":
            self._close()
        else:
            self._replies.append(trouble.reply)

    def _first_trouble(self, phase: str) -> Trouble | None:
        for recipient, trouble in self._recipients:
            if trouble is not None and self._sink.applies(trouble, phase, recipient):
                return trouble
        return None

    def _data(self) -> None:
        if not self._recipients:
            self._replies.append(b"503 5.5.1 RCPT first\r\n")
        elif trouble := self._first_trouble("data"):
            self._suffer(trouble)
        else:
            self._in_data = True
            self._scanned = self._position
            self._replies.append(b"354 Go on\r\n")

    def _take_message(self) -> bool:
        start = self._position
        if self._buffer.startswith(b".\r\n", start):
            end, after = start, start + 3
        else:
            dot = self._buffer.find(b"\r\n.\r\n", self._scanned)
            if dot < 0:
                self._scanned = max(start, len(self._buffer) - 4)
                if len(self._buffer) > SIZE_LIMIT_BYTES:
                    self._replies.append(b"552 5.3.4 Too large\r\n")
                    self._close()
                return False
            end, after = dot + 2, dot + 5
        time_us = time.time_ns() // 1000
        trouble = self._first_trouble("dot")
        self._position = after
        if trouble is not None and trouble.kind in ("bounce", "defer"):
            self._reset()
            self._replies.append(trouble.reply)
            return True
        header_end = self._buffer.find(b"\r\n\r\n", start, end)
        found = _MESSAGE_ID.search(self._buffer, start, end if header_end < 0 else header_end + 2)
        message_id = _word(found[1].decode("utf-8", "surrogateescape")) if found else "-"
        lines = "".join(
            f"{time_us} {message_id} {_word(recipient)} {self._number}\n" for recipient, _ in self._recipients
        )
        if self._sink.on_message is not None:
            self._sink.on_message(self._received(bytes(self._buffer[start:end])))
        kept = self._sink.take(lines.encode("utf-8", "surrogateescape"))
        self._reset()
        if trouble is not None:
            self._suffer(trouble)
        elif not kept:
            self._close()
        elif self._sink.options.delay_s:
            self._waiting = True
            self._timer = asyncio.get_running_loop().call_later(self._sink.options.delay_s, self._answer)
        else:
            self._replies.append(b"250 2.0.0 Taken\r\n")
        return True

    def _answer(self) -> None:
        self._waiting = False
        self._replies.append(b"250 2.0.0 Taken\r\n")
        self._advance()

    def _received(self, stuffed: bytes) -> Received:
        content = stuffed.replace(b"\r\n..", b"\r\n.")
        content = content[1:] if content.startswith(b".") else content
        return Received(
            self._sender or "", tuple(name for name, _ in self._recipients), content, self._number
        )

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []
        self._in_data = False

    def _start_tls(self) -> None:
        # Reading stops before the 220 leaves, and what came with the command is thrown away (RFC 3207 4.2).
        self._waiting = True
        self._transport.pause_reading()
        self._replies.append(b"220 2.0.0 Go on\r\n")
        self._position = len(self._buffer)
        self.securing = asyncio.get_running_loop().create_task(self._secure_transport())

    async def _secure_transport(self) -> None:
        assert self._sink.context is not None
        plain = self._transport
        try:
            secured = await asyncio.get_running_loop().start_tls(
                plain, self, self._sink.context, server_side=True, ssl_handshake_timeout=10
            )
        except OSError:
            secured = None
        if secured is None or plain.is_closing():  # refused, left or cut: connection_lost does not follow
            plain.abort()
            self._sink.left(self)
            return
        self._transport = secured
        self._secure = True
        self._reset()
        self._waiting = False
        self._advance()


def _word(text: str) -> str:
    """`text` as one field of a log line."""
    return re.sub(r"[\x00-\x20\x7f]", "_", text.strip()) or "-"


@dataclass(frozen=True)
class SinkProcess:
    """A sink that runs on its own; `process` may be signalled."""

    process: subprocess.Popen[str]
    host: str
    port: int
    log: Path


@contextlib.contextmanager
def sink_process(log: Path, *options: str, port: int = 0) -> Iterator[SinkProcess]:
    """Run a sink as a process of its own until the block ends; `options` as on its command line."""
    command = [sys.executable, "-m", "tests.support.sink", "--port", str(port), "--log", str(log), *options]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            word, host, bound = (process.stdout.readline().split() or ["", "", "0"])[:3]
            if word != "LISTENING":
                raise RuntimeError(f"the sink did not start: exit status {process.wait(10)}")
            yield SinkProcess(process, host, int(bound), log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _options(arguments: list[str] | None = None) -> SinkOptions:
    parser = argparse.ArgumentParser(prog="tests.support.sink", description="an SMTP server that keeps a log")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument(
        "--drop-after-dot", default="0", metavar="X", help="0.01: with that probability; 100: every 100th"
    )
    parser.add_argument("--delay-ms", type=float, default=0, help="wait before the reply to the dot")
    parser.add_argument("--tls", nargs=2, type=Path, metavar=("CERT", "KEY"), help="offer STARTTLS")
    parser.add_argument("--implicit-tls", action="store_true", help="TLS from the first byte")
    parser.add_argument("--refuse-login", action="store_true", help="535 to every AUTH")
    given = parser.parse_args(arguments)
    if given.implicit_tls and not given.tls:
        parser.error("--implicit-tls needs --tls CERT KEY")
    chance = "." in given.drop_after_dot
    return SinkOptions(
        log=given.log,
        host=given.host,
        port=given.port,
        drop_probability=float(given.drop_after_dot) if chance else 0.0,
        drop_every=0 if chance else int(given.drop_after_dot),
        delay_s=given.delay_ms / 1000,
        certificate=tuple(given.tls) if given.tls else None,
        implicit_tls=given.implicit_tls,
        refuse_login=given.refuse_login,
    )


async def _serve(options: SinkOptions) -> None:
    sink = Sink(options)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await sink.start()
    print("LISTENING", options.host, sink.port, flush=True)
    await ended.wait()
    await sink.stop()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(_options()))
