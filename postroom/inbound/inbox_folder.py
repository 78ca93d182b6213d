"""The folder of the test inbox: what `inbox` writes and the command line reads.

`<number>.eml` holds the exact bytes of a mail, `<number>.json` its envelope. The newest `keep` mails
stay; numbers only grow, also after the files are removed by hand. Reading needs no running server
and survives whatever somebody did to the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header
from pathlib import Path

from postroom.clock import to_datetime
from postroom.errors import Conflict, NotFound, Unavailable

_HEAD_BYTES = 64 * 1024
_SUBJECT_BYTES = 2000
_MAIL_NAME = re.compile(r"([1-9][0-9]{0,17})\.(?:eml|json)")


@dataclass(frozen=True)
class InboxMail:
    """One stored mail. `sender` is the envelope sender ("" for the null return path)."""

    number: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str
    size_bytes: int


def list_mails(folder: Path, limit: int = 50) -> list[InboxMail]:
    """The newest `limit` mails, newest first; [] if there is no such folder.

    A mail whose envelope file is missing or broken is listed without sender and recipients, with the
    time of its file; one that cannot be read at all is left out.
    """
    mails: list[InboxMail] = []
    for number in sorted(_numbers(folder, ".eml"), reverse=True):
        if len(mails) >= limit:
            break
        mail = _describe(folder, number)
        if mail is not None:
            mails.append(mail)
    return mails


def read_mail(folder: Path, number: int) -> bytes:
    """The mail exactly as it was received, dots unstuffed. Raises NotFound."""
    try:
        return (folder / f"{number}.eml").read_bytes()
    except OSError as error:
        raise NotFound("mail") from error


class InboxFolder:
    """The folder: numbers, durable writes, and forgetting the oldest. Called in threads."""

    def __init__(self, folder: Path, keep: int, fsync: bool) -> None:
        self._folder = folder
        self._keep = keep
        self._fsync = fsync
        self._lock = threading.Lock()
        self._guard = -1  # holds the folder's flock while open
        self._last = 0
        self._stored: deque[int] = deque()

    def open(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            guard = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"the inbox cannot use {self._folder}: {error.strerror}") from error
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(guard)
            raise Conflict(f"another inbox is using {self._folder}") from error
        for unfinished in self._folder.glob(".*.tmp"):
            unfinished.unlink(missing_ok=True)
        with_mail, with_envelope = _numbers(self._folder, ".eml"), _numbers(self._folder, ".json")
        for orphan in with_envelope - with_mail:
            self._remove(orphan)
        try:
            counted = int((self._folder / ".last").read_bytes())
        except (OSError, ValueError):
            counted = 0
        with self._lock:
            self._guard = guard
            self._stored = deque(sorted(with_mail))
            self._last = max(counted, *with_mail, *with_envelope, 0)
            self._forget()

    def close(self) -> None:
        with self._lock:
            if self._guard >= 0:
                os.close(self._guard)
                self._guard = -1

    def add(self, facts: dict[str, object], content: bytes | bytearray) -> int:
        """Store one mail, on disk when this returns; its number. Raises OSError and keeps nothing."""
        with self._lock:
            if self._guard < 0:
                raise OSError("the inbox is closed")
            self._last = number = self._last + 1
            # The mail comes last: whoever lists sees it only with its envelope beside it.
            try:
                self._write(".last", str(number).encode(), sync=False)
                self._write(f"{number}.json", json.dumps(facts).encode(), sync=self._fsync)
                self._write(f"{number}.eml", content, sync=self._fsync)
                if self._fsync:
                    folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        os.fsync(folder)
                    finally:
                        os.close(folder)
            except OSError:
                self._remove(number)
                raise
            self._stored.append(number)
            self._forget()
            return number

    def _write(self, name: str, data: bytes | bytearray, sync: bool) -> None:
        unfinished = self._folder / f".{name}.tmp"
        try:
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            unfinished.replace(self._folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise

    def _forget(self) -> None:
        while len(self._stored) > self._keep:
            self._remove(self._stored.popleft())

    def _remove(self, number: int) -> None:
        for name in (f"{number}.eml", f"{number}.json"):
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()


def _numbers(folder: Path, suffix: str) -> set[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return set()
    matches = (_MAIL_NAME.fullmatch(name) for name in names if name.endswith(suffix))
    return {int(found[1]) for found in matches if found}


def _describe(folder: Path, number: int) -> InboxMail | None:
    try:
        with (folder / f"{number}.eml").open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    sender = ""
    recipients: tuple[str, ...] = ()
    received_at = to_datetime(int(status.st_mtime * 1_000_000))
    try:
        facts = json.loads((folder / f"{number}.json").read_bytes())
        sender, recipients = str(facts["sender"]), tuple(map(str, facts["recipients"]))
        received_at = to_datetime(int(facts["received_at_us"]))
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        pass
    return InboxMail(number, received_at, sender, recipients, _subject(head), status.st_size)


def _subject(head: bytes) -> str:
    """The decoded Subject (RFC 2047) of a message's first bytes, fit to be shown on one line."""
    header = re.split(rb"(?:\A|\n)\r?\n", head, maxsplit=1)[0]
    found = re.search(rb"(?im)^subject:[ \t]*(.*(?:\n[ \t].*)*)", header)
    if found is None:
        return ""
    text = re.sub(rb"\r?\n(?=[ \t])", b"", found[1][:_SUBJECT_BYTES]).decode("utf-8", "replace")
    if text.isascii():
        with contextlib.suppress(LookupError, ValueError, HeaderParseError):
            text = "".join(
                part if isinstance(part, str) else part.decode(charset or "ascii", "replace")
                for part, charset in decode_header(text)
            )
    joiner = "\u200d"  # of emoji; everything else that does not print could reorder or hide text
    return "".join(char if char.isprintable() or char == joiner else " " for char in text).strip()
