"""URLs of vendors' APIs: read strictly, into what a connection and a request need (RFC 3986, 9110)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from postroom.transports.dial_rules import NotAHost, read_host

MOST_CHARACTERS = 2000
_PORTS = {"https": 443, "http": 80}
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*")


class NotAUrl(ValueError):
    """Why it is no URL of an API; the text stands after a field's name."""


@dataclass(frozen=True)
class Url:
    """Where an API is. `path`: what comes before its calls, without a slash at its end."""

    secure: bool
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """What the Host header says."""
        name = self.host.removesuffix(".")
        if ":" in name:
            name = f"[{name}]"
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def scheme(self) -> str:
        """As it is written."""
        return "https" if self.secure else "http"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_url(text: str) -> Url:
    """An absolute http or https URL without user name, query and fragment. Raises NotAUrl."""
    if len(text) > MOST_CHARACTERS:
        raise NotAUrl(f"is too long (maximum is {MOST_CHARACTERS} characters)")
    if not text.isascii() or any(char <= " " or char == "\x7f" for char in text):
        raise NotAUrl("is not a valid URL")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise NotAUrl("is not a valid URL") from None
    if parts.scheme not in _PORTS:
        raise NotAUrl("must start with https:// or http://")
    if "@" in parts.netloc:
        raise NotAUrl("must not hold a user name or password")
    if "?" in text or "#" in text:
        raise NotAUrl("must not have a query or fragment")
    try:
        host = read_host(f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname or "")
    except NotAHost:
        raise NotAUrl("does not name a valid host") from None
    if not _PATH.fullmatch(parts.path):
        raise NotAUrl("is not a valid URL")
    if port == 0:
        raise NotAUrl("does not name a valid port")
    named = host.compressed if isinstance(host, IPv6Address) else str(host)
    return Url(parts.scheme == "https", named, port or _PORTS[parts.scheme], parts.path.rstrip("/"))
