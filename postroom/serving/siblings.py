"""The other processes of a data folder on this machine: each listens in DATA/processes, and asks the others.

Whatever process is asked for metrics or status answers for all of them. Counters must not fall when a process
dies, or Prometheus takes the whole sum for new; so before a process tells its counts it writes them beside
its socket, and they stay counted when it is gone, until nobody of the folder runs any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postroom import logs
from postroom.control.address import ControlSocket, clear_socket, socket_path
from postroom.control.client import NotListening, call
from postroom.control.server import ControlServer
from postroom.errors import NotFound, PostroomError

PROCESSES_NAME = "processes"
ANSWER_S = 2.0
_GONE = "gone"
_MOST_GONE = 20  # files of processes that ended, before they are added up
_MOST_NAMES = 500

log = logs.logger("serve")

Answer = Callable[..., Awaitable[object]]


@dataclass(frozen=True)
class Answers:
    """told: by the name of the process. silent: that run and did not answer in time."""

    told: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    silent: frozenset[str] = frozenset()


class Siblings:
    """This process among the others. answers: what it can be asked for."""

    def __init__(self, data: Path, answers: Mapping[str, Answer]) -> None:
        self._folder, self._answers = data / PROCESSES_NAME, answers
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._server: ControlServer | None = None

    async def start(self) -> None:
        """Be there for the others. Raises Unavailable."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with self._one_at_a_time():
            if not any([await self._lives(name) for name in self._names(".sock", ".path")]):
                for left in self._folder.glob("*.counts"):
                    left.unlink(missing_ok=True)
            self._server = ControlServer(self._run, ControlSocket.bind(self._folder, self.name))
            await self._server.start()

    async def stop(self) -> None:
        """Be gone; what was counted stays."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    async def ask(self, what: str, **args: object) -> Answers:
        """Every other process at once. A dead one's socket is removed."""
        names = [name for name in self._names(".sock", ".path") if name != self.name]
        found = await asyncio.gather(*(self._ask(name, what, args) for name in names))
        pairs = list(zip(names, found, strict=True))
        told = {name: one for name, one in pairs if one is not None and one is not _SILENT}
        return Answers(told, frozenset(name for name, one in pairs if one is _SILENT))

    def keep(self, counts: object) -> None:
        """Write down what this process counted so far, before anybody is told."""
        self._write(self.name, counts)

    def kept(self, without: Iterable[str]) -> list[Any]:
        """What all processes counted that are not named, by their own last word."""
        skipped = {*without, self.name, _GONE}
        found = {name: self._read(name) for name in self._names(".counts") if name not in skipped}
        # Read last: what somebody added up meanwhile is in here, and then not counted twice.
        gone = self._gone()
        mine = [one for name, one in found.items() if one is not None and name not in gone["names"]]
        return [*gone["counts"], *mine]

    def forget(self, add_up: Callable[[list[Any]], Any], living: frozenset[str]) -> None:
        """Where many have ended, put what they counted into one file. living: who has not."""
        ended = [name for name in self._names(".counts") if name not in {*living, self.name, _GONE}]
        if len(ended) <= _MOST_GONE:
            return
        with contextlib.suppress(OSError), self._one_at_a_time():
            total = add_up(self.kept(living))
            names = [*self._gone()["names"], *ended][-_MOST_NAMES:]
            self._write(_GONE, {"names": names, "counts": [total]})  # before any of them is removed
            for name in ended:
                (self._folder / f"{name}.counts").unlink(missing_ok=True)

    async def _run(self, what: str, args: Mapping[str, Any], _source: str) -> object:
        answer = self._answers.get(what)
        if answer is None:
            raise NotFound(f"operation {what[:60]}")
        return await answer(**args)

    async def _ask(self, name: str, what: str, args: Mapping[str, object]) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await call(socket_path(self._folder, name), what, args)
        except NotListening as error:
            if not _is_dead(error):
                return _SILENT
            clear_socket(self._folder, name)
            return None
        except (TimeoutError, PostroomError) as error:
            log.warning("a process of this machine did not answer", process=name, error=repr(error))
            return _SILENT

    async def _lives(self, name: str) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(socket_path(self._folder, name)))
        except OSError as error:
            return not isinstance(error, ConnectionRefusedError | FileNotFoundError)
        writer.close()
        return True

    def _names(self, *suffixes: str) -> list[str]:
        found = {path.stem for path in self._folder.glob("*") if path.suffix in suffixes}
        return sorted(found)

    def _gone(self) -> Any:
        return self._read(_GONE) or {"names": [], "counts": []}

    def _read(self, name: str) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self._folder / f"{name}.counts").read_bytes())
        return None

    def _write(self, name: str, document: object) -> None:
        path = self._folder / f"{name}.counts"
        beside = path.with_suffix(".new")
        try:
            beside.write_text(json.dumps(document))
            beside.replace(path)
        except OSError as error:
            log.warning("counts cannot be kept", error=error.strerror)

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


_SILENT = object()


def _is_dead(error: NotListening) -> bool:
    return isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
