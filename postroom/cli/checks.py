"""What `postroom doctor` looks at. Each check says how bad it is in one sentence; none changes data."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from postroom.config import Endpoint, Settings
from postroom.control.lock import Locked
from postroom.folder import DATABASE_NAME, JOURNALS_NAME, KEY_RING_NAME
from postroom.keyring import KeyRing, KeyringError
from postroom.secret import Secret
from postroom.serving.listeners import ANY, LISTENERS

LEAST_PYTHON = (3, 11)
_LOW_DISK_BYTES = 1 << 30
_NO_DISK_BYTES = 100 << 20
_CLOCK_SLACK_S = 60.0
_OLDEST_S = 1_735_689_600  # 2025-01-01: before this version was written
_DURABLE = (2, 3)  # PRAGMA synchronous: FULL, EXTRA


class Level(IntEnum):
    """How bad it is; the command's exit code is the worst."""

    OK = 0
    WARNING = 1
    BROKEN = 2


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    level: Level
    text: str


def outside(settings: Settings, holder: Locked | None) -> Iterator[Check]:
    """What can be seen without opening the data: Python, folder, key file, disk, clock, journals, ports."""
    yield python()
    folder = settings.data
    if not folder.exists():
        yield Check(
            "data folder", Level.WARNING, f"{folder} is not there yet; `serve` or `bootstrap` makes it"
        )
    else:
        yield from data_folder(folder, settings.key_ring)
        yield lock(holder)
        yield disk(folder)
        yield clock(folder, time.time())
        yield journals(folder / JOURNALS_NAME)
    if holder is None:
        for name, role in LISTENERS.items():
            endpoint: Endpoint | None = getattr(settings, name)
            if endpoint is not None and role in (ANY, *settings.roles):
                yield port(name, endpoint)


def python() -> Check:
    """Whether this Python is new enough."""
    level = Level.OK if sys.version_info >= LEAST_PYTHON else Level.BROKEN
    return Check("python", level, f"{sys.version.split()[0]}, 3.11 or newer is needed")


def data_folder(folder: Path, given: Secret) -> Iterator[Check]:
    """Whether the folder is ours alone, and the key file fits the database."""
    found = folder.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield Check("data folder", Level.BROKEN, f"{folder} is not a folder")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Check("data folder", Level.BROKEN, f"{folder} cannot be written by this user")
    elif mode & 0o077:
        yield Check(
            "data folder",
            Level.WARNING,
            f"{folder} has mode {mode:04o}; others may look in: chmod 700 {folder}",
        )
    else:
        yield Check("data folder", Level.OK, f"{folder}, mode {mode:04o}")
    database, ring = folder / DATABASE_NAME, folder / KEY_RING_NAME
    if given:
        yield key_ring(given)
        return
    if not database.exists() and not ring.exists():
        yield Check("key file", Level.WARNING, "there is none yet; `serve` or `bootstrap` makes it")
        return
    try:
        keys = KeyRing.load(ring)
    except KeyringError as error:
        yield Check("key file", Level.BROKEN, str(error))
    else:
        yield Check("key file", Level.OK, f"{ring}, mode 0600, sealing with key {keys.active_id}")
    if database.exists():
        yield quick_check(database)


def key_ring(given: Secret) -> Check:
    """Whether the keys of the setting can be read."""
    try:
        keys = KeyRing.given(given.reveal(), "POSTROOM_KEY_RING")
    except KeyringError as error:
        return Check("key file", Level.BROKEN, str(error))
    return Check("key file", Level.OK, f"given by key_ring, sealing with key {keys.active_id}")


