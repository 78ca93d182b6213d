"""The outcome journal: what a deliver process did that its database does not know yet.

Outcomes are settled in batches, so between a peer's 250 and our commit a crash would make dozens of
second copies. Each deliver process therefore appends to one local file, plain write(2) without fsync:
the page cache outlives any SIGKILL.

    H instance worker epoch boot   first record of each file
    B attempt                      composing begins
    D attempt                      right before the final dot goes to the socket
    O attempt outcome              after its reply, before the same session writes another dot

After a crash: no `D` means it cannot have left, `D` and `O` tell what happened, `D` alone is unknown.
Each record carries its length and a CRC; a torn last record counts as absent. After a power loss the
file proves nothing (the boot id differs), so only its `O` records are believed. A file goes when all
its attempts are settled; a busy process starts a new one now and then so that old ones can go.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from postroom.ids import AttemptId, WorkerId
from postroom.logs import Trouble, logger
from postroom.transports.interface import Outcome

log = logger("engine")
_FRAME = struct.Struct("<HI")  # length of the payload, its CRC-32
_HEAD = struct.Struct("<cQ")  # kind, attempt
_MAX_PAYLOAD = 60_000
_ROTATE_BYTES = 8 << 20
_TRUNCATE_BYTES = 64 << 10
_encode = msgspec.msgpack.Encoder().encode
_decode_outcome = msgspec.msgpack.Decoder(Outcome).decode


class Header(msgspec.Struct, frozen=True):
    """Whose journal it is; one of another instance or epoch is never replayed."""

    instance: str
    worker_id: int
    epoch: int
    boot: str


_decode_header = msgspec.msgpack.Decoder(Header).decode


@dataclass(frozen=True)
class Replayed:
    """What a dead worker's journal says.

    `trusted`: absence of a `D` proves that nothing left (same boot, all files there).
    """

    trusted: bool
    begun: frozenset[AttemptId] = frozenset()
    dots: frozenset[AttemptId] = frozenset()
    outcomes: dict[AttemptId, Outcome] = field(default_factory=dict)


LOST = Replayed(trusted=False)


def boot_id() -> str:
    """Which boot of this machine it is; "" where the system does not say, and then nothing is trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass
class _Segment:
    path: Path
    fd: int
    size: int
    open: set[AttemptId]
    torn: bool = False  # a record stands in it by half: what came after that one would not be read


class Journal:
    """The journal of one living worker. Its methods are called from one thread."""

    def __init__(self, folder: Path, instance: str, worker_id: WorkerId, epoch: int, boot: str | None = None):
        """Make and lock the first file. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._header = Header(instance, worker_id, epoch, boot_id() if boot is None else boot)
        self._count = 0
        self.trouble = Trouble(log)
        self._segments: list[_Segment] = []
        self._current = self._start_segment()

    def begin(self, attempt: AttemptId) -> None:
        """Composing of this attempt begins. Raises OSError."""
        self._append(b"B", attempt)

    def dot(self, attempt: AttemptId) -> None:
        """Its final dot is about to be written. Raises OSError, and then the dot must not be written."""
        self._append(b"D", attempt)

    def outcome(self, attempt: AttemptId, outcome: Outcome) -> None:
        """It ended so. Raises OSError."""
        self._append(b"O", attempt, _encode(outcome))

    def settled(self, attempts: Iterable[AttemptId]) -> None:
        """These stand in the database now; files with nothing else in them go."""
        done = set(attempts)
        for segment in list(self._segments):
            segment.open -= done
            if segment.open:
                continue
            if segment is not self._current:
                self._drop(segment)
            elif segment.size > _TRUNCATE_BYTES:
                try:
                    self._current = self._start_segment()
                except OSError:  # the disk is full, perhaps: this one stays in use and goes later
                    continue
                self._drop(segment)

    @property
    def size_bytes(self) -> int:
        """Bytes in all its files."""
        return sum(segment.size for segment in self._segments)

    def close(self, *, remove: bool) -> None:
        """Unlock; `remove` when everything is settled, so that nothing is left to replay."""
        for segment in list(self._segments):
            if remove:
                self._drop(segment)
            else:
                os.close(segment.fd)
        self._segments.clear()

    def _append(self, kind: bytes, attempt: AttemptId, data: bytes = b"") -> None:
        if self._current.size > _ROTATE_BYTES or self._current.torn:
            self._current = self._start_segment()
        segment = self._current
        try:
            segment.size += _write(segment.fd, _HEAD.pack(kind, attempt) + data)
        except OSError:
            self._mend(segment)
            raise
        segment.open.add(attempt)

    @staticmethod
    def _mend(segment: _Segment) -> None:
        """Take away what a full disk took of a record, or write no more behind it."""
        try:
            os.ftruncate(segment.fd, segment.size)
        except OSError:
            segment.torn = True

    def _start_segment(self) -> _Segment:
        self._count += 1
        name = f"{self._header.worker_id}-{self._header.epoch}-{self._count}.journal"
        path = self._folder / name
        # It gets its name once it is locked: whoever finds a journal's lock free takes its worker for dead.
        unlocked = path.with_suffix(".new")
        fd = os.open(unlocked, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = _write(fd, _HEAD.pack(b"H", 0) + _encode(self._header))
            unlocked.rename(path)
            if self._count == 1:
                _sync(fd, self._folder)
        except OSError:
            os.close(fd)
            unlocked.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        segment = _Segment(path, fd, size, set())
        self._segments.append(segment)
        return segment

    def _drop(self, segment: _Segment) -> None:
        segment.path.unlink(missing_ok=True)
        os.close(segment.fd)
        self._segments.remove(segment)


def _write(fd: int, payload: bytes) -> int:
    record = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
    written = os.write(fd, record)
    if written != len(record):
        raise OSError(f"the outcome journal took {written} of {len(record)} bytes")
    return written


def _sync(fd: int, folder: Path) -> None:
    """A journal that vanished is told from one that never was: its first file outlives a power loss."""
    os.fsync(fd)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def replay(folder: Path, instance: str, worker_id: WorkerId, epoch: int, boot: str | None = None) -> Replayed:
    """What the dead worker's files say; LOST when there are none.

    Raises BlockingIOError when their worker is alive (it holds the lock).
    """
    contents = []
    for path in _files(folder, worker_id, epoch):
        with _opened(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            contents.append(file.read())
    return _told(contents, instance, worker_id, epoch, boot)


def peek(folder: Path, instance: str, worker_id: WorkerId, epoch: int, boot: str | None = None) -> Replayed:
    """The same of a worker whose lease is over, whether it has ended or hangs: it writes no dot any more,
    since it looks at its lease between the `D` and the dot."""
    contents = []
    for path in _files(folder, worker_id, epoch):
        try:
            contents.append(path.read_bytes())
        except FileNotFoundError:  # it is at work after all, and done with that file
            return LOST
    return _told(contents, instance, worker_id, epoch, boot)


def discard(folder: Path, worker_id: WorkerId, epoch: int) -> None:
    """Remove a dead worker's files, after what they say was committed."""
    for path in _files(folder, worker_id, epoch):
        path.unlink(missing_ok=True)


