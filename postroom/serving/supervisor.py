"""`serve --processes N`: binds the sockets, starts N children that share them, and keeps N of them running.

The first child starts alone: it brings the database up to date and makes what a first start makes. Then come
the others. A child that dies is started again, after a rest that grows while it keeps dying; what it left is
taken up by its siblings. Children stay in this process's group and end when it is gone. SIGTERM or SIGINT
lets all of them drain, a second one ends them at once.

Nothing of the engine is imported here: the supervisor works when it has to and is small beside its children.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from postroom import child_python, logs
from postroom.accepting import Shares, shared_counts
from postroom.config import ConfigError, Settings
from postroom.control.protocol import InternalError, error_from_json
from postroom.serving.link import Link, Plan
from postroom.serving.listeners import LISTENERS, Listeners, bind_all
from postroom.serving.ready import Ready, ready_on

FIRST_REST_S = 0.2
LONGEST_REST_S = 5.0
LIVED_WELL_S = 30.0
_HUNG_S = 30.0
_AT_ONCE_S = 1.0

log = logs.logger("serve")


class Supervisor:
    """One `serve` of several processes. `ready` is called once, when all of them run."""

    def __init__(
        self,
        settings: Settings,
        flags: Mapping[str, str | None],
        config: Path | None,
        *,
        first_run: bool,
        ready: Callable[[Ready], None],
    ) -> None:
        self._settings, self._flags, self._config = settings, flags, config
        self._first_run, self._ready = first_run, ready
        self._children = [Child(self, number) for number in range(1, settings.processes + 1)]
        self._listeners = Listeners()
        self._stop = asyncio.Event()

    async def run(self) -> bool:
        """Until a signal; whether all children ended well. Raises what the first one could not start for."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        self._listeners = bind_all(self._settings, first_run=self._first_run)
        processes = len(self._children)
        self._counts = shared_counts(processes, len(LISTENERS))
        self._shares = Shares(self._counts, processes, 0)
        try:
            return await self._supervise()
        finally:
            for child in self._children:
                child.kill()
            self._listeners.close()
            os.close(self._counts)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _supervise(self) -> bool:
        stopping = asyncio.create_task(self._stop.wait())
        starting = asyncio.create_task(self._start())
        await asyncio.wait((stopping, starting), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            told = await starting  # raises why not
            self._tell(told)
            keeping = [asyncio.create_task(child.keep()) for child in self._children]
            await stopping
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        codes = await asyncio.gather(*(child.end(self._patience_s) for child in self._children))
        log.info("all children have ended")
        return all(code == 0 for code in codes)

    async def _start(self) -> dict[str, Any]:
        """All children, the first one alone; what that told."""
        first, *others = self._children
        told = await first.start(first_run=self._first_run)
        await asyncio.gather(*(child.start() for child in others))
        return told

    def _tell(self, told: Mapping[str, Any]) -> None:
        log.info("all children are ready", processes=len(self._children))
        self._ready(
            ready_on(
                self._settings,
                self._listeners,
                first_run=self._first_run,
                made=told["made"],
                fresh=told["fresh"],
                children=[child.pid for child in self._children],
            )
        )

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stop.is_set():
            log.warning("stopping at once", why=f"a second {name}")
            for child in self._children:
                child.end_at_once()
            return
        log.info("stopping", why=name, drain_s=self._settings.drain_s)
        self._stop.set()

    @property
    def _patience_s(self) -> float:
        return 2 * self._settings.drain_s + _HUNG_S

    def plan(self, number: int, *, first_run: bool) -> Plan:
        """What a child is to be."""
        shared = {name: one.fileno() for name, one in self._listeners.sockets.items()}
        config = None if self._config is None else str(self._config)
        processes = len(self._children)
        return Plan(number, self._flags, config, first_run, shared, self._counts, processes)

    def gone(self, number: int) -> None:
        """A child has ended: nobody waits for it to be quicker."""
        self._shares.leave(number - 1)


class Child:
    """One of them, and its successors."""

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self._supervisor, self.number = supervisor, number
        self._process: asyncio.subprocess.Process | None = None
        self._link: Link | None = None
        self._began_s = 0.0
        self._at_once = False

    @property
    def pid(self) -> int:
        """Of the process that runs now or ran last."""
        return self._process.pid if self._process is not None else 0

    async def start(self, *, first_run: bool = False) -> dict[str, Any]:
        """Start it; what it told when it was ready. Raises PostroomError, ConfigError if it could not."""
        self._began_s = asyncio.get_running_loop().time()
        ours, theirs = socket.socketpair()
        plan = self._supervisor.plan(self.number, first_run=first_run)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *child_python.command("postroom.serving.child"),
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # whoever reads our output waits for the end of it: ours, not a child's
                pass_fds=(theirs.fileno(), plan.counts, *plan.listeners.values()),
                env=child_python.environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = await Link.over(ours)
        self._link.say(plan.document())
        async for said in self._link.hear():
            if "ready" in said:
                found: dict[str, Any] = said["ready"]
                return found
            if "failed" in said:
                await self._process.wait()
                if said["failed"]["kind"] == "configuration":
                    raise ConfigError(said["failed"]["text"].split("\n"))
                raise error_from_json(said["failed"])
        code = await self._process.wait()
        raise InternalError(f"child {self.number} of `serve` ended as it started ({_how(code)})")

    async def keep(self) -> None:
        """Wait for its end, start it again, and so on."""
        loop, tries = asyncio.get_running_loop(), 0
        while True:
            assert self._process is not None
            code = await self._process.wait()
            lived_s = loop.time() - self._began_s
            tries = 0 if lived_s >= LIVED_WELL_S else tries + 1
            rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2 ** max(0, min(tries, 10) - 1))
            (log.error if code else log.warning)(
                "a child ended", number=self.number, pid=self.pid, how=_how(code), again_in_s=rest_s
            )
            self._hang_up()
            self._supervisor.gone(self.number)
            await asyncio.sleep(rest_s)
            try:
                await self.start()
            except Exception as error:  # it is tried again: the others work, and the database may come back
                log.error("a child could not be started", number=self.number, error=str(error))
            else:
                log.info("a child was started again", number=self.number, pid=self.pid)

    async def end(self, patience_s: float) -> int:
        """Let it drain; its exit code. One that hangs is killed."""
        if self._process is None or self._process.returncode is not None:
            self._hang_up()
            return 0  # it died before, and that was told
        if self._link is not None:
            self._link.say({"stop": True})
        try:
            async with asyncio.timeout(patience_s):
                return await self._ended()
        except TimeoutError:
            log.error("a child did not stop and was killed", number=self.number, pid=self.pid)
            self.kill()
            await self._process.wait()
            return 1
        finally:
            self._hang_up()

    async def _ended(self) -> int:
        assert self._process is not None
        code = await self._process.wait()
        # Stopped before it listened for signals, when nothing had begun; or killed, which was asked for.
        return 0 if self._at_once or code in (-signal.SIGTERM, -signal.SIGINT) else code

    def end_at_once(self) -> None:
        """Without draining, even if it hangs. What was accepted is safe."""
        self._at_once = True
        if self._link is not None:
            self._link.say({"now": True})
        asyncio.get_running_loop().call_later(_AT_ONCE_S, self.kill)

    def kill(self) -> None:
        """If it still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