def quick_check(database: Path) -> Check:
    """Whether SQLite finds the file whole; read-only, beside a running `serve`."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(database.absolute()))}?mode=ro", uri=True)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Check("database", Level.BROKEN, f"{database} cannot be read: {error}")
    if found != ["ok"]:
        return Check("database", Level.BROKEN, f"{database} is damaged: {'; '.join(found)}")
    size = database.stat().st_size
    return Check("database", Level.OK, f"{database} is whole, {size:,} bytes")


def lock(holder: Locked | None) -> Check:
    """Who uses the folder now; a running `serve` is as it should be."""
    if holder is None:
        return Check("lock", Level.OK, "free; no `serve` is running")
    return Check("lock", Level.OK, f"held by process {holder.pid} ({holder.role})")


def disk(folder: Path) -> Check:
    """Room for mail that is accepted and waits."""
    free = shutil.disk_usage(folder).free
    level = Level.OK
    if free < _LOW_DISK_BYTES:
        level = Level.BROKEN if free < _NO_DISK_BYTES else Level.WARNING
    return Check("disk", level, f"{free / (1 << 30):.1f} GB free for {folder}")


def clock(folder: Path, now_s: float) -> Check:
    """Whether the clock can be right: caps, schedules and signatures hang on it."""
    if now_s < _OLDEST_S:
        return Check("clock", Level.BROKEN, f"it shows {time.strftime('%Y-%m-%d', time.gmtime(now_s))}")
    newest = max((one.stat().st_mtime for one in folder.glob(f"{DATABASE_NAME}*")), default=0.0)
    if newest > now_s + _CLOCK_SLACK_S:
        return Check("clock", Level.WARNING, f"it is {newest - now_s:.0f} s behind the database's last write")
    return Check("clock", Level.OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)))


def journals(folder: Path) -> Check:
    """The outcome journals: one of a running `serve`, or one that the next start replays."""
    if not folder.exists():
        return Check("journals", Level.OK, f"{folder} is not there yet")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Check("journals", Level.BROKEN, f"{folder} cannot be written by this user")
    return Check("journals", Level.OK, f"{folder} can be written")


def port(name: str, endpoint: Endpoint) -> Check:
    """Whether `serve` could listen there now."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint.host, endpoint.port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return Check(f"port {name}", Level.WARNING, f"{endpoint} cannot be listened on: {reason}")
    return Check(f"port {name}", Level.OK, f"{endpoint} is free")


def mail_links(public_url: str, *, to_others: bool) -> Check:
    """Whether what bulk mail links to can be reached. to_others: some of it leaves this machine."""
    if public_url.startswith("https://"):
        return Check("links in mail", Level.OK, f"lead to {public_url}")
    level = Level.WARNING if to_others else Level.OK
    if not public_url:
        text = "public_url is not set: unsubscribe links lead to the address of `http` and work only here"
    else:
        text = f"lead to {public_url}, which is not https: mailbox providers offer no one-click unsubscribing"
    return Check("links in mail", level, text)


def ways_out(servers: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Whether each server's mail has a connection that is on; a sandbox needs none."""
    for one in servers:
        name = f"server {one['server_id']}"
        if one["waits"]:
            kinds = " and ".join(one["waits"])
            text = f"{kinds} mail waits and no connection that may carry it is on"
            yield Check(name, Level.WARNING, f"{text}; see `connection list`")
        elif one["sandbox"]:
            yield Check(name, Level.OK, "is a sandbox: its mail is captured")
        elif not one["connections"]:
            yield Check(name, Level.WARNING, "has no connection, so nothing is sent; see `connection create`")
        elif not one["on"]:
            yield Check(name, Level.WARNING, "has no connection that is on; see `connection list`")


def inside(health: Mapping[str, Any]) -> Iterator[Check]:
    """What the process that holds the data says of itself."""
    database = health["database"]
    if database["kind"] == "sqlite":
        durable = database["synchronous"] in _DURABLE and database["journal_mode"] == "wal"
        yield Check(
            "durability",
            Level.OK if durable else Level.BROKEN,
            f"journal_mode {database['journal_mode']}, synchronous {database['synchronous']}"
            + ("" if durable else ": a power cut may lose accepted mail"),
        )
    for role, address in health["listening"].items():
        yield Check(f"port {role}", Level.OK, f"`serve` listens on {address}")
    yield mail_links(health["public_url"], to_others=health["bulk_mail_to_others"])
    for one in health["failed_connections"]:
        yield Check(
            f"connection {one['connection_id']}",
            Level.WARNING,
            f"{one['label']} failed at {one['failed_at']}: {one['failed_reason']}",
        )
    if not health["failed_connections"]:
        yield Check("connections", Level.OK, "none has failed")
    for one in health["troubles"]:
        if one["kind"] != "connection_failed":  # told above
            yield Check(one["about"], Level.WARNING, f"since {one['began_at']}: {one['text']}")
    for one in health["pauses"]:
        said = f": {one['reason']}" if one["reason"] else ""
        text = f"paused by {one['by']} at {one['since']}{said}; see `queue resume`"
        yield Check(one["what"], Level.WARNING, text)
    yield from ways_out(health["ways_out"])
    for one in health["default_senders"]:
        sender = one["default_sender"]
        if sender is None:
            text, level = "has no default sender; each message must name its From", Level.OK
        elif one["proven"]:
            text, level = f"sends as {sender}", Level.OK
        else:
            text, level = (
                f"cannot send as {sender}: nobody vouches for it; see `identity trust`",
                Level.WARNING,
            )
        yield Check(f"server {one['server_id']}", level, text)
