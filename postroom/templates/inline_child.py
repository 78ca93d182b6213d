"""The child process of `inline`: reads documents, moves their CSS, writes them back, until its input ends.

css-inline crashes on documents nested some ten thousand deep, and a short one can ask for gigabytes, so it
works where that harms nobody: in a process with a bound of memory and, for each document, of time. A request
is the length of the document in four bytes and its UTF-8; a reply a byte (is it done?), four of length, and
the document or why not. This file is run by its path and imports nothing of ours.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys
from typing import BinaryIO

REQUEST = struct.Struct(">I")
REPLY = struct.Struct(">?I")
MEMORY_BYTES = 512 << 20
CPU_S = 0.5
MAX_BYTES = 10_000_000
"""Of a result: a short rule can be written into every element."""


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    import css_inline  # only the child needs it

    inliner = css_inline.CSSInliner(
        load_remote_stylesheets=False,  # nor files: both are links to it
        keep_link_tags=True,
        keep_style_tags=True,  # @media and :hover cannot be moved
    )
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        document = requests.read(*REQUEST.unpack(head)).decode()
        signal.setitimer(signal.ITIMER_PROF, CPU_S)  # at its end SIGPROF ends us
        try:
            done, answer = True, inliner.inline(document).encode()
            if len(answer) > MAX_BYTES:
                done, answer = False, f"the result is longer than {MAX_BYTES:,} bytes".encode()
        except ValueError as error:
            done, answer = False, str(error)[:200].encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(REPLY.pack(done, len(answer)) + answer)
        replies.flush()


if __name__ == "__main__":
    # Whoever stops the whole group of processes means our parent; without it our input ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    serve(sys.stdin.buffer, sys.stdout.buffer)
