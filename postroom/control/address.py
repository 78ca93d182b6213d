"""Where the control socket lies: `DATA/control.sock`, or elsewhere where that path is too long for a socket.

A socket's path has room for about a hundred bytes (unix(7)). For a longer one the socket is put into a
fresh private folder below the system's temporary one, and `DATA/control.path` says where.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from postroom.errors import Unavailable

NAME = "control"
MOST_PATH_BYTES = 100  # 108 on Linux, 104 on macOS and the BSDs, with the end mark


def socket_path(folder: Path, name: str = NAME) -> Path:
    """Where a running `serve` of this folder listens, if one runs; `name`: for what."""
    with contextlib.suppress(OSError, ValueError):
        recorded = (folder / f"{name}.path").read_text("utf-8").strip()
        if recorded:
            return Path(recorded)
    return folder / f"{name}.sock"


def clear_socket(folder: Path, name: str) -> None:
    """Remove what a process left that had this name and is dead."""
    path = socket_path(folder, name)
    for left in (path, folder / f"{name}.path"):
        with contextlib.suppress(OSError):
            left.unlink()
    if path.parent != folder:
        with contextlib.suppress(OSError):
            path.parent.rmdir()


@dataclass(frozen=True)
class ControlSocket:
    """A bound socket that only our own user may connect to. `remove` takes its file away again."""

    listener: socket.socket
    path: Path
    private_folder: Path | None
    pointer: Path | None

    @classmethod
    def bind(cls, folder: Path, name: str = NAME) -> ControlSocket:
        """Bind it. The name is the caller's alone, by a lock: what lies there is left over.

        Raises Unavailable.
        """
        pointer = folder / f"{name}.path"
        path = (folder / f"{name}.sock").absolute()
        private: Path | None = None
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            pointer.unlink(missing_ok=True)
            if len(os.fsencode(path)) > MOST_PATH_BYTES:
                private = Path(tempfile.mkdtemp(prefix="postroom-"))
                path = private / path.name
            path.unlink(missing_ok=True)
            before = os.umask(0o177)  # 0600 from its first moment on
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            if private is not None:
                pointer.write_text(str(path), "utf-8")
        except OSError as error:
            listener.close()
            raise Unavailable(f"the control socket {path} cannot be made: {error.strerror}") from error
        return cls(listener, path, private, pointer if private is not None else None)

    def remove(self) -> None:
        """Close it, and remove the socket's file and what led to it."""
        self.listener.close()
        for left in (self.path, self.pointer):
            if left is not None:
                with contextlib.suppress(OSError):
                    left.unlink()
        if self.private_folder is not None:
            with contextlib.suppress(OSError):
                self.private_folder.rmdir()
