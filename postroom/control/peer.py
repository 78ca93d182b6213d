"""Who asks: the user of this machine behind a control session, or behind this very command.

The kernel says who opened the session's socket, and nobody can say otherwise. Linux has SO_PEERCRED
(unix(7)), macOS and the BSDs LOCAL_PEERCRED (unix(4)); elsewhere nothing is known.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import sys
from typing import Protocol

_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_XUCRED = struct.Struct("=II")  # cr_version, cr_uid, and groups we do not need
_UCRED = struct.Struct("=iII")  # pid, uid, gid


class _Socket(Protocol):
    def getsockopt(self, level: int, name: int, length: int, /) -> bytes: ...


def peer(session: _Socket) -> str:
    """The user at the other end of a Unix socket, as audit lines name one; "" where it is not known."""
    try:
        if sys.platform.startswith("linux"):
            _, uid, _ = _UCRED.unpack(session.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        else:
            found = session.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
            _, uid = _XUCRED.unpack(found[: _XUCRED.size])
    except (OSError, struct.error):
        return ""
    return user(uid)


def this_user() -> str:
    """The user this process runs as."""
    return user(os.getuid())


def user(uid: int) -> str:
    """`user ann (uid 1000)`, or `uid 1000` where the system has no name for it."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
