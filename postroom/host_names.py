"""What this machine is called: in EHLO, in the report of a fault, and behind an @."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from urllib.parse import urlsplit

_HOST_NAME_S = 3.0
_HELO_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def full_host_name() -> str:
    """This host's name with its domain, or "" where it has none. Blocks for at most 3 seconds."""
    name = socket.gethostname()
    if "." not in name:
        found: list[str] = []
        # getfqdn asks DNS, which may hang; a daemon thread does not hold up the end of the process.
        asking = threading.Thread(target=lambda: found.append(socket.getfqdn(name)), daemon=True)
        asking.start()
        asking.join(_HOST_NAME_S)
        name = found[0] if found else ""
    name = name.rstrip(".").lower()
    return name if "." in name and not name.replace(".", "").isdigit() else ""


def helo_name() -> str:
    """What to call ourselves in EHLO: the full name, else the short one, else localhost."""
    for name in (full_host_name(), socket.gethostname()):
        if _HELO_NAME.fullmatch(name):
            return name
    return "localhost"


def mail_domain(url: str) -> str:
    """The host of a URL as it may stand behind an @; a literal for an IP address (RFC 5321 4.1.3)."""
    host = urlsplit(url).hostname or "localhost"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
