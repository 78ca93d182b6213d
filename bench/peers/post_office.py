"""django-post_office: mail stored by `send_many`, sent by its `send_queued_mail` command in two processes.

Fed in one process and in batches of 100, which is the best it can do; there is no HTTP in front of it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.peers.interface import Fed, Load, NextHop
from bench.peers.programs import Program


class PostOffice:
    """Implements `Peer`."""

    name = "django-post_office"

    async def start(self, folder: Path, sink: NextHop) -> None:
        """Make its database, and start what sends."""
        environ = {
            "BENCH_DATABASE": str(folder / "post_office.db"),
            "BENCH_PORT": str(sink.port),
            "DJANGO_SETTINGS_MODULE": "bench.peers.post_office_site",
        }
        self._program = Program("bench.peers.post_office_site", environ)
        await self._program.run("migrate")

    async def feed(self, load: Load) -> Fed:
        """Store everything, then let it send."""
        told = await self._program.run("feed", str(load.messages))
        await self._program.begin("send")
        return Fed(float(told["seconds"]))

    async def stop(self) -> None:
        """End what sends."""
        await asyncio.sleep(0)
        await self._program.stop()

    async def kill(self) -> None:
        """SIGKILL what sends."""
        await self._program.kill()

    async def again(self) -> None:
        """Send what is left, as its cron job would."""
        await self._program.begin("send")
