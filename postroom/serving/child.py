"""A child of `serve`: `python -m postroom.serving.child DESCRIPTOR`, started by `serving.supervisor` only.

It hears over the descriptor what to be and when to stop; when its supervisor is gone it stops as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from postroom import logs
from postroom.accepting import Shares
from postroom.config import ConfigError, load
from postroom.control.protocol import InternalError, error_to_json
from postroom.errors import PostroomError
from postroom.keyring import KeyringError
from postroom.serving.link import Link, Plan
from postroom.serving.listeners import Listeners
from postroom.serving.process import Serving
from postroom.serving.ready import Ready

log = logs.logger("serve")


async def live(descriptor: int) -> int:
    """The life of one child; its exit code."""
    os.set_inheritable(descriptor, False)  # its end is news, so no child of ours may hold it open
    link = await Link.over(socket.socket(fileno=descriptor))
    heard = link.hear()
    async for first in heard:
        plan = Plan(**first["plan"])
        break
    else:
        return 1
    structlog.contextvars.bind_contextvars(child=plan.number)
    try:
        settings = load(plan.flags, os.environ, None if plan.config is None else Path(plan.config))
        logs.configure(settings.log_level, logs.wants_json(settings.log_format))

        def ready(found: Ready) -> None:
            link.say({"ready": {"made": found.made, "fresh": found.fresh}})

        os.set_inheritable(plan.counts, False)
        shares = Shares(plan.counts, plan.processes, plan.number - 1)
        listeners = Listeners.adopt(plan.listeners, shares)
        serving = Serving(settings, first_run=plan.first_run, ready=ready, listeners=listeners)

        async def obey() -> None:
            async for said in heard:
                if "now" in said:
                    serving.stop_at_once("told so")
                elif "stop" in said:
                    serving.stop("told so")
            serving.stop("the supervisor is gone")

        obeying = asyncio.create_task(obey(), name="supervisor")
        try:
            return 0 if await serving.run() else 1
        finally:
            obeying.cancel()
    except ConfigError as error:
        failed: dict[str, object] = {"kind": "configuration", "text": "\n".join(error.problems)}
    except KeyringError as error:
        failed = {"kind": "configuration", "text": str(error)}
    except PostroomError as error:
        failed = error_to_json(error)
    except Exception:
        log.exception("this child of `serve` failed")
        failed = error_to_json(InternalError("Postroom failed; the log says how"))
    link.say({"failed": failed})
    await link.sent()
    return 1


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists: not on Windows, not on every Python."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(live(int(sys.argv[1]))))
