"""URLs of hooks: where a customer of ours wants to hear of events. Read strictly, dialled much later.

An address is checked at once, in whatever way it is spelled; a name and a port when they are dialled, for
the name may resolve to something else then. A login in the URL is the receiver's secret and is parted from it
here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit

from postroom.transports.dial_rules import DialPrivate, NotAHost, Purpose, kind_of, may_dial, read_host

MOST_CHARACTERS = 2000
_PORTS = {"https": 443, "http": 80}
_LOGIN = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%-]*(?::[A-Za-z0-9._~!$&'()*+,;=:%-]*)?")
_SAFE = "!#$%&'()*+,/:;=?@[]~"


class NotAHook(ValueError):
    """Why it is no URL a hook can have; the text stands after a field's name."""


@dataclass(frozen=True)
class Hook:
    """`url` without its login; `login`: `user:password` as it is written in a URL, "" for none."""

    url: str
    login: str = field(default="", repr=False)

    def with_login(self, login: str) -> str:
        """The URL with a login in it."""
        if not login:
            return self.url
        scheme, rest = self.url.split("://", 1)
        return f"{scheme}://{login}@{rest}"


def read_hook(text: str, dial_private: DialPrivate) -> Hook:
    """An absolute http or https URL, its host in its one form. Raises NotAHook.

    dial_private: the setting: whether addresses of private networks may be named.
    """
    text = text.strip()
    if len(text) > MOST_CHARACTERS:
        raise NotAHook(f"is too long (maximum is {MOST_CHARACTERS} characters)")
    if any(char <= " " or char == "\x7f" or char == "\\" for char in text):
        raise NotAHook("is not a valid URL")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = read_host(f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname or "")
    except NotAHost:
        raise NotAHook("does not name a valid host") from None
    except ValueError:
        raise NotAHook("is not a valid URL") from None
    if parts.scheme not in _PORTS:
        raise NotAHook("must start with https:// or http://")
    if "#" in text:
        raise NotAHook("must not have a fragment")
    login, at, _ = parts.netloc.rpartition("@")
    if not _LOGIN.fullmatch(login) or (at and not login.partition(":")[0]):
        raise NotAHook("does not hold a valid login")
    if port == 0:
        raise NotAHook("does not name a valid port")
    named = f"[{host.compressed}]" if isinstance(host, IPv6Address) else str(host).lower()
    if isinstance(host, str):
        allowed = named.removesuffix(".") != "localhost" or dial_private is DialPrivate.ALL
    else:
        allowed = may_dial(kind_of(host), Purpose.HTTP, dial_private)
    if not allowed:
        raise NotAHook("names an address that is not allowed")
    try:
        path = quote(parts.path, safe=_SAFE)
        query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    except UnicodeEncodeError:  # a lone surrogate
        raise NotAHook("is not a valid URL") from None
    shown_port = "" if port in (None, _PORTS[parts.scheme]) else f":{port}"
    return Hook(f"{parts.scheme}://{named}{shown_port}{path}{query}", login)
