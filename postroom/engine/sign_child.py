"""The process that makes RSA signatures: `python -m postroom.engine.sign_child DESCRIPTOR`.

Started by `engine.sign_process` only, which it hears over the descriptor: a header of `HEADER`, then as many
bytes as it says. KEY: a private key (PKCS #8, DER) and its number. SIGN: a SHA-256 digest for the key of that
number. FORGET: all keys. It answers in the order it was asked: an empty signature once it is ready, then one
for each SIGN, its length in four bytes before it; empty where there is none.

It ends when nobody hears it any more, and by no signal that is meant for all: who asks it has mail to send.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
from contextlib import suppress

from postroom.mail.dkim import signature_of
from postroom.mail.dkim_keys import PrivateKey, from_stored

HEADER = struct.Struct(">BIH")  # what, number of the key, bytes that follow
LENGTH = struct.Struct(">I")
KEY, SIGN, FORGET = 1, 2, 3
_AT_ONCE = 4  # signatures that go back together; more would let those who wait for the first ones wait longer
_READ_BYTES = 64 << 10


def live(link: socket.socket) -> None:
    """Sign until the other side is gone."""
    keys: dict[int, PrivateKey] = {}
    link.sendall(LENGTH.pack(0))
    heard = b""
    while more := link.recv(_READ_BYTES):
        heard += more
        at, signed, said = 0, 0, b""
        while len(heard) - at >= HEADER.size:
            what, number, size = HEADER.unpack_from(heard, at)
            end = at + HEADER.size + size
            if len(heard) < end:
                break
            given, at = heard[at + HEADER.size : end], end
            if what == KEY:
                keys[number] = from_stored(given)
            elif what == FORGET:
                keys.clear()
            else:
                signature = _signature(keys.get(number), given)
                said += LENGTH.pack(len(signature)) + signature
                signed += 1
                if signed % _AT_ONCE == 0:
                    link.sendall(said)
                    said = b""
        link.sendall(said)
        heard = heard[at:]


def _signature(key: PrivateKey | None, digest: bytes) -> bytes:
    try:
        return b"" if key is None else signature_of(key, digest)
    except ValueError:
        return b""


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    with suppress(ConnectionError):
        live(socket.socket(fileno=int(sys.argv[1])))
