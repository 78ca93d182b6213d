"""A real pgbouncer in transaction mode, out of the package that `scripts/test-tools` unpacked.

It keeps few sessions of the server and hands out another one for each transaction, so whatever a client
leaves in a session is met by somebody else at once. It refuses to be run by root: root runs it as `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.tools import DEBIAN

SESSIONS = 4
PATIENCE_S = 10.0

_SETTINGS = """
[databases]
{name} = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
server_round_robin = 1
max_client_conn = 200
"""


@contextlib.contextmanager
def pgbouncer(direct: str, sessions: int = SESSIONS) -> Iterator[str]:
    """The URL by which `direct`, the URL of a database, is reached through one. sessions: of the server."""
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    runner = _runner(folder)
    folder.chmod(0o755)
    # Copied, since where the package lies may be closed to other users.
    program = Path(shutil.copy(DEBIAN / "usr/sbin/pgbouncer", folder))
    for library in DEBIAN.glob("usr/lib/*/lib*.so.*"):
        shutil.copy(library, folder)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    name = urlsplit(direct).path.lstrip("/")
    told = _SETTINGS.format(name=name, server=_server(direct), port=port, sessions=sessions)
    (folder / "pgbouncer.ini").write_text(told)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, folder / "pgbouncer.ini"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"LD_LIBRARY_PATH": str(folder)},
            **runner,
        )
    try:
        _until_it_answers(process, port, folder / "log")
        yield f"postgresql://somebody@127.0.0.1:{port}/{name}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
        shutil.rmtree(folder)


def _server(direct: str) -> str:
    """How it reaches the server, in its own words."""
    url = urlsplit(direct)
    asked = parse_qs(url.query)
    words = {
        "host": url.hostname or asked.get("host", [""])[0],
        "port": str(url.port or ""),
        "dbname": url.path.lstrip("/"),
        "user": url.username or asked.get("user", [""])[0],
        "password": url.password or "",
    }
    return " ".join(f"{name}='{value}'" for name, value in words.items() if value)


def _runner(folder: Path) -> dict[str, Any]:  # Any: arguments of Popen, each of another type
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer did not start: {log.read_text()}") from None
            time.sleep(0.01)
        else:
            return
