"""What a `ScriptedServer` can be told to do: stages, actions, and short names for the usual ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Where a script can act."""

    CONNECT = "connect"  # before the banner; only hang, drop, reset do anything
    BANNER = "banner"
    EHLO = "ehlo"
    HELO = "helo"
    STARTTLS = "starttls"
    HANDSHAKE = "handshake"  # after "220 ready", or at once with implicit TLS
    EHLO2 = "ehlo2"  # after STARTTLS
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    MID_BODY = "mid_body"  # after the first bytes of the body, before its end is read
    AFTER_DOT = "after_dot"
    RSET = "rset"
    QUIT = "quit"


class Kind(StrEnum):
    """What an action does."""

    OK = "ok"
    SEND = "send"  # these bytes instead of the usual reply
    HANG = "hang"  # nothing more, until the client goes
    DROP = "drop"  # close
    RESET = "reset"  # close with a TCP reset


@dataclass(frozen=True)
class Action:
    """One thing to do. `pieces` are sent one by one, each flushed and given time to arrive alone."""

    kind: Kind
    pieces: tuple[bytes, ...] = ()
    then: Kind = Kind.OK  # OK: the conversation goes on after the bytes


def ok() -> Action:
    """Work as a server should."""
    return Action(Kind.OK)


def hang() -> Action:
    """Say nothing more; in mid-body, read nothing more either."""
    return Action(Kind.HANG)


def drop() -> Action:
    """Close the connection."""
    return Action(Kind.DROP)


def reset() -> Action:
    """Close it with a TCP reset."""
    return Action(Kind.RESET)


def reply(*lines: str, then: Kind = Kind.OK) -> Action:
    """These reply lines, codes included: reply("250-a", "250 b")."""
    return Action(Kind.SEND, ("".join(f"{line}\r\n" for line in lines).encode("utf-8"),), then)


def send(*pieces: bytes, then: Kind = Kind.OK) -> Action:
    """These bytes, each piece in a packet of its own."""
    return Action(Kind.SEND, pieces, then)


def split(line: str) -> Action:
    """A reply line that arrives byte by byte."""
    data = f"{line}\r\n".encode()
    return Action(Kind.SEND, tuple(data[i : i + 1] for i in range(len(data))))


def garbage() -> Action:
    """Bytes that are no SMTP."""
    return send(b"\x00\xff\x16\x03\x01 what is this?\r\n")


def long_line(size: int = 1_000_000, code: str = "250") -> Action:
    """A reply line of `size` bytes."""
    return send(code.encode() + b" " + b"x" * (size - 6) + b"\r\n")


def endless(code: str = "250") -> Action:
    """A multi-line reply that goes on and on."""
    return send(*(f"{code}-line {n}\r\n".encode() * 50 for n in range(40)), then=Kind.HANG)


Script = Mapping[Stage, Action | Sequence[Action]]
