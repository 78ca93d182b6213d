"""Postfix as a relay: mail in by SMTP, out by SMTP. As Debian ships it, and tuned as its own guides say."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from bench.peers.interface import SENDER, Fed, Load, NextHop
from bench.peers.programs import kill_all
from bench.sink import free_port, listening, tool
from tests.support.postgres_keeper import family

_MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
maillog_file =
alias_maps =
"""
# What TUNING_README and qmgr(8) name for many messages to one next hop.
TUNED = """
disable_dns_lookups = yes
smtp_destination_concurrency_limit = 50
initial_destination_concurrency = 50
smtp_connection_cache_destinations = [127.0.0.1]:{sink}
smtp_tls_connection_reuse = no
default_process_limit = 200
qmgr_message_active_limit = 100000
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_message_rate_limit = 0
anvil_rate_time_unit = 600s
smtputf8_enable = no
enable_long_queue_ids = no
"""
_MASTER = """
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
"""


class Postfix:
    """Implements `Peer`. Needs root: Postfix's master runs as root."""

    def __init__(self, name: str, extra: str = "") -> None:
        self.name, self._extra = name, extra
        self._port, self._config = 0, Path()

    async def start(self, folder: Path, sink: NextHop) -> None:
        """Write its configuration and start it."""
        if os.geteuid() != 0:
            raise SystemExit("Postfix runs as root only, and so does its benchmark")
        self._port = free_port()
        self._config = folder / "etc"
        for path in (self._config, folder / "queue", folder / "data"):
            path.mkdir(parents=True)
        for parent in (folder, *folder.parents):  # its daemons run as `postfix` and must get there
            if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        main = (_MAIN + self._extra).format(folder=folder, sink=sink.port)
        (self._config / "main.cf").write_text(main)
        (self._config / "master.cf").write_text(_MASTER.format(port=f"127.0.0.1:{self._port}"))
        await asyncio.to_thread(_own, folder / "data")
        await self._postfix("start")
        await listening(self._port)

    async def feed(self, load: Load) -> Fed:
        """smtp-source with as many sessions as connections, each kept open."""
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            tool("smtp-source"),
            "-d",
            *("-s", str(load.connections)),
            *("-m", str(load.messages)),
            *("-l", "10240"),
            *("-f", SENDER),
            *("-N", "-t", "ann@example.net"),
            f"127.0.0.1:{self._port}",
        )
        if await process.wait():
            raise SystemExit("smtp-source failed")
        return Fed(time.perf_counter() - began)

    async def stop(self) -> None:
        """Stop it at once."""
        await self._postfix("abort")

    async def kill(self) -> None:
        """SIGKILL its master and every daemon, which are its children."""
        master = int((self._config.parent / "queue" / "pid" / "master.pid").read_text())
        kill_all(family(master))
        while family(master)[1:] or Path(f"/proc/{master}").exists():
            await asyncio.sleep(0.01)

    async def again(self) -> None:
        """Start it once more."""
        await self._postfix("start")
        await listening(self._port)

    async def _postfix(self, what: str) -> None:
        process = await asyncio.create_subprocess_exec(
            tool("postfix"),
            *("-c", str(self._config)),
            what,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaint = await process.communicate()
        if process.returncode:
            raise SystemExit(f"postfix {what} failed: {complaint.decode(errors='replace')[-500:]}")


def _own(folder: Path) -> None:
    import pwd

    user = pwd.getpwnam("postfix")
    os.chown(folder, user.pw_uid, user.pw_gid)
