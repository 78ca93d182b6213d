"""Canaries: texts that stand for secrets, a peer that repeats what it hears, and the search for them."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from postroom.core.connection import SECRET_FIELDS


def planted(word: str) -> dict[str, str]:
    """A canary for each secret of a connection; `word` tells one set from another."""
    return {name: f"user{word}{n}k9w3z7tail" for n, name in enumerate(SECRET_FIELDS)}


def core_of(canary: str) -> str:
    """What no mask may show of a canary: a login name is shown by its first and last four letters."""
    return canary[4:-4]


def spellings(text: str) -> Iterator[tuple[str, bytes]]:
    """How a text may look in a file: as it is, in base64 wherever it begins, in hex, in UTF-16."""
    data = text.encode()
    yield "plain", data
    yield "hex", data.hex().encode()
    yield "UTF-16", text.encode("utf-16-le")
    for before in range(3):
        encoded = b64encode(b"\0" * before + data)
        # Without the characters that what stands before and behind it has a part in.
        yield "base64", encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]


def found(places: Iterable[tuple[str, bytes]], secrets: Mapping[str, str]) -> list[str]:
    """Where which secret stands, and how it is spelled."""
    wanted = [(name, how, text) for name, secret in secrets.items() for how, text in spellings(secret)]
    return [
        f"{name} in {place} ({how})" for place, data in places for name, how, text in wanted if text in data
    ]


def files_below(folder: Path, *, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder with its bytes."""
    left_out = set(but)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in left_out:
            yield str(path.relative_to(folder)), path.read_bytes()


@dataclass
class Echo:
    """An SMTP server that repeats the password it heard in AUTH, decoded and not, when it refuses the login.

    everywhere: in each later reply too, with the user name. takes: user names it takes. heard: all logins.
    """

    port: int
    everywhere: bool = False
    takes: set[str] = field(default_factory=set)
    heard: list[bytes] = field(default_factory=list)
    taken: int = 0
    signatures: int = 0  # of ours on what it took

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = b""
        writer.write(b"220 echo ESMTP\r\n")
        body = False
        while line := await reader.readline():
            word = line[:4].upper()
            if body:
                body = line != b".\r\n"
                self.signatures += line.startswith(b"DKIM-Signature: ")
                if not body:
                    self.taken += 1
                    writer.write(b"250 2.0.0 taken from " + talk + b"\r\n")
            elif word == b"EHLO":
                writer.write(b"250-echo\r\n250 AUTH PLAIN\r\n")
            elif word == b"AUTH":
                encoded = line.split()[2]
                plain = b64decode(encoded)
                self.heard.append(plain)
                _, user, password = plain.split(b"\0")
                said = b" ".join((password, b"or", encoded, b64encode(password)))
                talk = b" ".join((user, b"with", said)) if self.everywhere else b""
                if user.decode() in self.takes:
                    writer.write(b"235 2.7.0 hello " + talk + b"\r\n")
                else:
                    writer.write(b"535 5.7.8 not " + (talk or said) + b"\r\n")
            elif word == b"DATA":
                body = True
                writer.write(b"354 go on\r\n")
            elif word == b"QUIT":
                break
            elif b"bounce" in line:
                writer.write(b"550 5.1.1 nobody, says " + talk + b"\r\n")
            elif b"defer" in line:
                writer.write(b"451 4.7.1 later, says " + talk + b"\r\n")
            else:
                writer.write(b"250 2.1.0 fine, " + talk + b"\r\n")
        writer.close()


@asynccontextmanager
async def echo(*, everywhere: bool = False) -> AsyncIterator[Echo]:
    """An echoing server on a free port."""
    peer = Echo(0, everywhere)
    server = await asyncio.start_server(peer.session, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        await server.wait_closed()
