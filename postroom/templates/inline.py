"""Moves the rules of `<style>` elements into the elements they style, as mail programs like it best.

The elements stay, for what cannot be moved (@media, :hover). Nothing is fetched and no file is read: linked
stylesheets stay links. The work is css-inline's, in a child process (`inline_child` says why) that is started
when first needed, works on one document at a time and is replaced when it dies.
"""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from postroom.errors import Unavailable
from postroom.logs import logger

from . import inline_child
from .inline_child import REPLY, REQUEST

log = logger("templates.inline")

_STYLE = re.compile(r"<style[\s/>]", re.IGNORECASE)
_LARGE = 1 << 20  # after such a document the child ends, and its memory with it
_TOO_MUCH = "its styles are too much work, or its elements nested too deep"


class InlineFailed(ValueError):
    """The CSS of this document cannot be moved."""


class Inliner:
    """wait_s: for one document, on a machine in trouble; the usual bound is the child's processor time."""

    def __init__(self, wait_s: float = 30) -> None:
        self._wait_s = wait_s
        self._child: Process | None = None
        self._turn = asyncio.Lock()

    async def inline(self, document: str) -> str:
        """The HTML document with its styles in place; as it is where it has none. Raises InlineFailed."""
        if not _STYLE.search(document):
            return document
        try:
            request = document.encode()
        except UnicodeEncodeError as error:
            raise InlineFailed("it holds half a character (a lone surrogate)") from error
        async with self._turn:
            done, answer = await self._try(request)
        if not done:
            raise InlineFailed(answer.decode())
        return answer.decode()

    async def close(self) -> None:
        """End the child. The inliner may be used again."""
        async with self._turn:
            await self._end()

    async def _try(self, request: bytes) -> tuple[bool, bytes]:
        try:
            async with asyncio.timeout(self._wait_s):
                done, answer = await self._ask(await self._started(), request)
        except (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError) as error:
            status, said = await self._end()
            log.warning("inlining styles failed", request_bytes=len(request), status=status, said=said)
            raise InlineFailed(_TOO_MUCH) from error
        except TimeoutError as error:
            await self._end(kill=True)
            log.warning("inlining styles took too long", request_bytes=len(request), wait_s=self._wait_s)
            raise InlineFailed(_TOO_MUCH) from error
        except BaseException:  # a reply that nobody reads would be taken for the next one's
            await self._end(kill=True)
            raise
        if max(len(request), len(answer)) > _LARGE:
            await self._end()
        return done, answer

    async def _started(self) -> Process:
        if self._child is None:
            program = sys.executable, "-I", str(Path(inline_child.__file__))
            try:
                self._child = await asyncio.create_subprocess_exec(
                    *program, stdin=PIPE, stdout=PIPE, stderr=PIPE
                )
            except OSError as error:
                raise Unavailable(f"the process that inlines styles cannot be started: {error}") from error
        return self._child

    async def _ask(self, child: Process, request: bytes) -> tuple[bool, bytes]:
        assert child.stdin
        assert child.stdout
        child.stdin.write(REQUEST.pack(len(request)) + request)
        await child.stdin.drain()
        done, length = REPLY.unpack(await child.stdout.readexactly(REPLY.size))
        return done, await child.stdout.readexactly(length)

    async def _end(self, *, kill: bool = False) -> tuple[int | None, str]:
        """Have no child; what the last one ended with, and its last words. Without kill it ends by itself."""
        child, self._child = self._child, None
        if child is None:
            return None, ""
        if child.stdin:
            child.stdin.close()
        if kill and child.returncode is None:
            child.kill()
        _, complaint = await child.communicate()
        return child.returncode, complaint.decode("utf-8", "replace").strip()[-300:]
