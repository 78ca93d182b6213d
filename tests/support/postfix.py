"""A real Postfix as the next hop, out of the packages that `scripts/test-tools` unpacked.

It runs with a configuration, queue and log of its own on a loopback address of its own, takes mail for
example.net and relays it to Postfix's own smtp-sink, which keeps a file of each message. What it does to a
recipient or a text is in `ACCESS`, `BODY_CHECKS` and the greylist, as on a real server. It needs root: the
master process takes on other users for its parts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import smtplib
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.tools import DEBIAN

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts as root only")
PATIENCE_S = 30.0
PORT, SINK_PORT = 2525, 2526  # nobody else is on that address
_PROGRAMS = DEBIAN / "usr/sbin"
_LIBRARIES = DEBIAN / "usr/lib/postfix"
_OWNER, _GROUP = "daemon", "mail"  # instead of the users an installation makes

ACCESS = {
    "gone@example.net": "550 5.1.1 User unknown",
    "blocked@example.net": "554 5.7.1 Blocked for local policy reasons",
    "full@example.net": "452 4.2.2 Over quota",
}
BODY_CHECKS = {"EICAR-STANDARD": "REJECT 5.7.1 Infected with a test virus"}
GREYLISTED = "DEFER_IF_PERMIT 4.7.1 Greylisted, see you later"

_MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
daemon_directory = {libraries}/sbin
command_directory = {programs}
shlib_directory = {libraries}
data_directory = {folder}/data
meta_directory = {folder}/conf
import_environment = LD_LIBRARY_PATH MAIL_CONFIG TZ=UTC LANG=C
export_environment = LD_LIBRARY_PATH TZ=UTC LANG=C
mail_owner = {owner}
setgid_group = {group}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = next.example.org
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
relay_domains = example.net
relayhost = [{address}]:{sink_port}
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access texthash:{folder}/conf/access,
    check_policy_service inet:127.0.0.1:{policy_port}, permit
body_checks = regexp:{folder}/conf/body
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/conf/tls.pem
smtpd_tls_received_header = yes
"""
_MASTER = """
{address}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """A running one."""

    address: str
    folder: Path
    port: int = PORT

    def arrived(self) -> list[tuple[str, str, bytes]]:
        """(Message-ID, recipient, whole dump) of every message that reached the end of its way."""
        found: list[tuple[str, str, bytes]] = []
        for file in sorted((self.folder / "sink").iterdir()):
            dump = file.read_bytes()
            message_id = re.search(rb"(?mi)^message-id: *(\S+)", dump)
            told = message_id[1].decode() if message_id else ""
            recipients = re.findall(rb"(?m)^X-Rcpt-Args: <([^>]*)>", dump)
            found += [(told, recipient.decode(), dump) for recipient in recipients]
        return found

    def is_idle(self) -> bool:
        """Whether everything it took has been passed on."""
        queues = ("maildrop", "incoming", "active", "deferred")
        # Deferred mail lies in folders below.
        walks = [os.walk(self.folder / "queue" / one) for one in queues]
        return not any(files for walk in walks for _, _, files in walk)

    def log(self) -> str:
        """What it wrote of itself."""
        return (self.folder / "log" / "mail.log").read_text()


class _Greylist(socketserver.ThreadingTCPServer):
    """Postfix's policy protocol: whoever begins with `grey` is to come back once."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Question)


class _Question(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        asked: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().rstrip("\n").partition("=")
            if name:
                asked[name] = value
                continue
            self.wfile.write(f"action={self._action(asked['recipient'])}\n\n".encode())
            asked.clear()

    def _action(self, recipient: str) -> str:
        assert isinstance(self.server, _Greylist)
        if not recipient.startswith("grey") or recipient in self.server.seen:
            return "DUNNO"
        self.server.seen.add(recipient)
        return GREYLISTED


@contextlib.contextmanager
def postfix(tls_pem: bytes, address: str) -> Iterator[Postfix]:
    """One that answers. tls_pem: private key and certificate for `address`, which is on loopback."""
    folder = Path(tempfile.mkdtemp(prefix="postfix-"))  # pytest's own folders are closed to other users
    greylist = _Greylist()
    threading.Thread(target=greylist.serve_forever, daemon=True).start()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        stack.callback(greylist.server_close)
        stack.callback(greylist.shutdown)
        _lay_out(folder, address, tls_pem, greylist.server_address[1])
        stack.enter_context(
            _running(
                _PROGRAMS / "smtp-sink",
                *("-u", _OWNER, "-d", f"{folder}/sink/%M.", f"{address}:{SINK_PORT}", "64"),
            )
        )
        stack.enter_context(_running(_LIBRARIES / "sbin" / "master", "-c", f"{folder}/conf", "-d"))
        found = Postfix(address, folder)
        _until_it_answers(found)
        yield found


def _lay_out(folder: Path, address: str, tls_pem: bytes, policy_port: int) -> None:
    folder.chmod(0o755)
    for name in ("conf", "data", "log", "queue", "queue/pid", "sink"):
        (folder / name).mkdir(mode=0o755)
    for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming"):
        _own(folder / "queue" / name, 0o700)
    for name in ("private", "saved", "trace"):
        _own(folder / "queue" / name, 0o700)
    _own(folder / "queue" / "maildrop", 0o730, _GROUP)
    _own(folder / "queue" / "public", 0o710, _GROUP)
    for name in ("data", "sink"):
        shutil.chown(folder / name, _OWNER)
    words = {
        "folder": folder,
        "libraries": _LIBRARIES,
        "programs": _PROGRAMS,
        "owner": _OWNER,
        "group": _GROUP,
        "address": address,
        "port": PORT,
        "sink_port": SINK_PORT,
        "policy_port": policy_port,
    }
    conf = folder / "conf"
    (conf / "main.cf").write_text(_MAIN.format(**words))
    (conf / "master.cf").write_text(_MASTER.format(**words))
    (conf / "access").write_text("".join(f"{who} {what}\n" for who, what in ACCESS.items()))
    (conf / "body").write_text("".join(f"/{text}/ {what}\n" for text, what in BODY_CHECKS.items()))
    (conf / "tls.pem").write_bytes(tls_pem)
    (conf / "tls.pem").chmod(0o600)


def _own(folder: Path, mode: int, group: str | None = None) -> None:
    folder.mkdir()
    shutil.chown(folder, _OWNER, group)
    folder.chmod(mode)


@contextlib.contextmanager
def _running(program: Path, *arguments: str) -> Iterator[None]:
    environment = {"LD_LIBRARY_PATH": str(_LIBRARIES), "PATH": os.environ["PATH"]}
    process = subprocess.Popen([program, *arguments], env=environment, start_new_session=True)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


def _until_it_answers(postfix: Postfix) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with smtplib.SMTP(postfix.address, postfix.port, timeout=PATIENCE_S):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