class Seized:
    """The files of a dead worker, locked by us, so that one alone replays them."""

    def __init__(self, worker_id: WorkerId, epoch: int, files: dict[Path, BinaryIO]) -> None:
        self.worker_id, self.epoch, self._files = worker_id, epoch, files

    def replay(self, instance: str, boot: str | None = None) -> Replayed | None:
        """What they say; None when they are another instance's."""
        contents = []
        for file in self._files.values():
            file.seek(0)
            contents.append(file.read())
        headers = [_header(data) for data in contents]
        if any(one is not None and one.instance != instance for one in headers):
            return None
        return _told(contents, instance, self.worker_id, self.epoch, boot)

    def discard(self) -> None:
        """Remove them, after what they say was committed."""
        for path in self._files:
            path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the lock up."""
        for file in self._files.values():
            file.close()
        self._files = {}


def workers_in(folder: Path) -> list[tuple[WorkerId, int]]:
    """Whose journals lie here, with their epochs; living ones included."""
    found = {tuple(path.stem.split("-")[:2]) for path in folder.glob("*-*-*.journal")}
    return sorted((WorkerId(int(worker)), int(epoch)) for worker, epoch in found)


def seize(folder: Path, worker_id: WorkerId, epoch: int) -> Seized | None:
    """Lock a dead worker's files; None when it is alive, or somebody else is at it. Raises OSError."""
    with ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}
        for path in _files(folder, worker_id, epoch):
            try:
                file = stack.enter_context(_opened(path))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, FileNotFoundError):
                return None
            files[path] = file
        # A living worker locks the next file before it lets go of the last: is there another now?
        if not files or _files(folder, worker_id, epoch) != list(files):
            return None
        stack.pop_all()
        return Seized(worker_id, epoch, files)


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")


def _files(folder: Path, worker_id: WorkerId, epoch: int) -> list[Path]:
    return sorted(folder.glob(f"{worker_id}-{epoch}-*.journal"), key=lambda p: int(p.stem.rsplit("-", 1)[1]))


def _header(data: bytes) -> Header | None:
    """None: torn at birth, so nothing was claimed under it."""
    head = next(_records(data), None)
    return None if head is None or head[0] != b"H" else _decode_header(head[2])


def _told(
    contents: Iterable[bytes], instance: str, worker_id: WorkerId, epoch: int, boot: str | None
) -> Replayed:
    boot = boot_id() if boot is None else boot
    trusted = False
    begun: set[AttemptId] = set()
    dots: set[AttemptId] = set()
    outcomes: dict[AttemptId, Outcome] = {}
    for data in contents:
        header = _header(data)
        if header is None or (header.instance, header.worker_id, header.epoch) != (
            instance,
            worker_id,
            epoch,
        ):
            continue
        trusted = bool(boot) and header.boot == boot
        for kind, attempt, rest in _records(data):
            if kind == b"B":
                begun.add(attempt)
            elif kind == b"D":
                dots.add(attempt)
            elif kind == b"O":
                outcomes[attempt] = _decode_outcome(rest)
    return Replayed(trusted, frozenset(begun), frozenset(dots), outcomes)


def _records(data: bytes) -> Iterator[tuple[bytes, AttemptId, bytes]]:
    """Whole records up to the first that is torn."""
    at = 0
    while at + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if not _HEAD.size <= length <= _MAX_PAYLOAD or len(payload) != length or zlib.crc32(payload) != crc:
            return
        kind, attempt = _HEAD.unpack_from(payload)
        yield kind, AttemptId(attempt), payload[_HEAD.size :]
        at += _FRAME.size + length
