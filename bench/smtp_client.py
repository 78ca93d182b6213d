"""What one message costs our SMTP client, beside aiosmtplib: CPU and wall time on a reused session.

Both send the same 10 KiB messages over one connection to one sink in another process, in turns,
several rounds; medians and their ratio are printed. CPU time is this process's only.

    python -m bench.smtp_client [--messages 2000] [--rounds 5] [--loop uvloop|asyncio] [--no-pipelining]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import aiosmtplib
import uvloop

from postroom.transports.dialer import Dialer
from postroom.transports.interface import Envelope, Result, SmtpTarget, StartTls
from postroom.transports.smtp import SmtpTransport

CONTENT = b"From: a@bench.test\r\nTo: b@bench.test\r\nSubject: Bench\r\n\r\n" + (b"x" * 76 + b"\r\n") * 131
Send = Callable[[int], Awaitable[None]]


class _Sink(asyncio.Protocol):
    """Says yes to everything as fast as Python can; finds the end of a body by its last bytes."""

    def __init__(self, ehlo: bytes) -> None:
        self._ehlo = ehlo
        self._buffer = b""
        self._in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by duck typing only
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers: list[bytes] = []
        while self._buffer:
            if self._in_body:
                if not self._buffer.endswith(b"\r\n.\r\n"):
                    break
                self._buffer, self._in_body = b"", False
                answers.append(b"250 2.0.0 Ok: queued as 0123456789\r\n")
                continue
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                break
            self._buffer = rest
            verb = line[:4].upper()
            if verb == b"DATA":
                self._in_body = True
                answers.append(b"354 go\r\n")
            else:
                answers.append(self._ehlo if verb == b"EHLO" else b"250 2.0.0 ok\r\n")
        if answers:
            self._transport.write(b"".join(answers))


def _run_sink(ready: Connection, pipelining: bool) -> None:
    ehlo = b"250-sink.test\r\n" + (b"250-PIPELINING\r\n" if pipelining else b"") + b"250 8BITMIME\r\n"

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Sink(ehlo), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


class _Checks:
    def before_mail(self) -> bool:
        return True

    def before_data(self) -> bool:
        return True

    def before_dot(self) -> bool:
        return True


async def _measure(port: int, messages: int, rounds: int) -> None:
    session = await SmtpTransport(SmtpTarget("127.0.0.1", port, StartTls.NEVER), Dialer()).open()
    judge = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, use_tls=False)
    await judge.connect()
    checks = _Checks()

    async def ours(count: int) -> None:
        for _ in range(count):
            outcome = await session.deliver(Envelope("a@bench.test", "b@bench.test", lambda: CONTENT), checks)
            assert outcome.result is Result.SENT

    async def theirs(count: int) -> None:
        for _ in range(count):
            await judge.sendmail("a@bench.test", ["b@bench.test"], CONTENT)

    contenders: dict[str, Send] = {"postroom": ours, "aiosmtplib": theirs}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    for send in contenders.values():
        await send(messages // 10)
    for _ in range(rounds):
        for name, send in contenders.items():
            cpu_before, wall_before = time.process_time(), time.perf_counter()
            await send(messages)
            cpu[name].append((time.process_time() - cpu_before) / messages * 1000)
            wall[name].append((time.perf_counter() - wall_before) / messages * 1000)
    await session.close()
    judge.close()
    for what, figures in (("CPU", cpu), ("wall", wall)):
        medians = {name: statistics.median(values) for name, values in figures.items()}
        shown = ", ".join(f"{name} {value:.3f} ms" for name, value in medians.items())
        print(f"{what:4} per message: {shown}; ratio {medians['aiosmtplib'] / medians['postroom']:.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--no-pipelining", action="store_true")
    arguments = parser.parse_args()
    here, there = multiprocessing.Pipe(duplex=False)
    sink = multiprocessing.Process(target=_run_sink, args=(there, not arguments.no_pipelining), daemon=True)
    sink.start()
    try:
        run = uvloop.run if arguments.loop == "uvloop" else asyncio.run
        run(_measure(here.recv(), arguments.messages, arguments.rounds))
    finally:
        sink.terminate()
        sink.join()


if __name__ == "__main__":
    main()
