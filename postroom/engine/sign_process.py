"""A process beside ours that makes RSA signatures, so that they take nothing from the loop.

A thread that signs asks for the interpreter's lock back after each signature, and whoever holds it waits for
threads in turn; with many signatures a second that costs more than the signatures do.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress
from typing import cast

from postroom import child_python
from postroom.engine.sign_child import FORGET, HEADER, KEY, LENGTH, SIGN
from postroom.mail.dkim_keys import PrivateKey, to_stored

_MOST_KEYS = 10_000  # so many it is told before it is to forget them
_READY_S = 30.0  # a process that is not ready by then is given up
_END_S = 5.0


class SignProcessGone(Exception):
    """It ended, or could not make this signature; somebody else has to."""


class SignProcess:
    """Between `start` and `close`. A process that ends by itself ends what was asked of it; it is not started
    again."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._link: _Link | None = None

    @property
    def ready(self) -> bool:
        """Whether it may be asked now."""
        return self._link is not None and self._link.ready

    @property
    def waiting(self) -> int:
        """How many signatures were asked for and did not come yet."""
        return 0 if self._link is None else len(self._link.asked)

    async def start(self) -> None:
        """Raises OSError and TimeoutError where it cannot be started."""
        ours, its = socket.socketpair()
        with its:
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            try:
                _, link = await loop.create_connection(_Link, sock=ours)
            except BaseException:
                ours.close()
                raise
            try:
                self._child = await asyncio.create_subprocess_exec(
                    *child_python.command("postroom.engine.sign_child"),
                    str(its.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(its.fileno(),),
                    env=child_python.environment(),
                )
            except BaseException:
                link.close()
                raise
        self._link = link
        async with asyncio.timeout(_READY_S):
            await link.begun.wait()
        if not link.ready:
            raise OSError("the process that signs ended at once")

    @property
    def pid(self) -> int | None:
        """Its number."""
        return None if self._child is None else self._child.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None: it did not yet."""
        return None if self._child is None else self._child.returncode

    @property
    def answers(self) -> int:
        """How often it answered."""
        return 0 if self._link is None else self._link.answers

    async def ends(self, within_s: float) -> bool:
        """Whether it ends by itself within this time."""
        if self._link is None:
            return True
        try:
            async with asyncio.timeout(within_s):
                await self._link.ended.wait()
        except TimeoutError:
            return False
        return True

    async def sign(self, key: PrivateKey, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest. Raises SignProcessGone."""
        if self._link is None or not self._link.ready:
            raise SignProcessGone
        return await self._link.ask(key, digest)

    def forget(self) -> None:
        """No key stays in its memory; those that are used come anew."""
        if self._link is not None:
            self._link.forget()

    async def close(self) -> None:
        """End it. What was asked for and did not come yet raises SignProcessGone."""
        if self._link is not None:
            self._link.close()
        if self._child is not None:
            try:
                async with asyncio.timeout(_END_S):
                    await self._child.wait()
            except BaseException as error:
                with suppress(ProcessLookupError):
                    self._child.kill()
                await self._child.wait()
                if not isinstance(error, TimeoutError):
                    raise


class _Link(asyncio.Protocol):
    """Our end of the socket to it."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.ready = False
        self.asked: deque[asyncio.Future[bytes]] = deque()
        self.answers = 0
        self._transport: asyncio.Transport | None = None
        self._numbers: dict[
            int, tuple[int, PrivateKey]
        ] = {}  # by id(); the key is kept, so the id is its own
        self._to_say: list[bytes] = []
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, key: PrivateKey, digest: bytes) -> asyncio.Future[bytes]:
        """What will be the signature. What is asked in one round of the loop is said at once."""
        number, _ = self._numbers.get(id(key), (None, None))
        if number is None:
            if len(self._numbers) >= _MOST_KEYS:
                self.forget()
            number = len(self._numbers)
            self._numbers[id(key)] = number, key
            stored = to_stored(key)
            self._say(HEADER.pack(KEY, number, len(stored)) + stored)
        self._say(HEADER.pack(SIGN, number, len(digest)) + digest)
        future = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        return future

    def forget(self) -> None:
        """What was asked before is signed before."""
        if self._numbers:
            self._numbers.clear()
            self._say(HEADER.pack(FORGET, 0, 0))

    def close(self) -> None:
        """Its end sees the end."""
        if self._transport is not None:
            self._transport.close()
        self._end()

    def _say(self, words: bytes) -> None:
        if not self._to_say:
            asyncio.get_running_loop().call_soon(self._write)
        self._to_say.append(words)

    def _write(self) -> None:
        words, self._to_say = b"".join(self._to_say), []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(words)

    def data_received(self, data: bytes) -> None:
        heard, at = self._heard + data, 0
        while len(heard) - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(heard, at)
            end = at + LENGTH.size + size
            if len(heard) < end:
                break
            signature, at = heard[at + LENGTH.size : end], end
            if not self.begun.is_set():
                self.ready = True
                self.begun.set()
                continue
            self.answers += 1
            future = self.asked.popleft()
            if future.done():  # who asked went away
                continue
            if signature:
                future.set_result(signature)
            else:
                future.set_exception(SignProcessGone())
        self._heard = heard[at:]

    def connection_lost(self, _error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self.ready = False
        self.begun.set()
        self.ended.set()
        while self.asked:
            future = self.asked.popleft()
            if not future.done():
                future.set_exception(SignProcessGone())
