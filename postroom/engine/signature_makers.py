"""Who makes signatures: the loop those of Ed25519, threads the few of RSA, a process of its own many.

An RSA signature takes longer than all the rest of a delivery. A few a second are made in threads, which need
nothing that is not there. Once several wait, a process is started for them; it ends when it had nothing to do
for a while. What it cannot do the threads do.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from postroom.engine.sign_process import SignProcess, SignProcessGone
from postroom.logs import Trouble, logger
from postroom.mail.dkim import Unsigned, signature_of
from postroom.mail.dkim_keys import Algorithm

T = TypeVar("T")
log = logger("engine")
_MOST_WAITING = 64  # of long keys threads take what is more: they sign beside it
_THREADS = min(4, os.cpu_count() or 1)


class SignatureMakers:
    """Of one engine. Its methods are called from one loop."""

    def __init__(
        self, *, many: int = 4, look_s: float = 5.0, idle_s: float = 60.0, again_s: float = 30.0
    ) -> None:
        """many: so many at once are worth a process. look_s: one that does not answer for so long is given
        up; idle_s: one that is asked nothing for so long ends; again_s: after trouble the next is started."""
        self._many, self._look_s, self._idle_s, self._again_s = many, look_s, idle_s, again_s
        self._pool: ThreadPoolExecutor | None = None
        self._in_threads = 0
        self._process: SignProcess | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._trouble = Trouble(log)

    @property
    def process(self) -> SignProcess | None:
        """The one that signs now."""
        return self._process

    @property
    def starts(self) -> bool:
        """Whether one is started, or there, or was in trouble so lately that none is started."""
        return self._keeping is not None

    async def signature(self, one: Unsigned, *, current: bool = True) -> bytes:
        """The signature of a field. current: the process may be told its key; else it is forgotten."""
        key = one.signer.key
        if one.signer.algorithm is Algorithm.ED25519:
            return signature_of(key, one.digest)  # quicker than handing it over
        process = self._process
        if current and process is not None and process.ready and process.waiting < _MOST_WAITING:
            try:
                return await process.sign(key, one.digest)
            except SignProcessGone:
                pass  # a thread does it
        self._in_threads += 1
        if self._in_threads >= self._many and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="signing process")
        try:
            return await self.beside(lambda: signature_of(key, one.digest))
        finally:
            self._in_threads -= 1

    async def beside(self, work: Callable[[], T]) -> T:
        """Do something in a thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "postroom-dkim")
        # As many wait here as sessions are open: each delivers one message at a time.
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def forget(self) -> None:
        """Keys changed: none stays in another memory than ours."""
        if self._process is not None:
            self._process.forget()

    async def close(self) -> None:
        """End threads and process."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def _keep(self) -> None:
        """The life of a process."""
        process = SignProcess()
        try:
            await process.start()
            self._process = process
            why = await self._end_of(process)
        except Exception as error:  # whatever it is: threads sign, and the next one may do better
            why = str(error) or type(error).__name__
        finally:
            self._process = None
            await process.close()
        if why:
            self._trouble.met("the process that makes signatures is gone; threads make them", why=why)
            await asyncio.sleep(self._again_s)
        self._keeping = None

    async def _end_of(self, process: SignProcess) -> str:
        """Wait until it is of no use any more; why, if that is its fault."""
        idle_s = 0.0
        while idle_s < self._idle_s:
            before, waiting = process.answers, process.waiting
            if await process.ends(self._look_s):
                return "it ended"
            if process.answers > before:
                self._trouble.over("a process makes signatures again")
                idle_s = 0.0
            elif waiting:
                return "it does not answer"
            else:
                idle_s += self._look_s
        return ""
