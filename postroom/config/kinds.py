"""How a setting's value is written and read: host:port, durations, sizes, URLs, networks and so on.

A `Kind` reads what a flag, the environment (text) or a TOML file (text, numbers, booleans, arrays) holds and
raises `Unfit` with a clause that follows the setting's name; its `show` writes what `read` reads back.
Durations are seconds; sizes are bytes and 1 KB is 1,024 of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from postroom.secret import Secret

T = TypeVar("T")
Word = TypeVar("Word", bound=str)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MOST_URL_CHARACTERS = 500  # with a token behind it, it has to fit a line of a header
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(s|m|h|d)?")
_SIZE = re.compile(r"([0-9]{1,15}) ?([KMG]B)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}
_FLAGS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


class Unfit(ValueError):
    """A value that does not fit its setting; the text follows the setting's name: "must be …"."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """`word` says it to people, `unit` is a bare number's. `read` raises Unfit; `show` is its inverse."""

    word: str
    unit: str
    read: Callable[[object], T]
    show: Callable[[T], str] = str


@dataclass(frozen=True)
class Endpoint:
    """Where to listen: a host name or IP address, and a port (0: the system picks one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def count(unit: str, low: int, high: int) -> Kind[int]:
    """Whole numbers from low to high."""

    def read(raw: object) -> int:
        text = _number(raw)
        if not re.fullmatch("[0-9]{1,15}", text) or not low <= int(text) <= high:
            raise Unfit(f"must be a whole number from {low} to {high}, not {text[:40]!r}")
        return int(text)

    return Kind(f"number, {low} to {high}", unit, read)


def maybe_count(unit: str, low: int, high: int) -> Kind[int | None]:
    """Whole numbers, or empty."""
    inner = count(unit, low, high)
    return Kind(
        f"{inner.word}, or empty",
        unit,
        lambda raw: None if raw == "" else inner.read(raw),
        lambda value: "" if value is None else str(value),
    )


def duration(low: str, high: str) -> Kind[float]:
    """Seconds, written 30, 0.5, 30s, 5m, 24h or 30d."""

    def read(raw: object) -> float:
        seconds = _seconds(_number(raw))
        if not _seconds(low) <= seconds <= _seconds(high):
            raise Unfit(f"must be from {low} to {high}, not {_number(raw)[:40]!r}")
        return seconds

    return Kind(f"duration, {low} to {high}", "s", read, show_duration)


def size(low: str, high: str) -> Kind[int]:
    """Bytes, written 102400, 100KB, 25MB or 1GB."""

    def read(raw: object) -> int:
        found = _bytes(_number(raw))
        if not _bytes(low) <= found <= _bytes(high):
            raise Unfit(f"must be from {low} to {high}, not {_number(raw)[:40]!r}")
        return found

    return Kind(f"size, {low} to {high}", "bytes", read, show_size)


def choice(*words: Word) -> Kind[Word]:
    """One of these words."""

    def read(raw: object) -> Word:
        for word in words:
            if isinstance(raw, str) and raw.strip().lower() == word:
                return word
        raise Unfit(f"must be one of {', '.join(words)}, not {str(raw)[:40]!r}")

    return Kind("one of " + ", ".join(words), "", read)


def show_duration(seconds: float) -> str:
    """The shortest usual way to write it: 30s, 5m, 24h, 30d."""
    for word, least in (("d", 2 * 86400), ("h", 3600), ("m", 60)):
        if seconds >= least and seconds % _SECONDS[word] == 0:
            return f"{seconds / _SECONDS[word]:.0f}{word}"
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"


def show_size(size_bytes: int) -> str:
    """In the largest unit that divides it: 25MB, 100KB, 1000."""
    for word in ("GB", "MB", "KB"):
        if size_bytes and size_bytes % _BYTES[word] == 0:
            return f"{size_bytes // _BYTES[word]}{word}"
    return str(size_bytes)


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise Unfit("must be a text")
    return raw.strip()


def _number(raw: object) -> str:
    """A number as text: a TOML file may write it either way. A boolean is none, whatever Python says."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise Unfit("must be a number or a text")
    return str(raw).strip()


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if not found:
        raise Unfit(f"must be a duration like 30, 30s, 5m, 24h or 30d, not {text[:40]!r}")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.upper())
    if not found:
        raise Unfit(f"must be a size like 102400, 100KB or 25MB, not {text[:40]!r}")
    return int(found[1]) * _BYTES.get(found[2], 1)


def _path(raw: object) -> Path:
    text = _text(raw)
    if not text or "\0" in text:
        raise Unfit("must be a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise Unfit(f"names a home folder nobody has: {text[:80]!r}") from None


def _maybe_file(raw: object) -> Path | None:
    if _text(raw) == "":
        return None
    path = _path(raw)
    if not path.is_file():
        raise Unfit(f"names {path}, which is not a file")
    return path


def _flag(raw: object) -> bool:
    found = (
        raw if isinstance(raw, bool) else _FLAGS.get(raw.strip().lower()) if isinstance(raw, str) else None
    )
    if found is None:
        raise Unfit("must be true or false")
    return found


def _endpoint(raw: object) -> Endpoint:
    text = _text(raw)
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        _is_listening_host(bare, bracketed=bare != host)
        and re.fullmatch("[0-9]{1,5}", port)
        and int(port) < 65536
    ):
        return Endpoint(bare, int(port))
    raise Unfit(f"must be host:port, such as 127.0.0.1:8080 or [::1]:8080, not {text[:80]!r}")


def _is_listening_host(host: str, bracketed: bool) -> bool:
    try:
        return ipaddress.ip_address(host).version == (6 if bracketed else 4)
    except ValueError:
        return not bracketed and _is_name(host)


def _is_name(host: str) -> bool:
    """Host name syntax (RFC 1123 2.1); all digits and dots is a broken address, not a name."""
    return _HOST.fullmatch(host) is not None and not host.replace(".", "").isdigit()


def _maybe_endpoint(raw: object) -> Endpoint | None:
    return None if _text(raw) == "" else _endpoint(raw)


def _url(raw: object) -> str:
    text = _text(raw).rstrip("/")
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if text and (not fits or not text.isascii() or re.search(r"[@?#\\\s\x00-\x1f\x7f<>\"'`{}|^]", text)):
        raise Unfit("must be like https://mail.example.com: http or https, without login, query or fragment")
    if len(text) > _MOST_URL_CHARACTERS:
        raise Unfit(f"is longer than {_MOST_URL_CHARACTERS} characters")
    return text


def _database(raw: object) -> str:
    """As libpq takes it: https://www.postgresql.org/docs/current/libpq-connect.html, "Connection URIs"."""
    text = _text(raw)
    if text and not re.fullmatch(r"postgres(ql)?://[^\s\x00-\x1f\x7f]*", text):
        raise Unfit("must be like postgresql://user:password@host:5432/name")
    if len(text) > _MOST_URL_CHARACTERS:
        raise Unfit(f"is longer than {_MOST_URL_CHARACTERS} characters")
    return text


def _host_name(raw: object) -> str:
    text = _text(raw)
    if text.startswith("[") and text.endswith("]"):  # RFC 5321 4.1.3
        try:
            ipaddress.ip_address(text[1:-1].removeprefix("IPv6:"))
        except ValueError:
            pass
        else:
            return text
    if text and not _is_name(text):
        raise Unfit(f"must be a host name or an address literal like [192.0.2.1], not {text[:80]!r}")
    return text


def _roles(raw: object) -> tuple[str, ...]:
    words = raw if isinstance(raw, list) else re.split(r"[\s,]+", _text(raw))
    given = {str(word).lower() for word in words if word != ""}
    if unknown := sorted(given - set(ROLES)):
        raise Unfit(f"must list some of {', '.join(ROLES)}, not {', '.join(unknown)[:80]!r}")
    return tuple(role for role in ROLES if role in given)


def _networks(raw: object) -> tuple[Network, ...]:
    words = raw if isinstance(raw, list) else re.split(r"[\s,]+", _text(raw))
    try:
        return tuple(ipaddress.ip_network(_text(word)) for word in words if word != "")
    except ValueError:
        raise Unfit(
            "must list addresses or networks like 10.0.0.0/8, without bits behind the mask, not "
            f"{', '.join(map(str, words))[:80]!r}"
        ) from None


ROLES = ("http", "smtp", "deliver", "inbound", "housekeeping")
PATH = Kind("path", "", _path)
MAYBE_FILE = Kind("path, or empty", "", _maybe_file, lambda path: str(path or ""))
ENDPOINT = Kind("host:port", "", _endpoint)
MAYBE_ENDPOINT = Kind("host:port, or empty", "", _maybe_endpoint, lambda endpoint: str(endpoint or ""))
URL = Kind("URL, or empty", "", _url)
HOST_NAME = Kind("host name, or empty", "", _host_name)
NETWORKS = Kind("list of networks", "", _networks, lambda networks: ", ".join(map(str, networks)))
SOME_ROLES = Kind("list of roles, or empty", "", _roles, ", ".join)
FLAG = Kind("true or false", "", _flag, lambda flag: "true" if flag else "false")
DATABASE = Kind("postgresql URL, or empty", "", lambda raw: Secret(_database(raw)))
SECRET = Kind("secret, or empty", "", lambda raw: Secret(_text(raw)))
