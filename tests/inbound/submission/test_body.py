"""Reading a body: bit-exact and counted to the byte, wherever the packets are cut."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.inbound.smtp_body import Body


class Holder:
    held_bytes = 0


async def read(wire: list[bytes], limit: int, memory: int = 1 << 20) -> tuple[str, bytes, bytes]:
    """(reply, content, what is left for the next command)."""
    holder, reader = Holder(), asyncio.StreamReader(limit=64)
    body = Body(holder, limit, memory)
    reading = asyncio.create_task(body.read(reader))
    for piece in wire:
        reader.feed_data(piece)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    reply = await asyncio.wait_for(reading, 5)
    content = body.content
    assert holder.held_bytes == (0 if reply[:3] in ("552", "452") else len(stuffed(content)))
    body.release()
    body.release()
    assert (holder.held_bytes, body.content) == (0, b"")
    reader.feed_eof()
    return reply, content, await reader.read()


def stuffed(content: bytes) -> bytes:
    return b"".join(b"." * line.startswith(b".") + line for line in content.splitlines(keepends=True))


LINES = st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a", b"a.", b" .", b"a" * 70]), max_size=8)


@given(LINES, st.data())
@settings(derandomize=True, max_examples=150, deadline=None)
def test_every_cut_gives_the_same_content(lines: list[bytes], data: st.DataObject) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    wire = stuffed(content) + b".\r\nNOOP\r\n.\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=8)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    rest = b"NOOP\r\n.\r\n"
    assert asyncio.run(read(pieces, len(content))) == ("", content, rest)
    if content:
        assert asyncio.run(read(pieces, len(content) - 1)) == (
            f"552 5.3.4 Larger than {len(content) - 1} bytes",
            b"",
            rest,
        )
        memory = len(stuffed(content)) - 1
        assert asyncio.run(read(pieces, 1000, memory))[0][:9] == "452 4.3.1"


def test_each_byte_alone() -> None:
    content = b".\r\n..\r\n\r\n.a\r\n"
    wire = [bytes([byte]) for byte in stuffed(content) + b".\r\nQUIT\r\n"]
    assert asyncio.run(read(wire, len(content))) == ("", content, b"QUIT\r\n")
