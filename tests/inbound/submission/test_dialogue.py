"""Dialogues that go wrong or mean harm: framing, order, syntax, and what must never become a message."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from postroom.actions.context import Limits
from postroom.inbound.smtp_connection import polished
from tests.inbound.submission.desk import MAIL, Desk, Dialogue, dialogue, open_desk, plain, talking, until

SMUGGLED = b"MAIL FROM:<shop@example.com>\r\nRCPT TO:<evil@example.net>\r\nDATA\r\n" + MAIL


ENDINGS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\r\r\n"]


async def test_s1_nothing_is_smuggled(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for ending in ENDINGS:
            await client.address()
            assert (await client.data(MAIL + b"text" + ending + SMUGGLED))[:8] == "554 5.6.", ending
            assert (await client.say(b"NOOP"))[:3] == "250", "exactly one reply came before"
    assert await desk.stored() == []


async def test_s2_dots_survive_one_byte_at_a_time(desk: Desk) -> None:
    lines = [b".", b"..", b".x" + b"y" * 996, b"", b"x.", b". ", b".\t.", b"..."]
    content = MAIL + b"".join(line + b"\r\n" for line in lines)
    stuffed = MAIL + b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines)
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        await client.address()
        assert (await client.say(b"DATA"))[:3] == "354"
        for number, byte in enumerate(stuffed + b".\r\nNOOP\r\n"):
            client.writer.write(bytes([byte]))
            if number % 3 == 0:
                await client.writer.drain()
                await asyncio.sleep(0)
        assert (await client.reply())[:3] == "250"
        assert (await client.reply())[:3] == "250"
    (stored,) = await desk.stored()
    assert stored.raw == content


async def test_s6_s21_addresses_that_are_none(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for text in (b"a\rb@x.test", b"a\0@x.test", b"\xff@x.test", b"a", b"a@", b"@x.test", b"a@b@c.test"):
            assert (await client.say(b"MAIL FROM:<" + text + b">"))[:1] == "5", text
        for line in (
            b"MAIL",
            b"MAIL FROM:",
            b"MAIL FROM:<",
            b"MAIL TO:<a@x.test>",
            b"MAIL FROM:<a@x.test> X=1",
        ):
            assert (await client.say(line))[:1] == "5", line
        assert (await client.say(b"MAIL FROM:<shop@example.com> BODY=8BITMIME AUTH=<> SIZE=100"))[:3] == "250"
        for text in (
            b"a\rb@x.test",
            b"a\0@x.test",
            b'"a\r\nb"@c.test',
            b"@relay.test:user@x.test",
            b"@relay.test,@two.test:user@x.test",
            b"user@[127.0.0.1]",
            b"user@x.test,b@x.test",
            b"postmaster",
            b"",
            b"a" * 65 + b"@x.test",
            b"a@" + b"b" * 64 + b".test",
            b"((((((" * 50 + b"@x.test",
        ):
            for line in (b"RCPT TO:<" + text + b">").split(b"\r\n"):
                assert (await client.say(line))[:1] == "5", text
        assert (await client.say(b"RCPT TO:<x@y.test>\0"))[:1] == "5"
        assert (await client.say(b"RCPT TO:<user%dom@us.test>"))[:3] == "250", (
            "a name like any other, not a route"
        )
        assert (await client.say(b"RCPT TO: <a!b@us.test>"))[:3] == "250"
        assert (await client.say(b"RCPT TO:plain@us.test"))[:3] == "250"
        assert (await client.data(MAIL))[:3] == "250"
    (stored,) = await desk.stored()
    assert [row.recipient for row in stored.deliveries] == [
        "user%dom@us.test",
        "a!b@us.test",
        "plain@us.test",
    ]


@pytest.mark.parametrize("abort", [True, False])
async def test_s7_a_connection_lost_inside_data_queues_nothing(desk: Desk, abort: bool) -> None:
    for unfinished in (b"", b"half a li", MAIL, MAIL + b".", MAIL + b".\r", MAIL + b".\n", MAIL + b"\r\n.\r"):
        await _lose(desk, unfinished, abort)
    assert await desk.stored() == []


async def _lose(desk: Desk, unfinished: bytes, abort: bool) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        await client.address()
        assert (await client.say(b"DATA"))[:3] == "354"
        client.writer.write(unfinished)
        await client.writer.drain()
        if abort:
            client.writer.transport.abort()
        else:
            client.writer.write_eof()
        await until(lambda: not desk.server.sessions)


async def test_s8_a_connection_lost_after_the_dot_queues_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, let_go = asyncio.Event(), asyncio.Event()
    real = desk.ctx.store.write

    async def slow(*given: object, **named: object) -> object:
        reached.set()
        await let_go.wait()
        return await real(*given, **named)  # type: ignore[arg-type]  # handed through as they came

    monkeypatch.setattr(desk.ctx.store, "write", slow)
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        await client.address()
        assert (await client.say(b"DATA"))[:3] == "354"
        client.writer.write(MAIL + b".\r\n")
        await asyncio.wait_for(reached.wait(), 5)
        client.writer.transport.abort()
        await until(lambda: not desk.server.sessions)
    assert desk.server.held_bytes == len(MAIL)
    let_go.set()
    await until(lambda: desk.server.held_bytes == 0)
    assert [stored.raw for stored in await desk.stored()] == [MAIL]


async def test_s9_what_clears_a_transaction(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for line in (b"RSET", b"EHLO again", b"HELO again"):
            await client.address()
            assert (await client.say(line))[:3] == "250"
            assert (await client.say(b"DATA"))[:3] == "503"
            assert (await client.say(b"RCPT TO:<b@example.net>"))[:3] == "503"
        await client.address()
        assert (await client.say(b"MAIL FROM:<shop@example.com>"))[:3] == "503"
        assert (await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text)))[:3] == "503"
        assert (await client.say(b"STARTTLS"))[:3] == "454"
        assert (await client.data(MAIL))[:3] == "250", "none of these touched the transaction"
        assert (await client.say(b"DATA"))[:3] == "503"
        assert (await client.say(b"RCPT TO:<b@example.net>"))[:3] == "503"


async def test_s11_sizes(tmp_path: Path) -> None:
    async with open_desk(tmp_path, limits=Limits(max_message_bytes=5000)) as desk:
        async with dialogue(desk.port) as client:
            await client.log_in(desk.text)
            for size, code in [
                (b"5001", "552 5.3.4"),
                (b"99999999999", "552 5.3.4"),
                (b"-1", "501 5.5.4"),
                (b"many", "501 5.5.4"),
                (b"", "501 5.5.4"),
                (b"9" * 1900, "501 5.5.4"),
                ("²".encode(), "501 5.5.4"),
            ]:
                assert (await client.say(b"MAIL FROM:<shop@example.com> SIZE=" + size))[:9] == code, size
            assert (await client.send(MAIL + b"x" * 900 + b"\r\n"))[:3] == "250"
            too_large = MAIL + (b"x" * 98 + b"\r\n") * 50
            assert (await client.send(too_large))[:9] == "552 5.3.4"
            assert (await client.send())[:3] == "250"
        assert len(await desk.stored()) == 2


async def test_s12_names_a_peer_gives_itself(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.reply()
        for name, code in [
            (b"x" * 10_000, "500"),
            (b"[IPv6:::1]", "250"),
            (b"a\0\x1b[31m\xff", "250"),
            (b"localhost", "250"),
            (b"", "501"),
        ]:
            assert (await client.say(b"EHLO " + name))[:3] == code
        assert (await client.say(b"MAIL FROM:<shop@example.com>"))[:3] == "530"


def _rss_kib() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") // 1024


async def test_s22_long_command_lines(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.greet()
        for length in (2049, 70_000, 500_000):
            assert (await client.say(b"NOOP " + b"x" * length))[:9] == "500 5.5.2"
        before_kib = _rss_kib()
        with pytest.raises(ConnectionError):
            await _pour(client)
        assert _rss_kib() - before_kib < 8_000
        assert not desk.server.sessions


async def _pour(client: Dialogue) -> None:
    for _ in range(1000):
        client.writer.write(b"x" * 100_000)
        await client.writer.drain()


async def test_s23_a_line_without_end_in_a_message(tmp_path: Path) -> None:
    async with talking(tmp_path, limits=Limits(max_message_bytes=1_000_000)) as (desk, client):
        await client.log_in(desk.text)
        await client.address()
        assert (await client.say(b"DATA"))[:3] == "354"
        before_kib = _rss_kib()
        for _ in range(300):
            client.writer.write(b"." * 100_000)
            await client.writer.drain()
            assert desk.server.held_bytes <= 1_000_000
        assert _rss_kib() - before_kib < 8_000
        assert (await client.say(b"\r\n."))[:9] == "552 5.3.4"
        assert (await client.send())[:3] == "250"


async def test_s24_senseless_commands_end_the_session(desk: Desk) -> None:
    for line, answered in [
        (b"NONSENSE", 9),
        (b"NOOP", 100),
        (b"RSET", 100),
        (b"HELP", 100),
        (b"VRFY x", 100),
    ]:
        async with dialogue(desk.port) as client:
            await client.reply()
            client.writer.write((line + b"\r\n") * 200)
            replies = await client.replies()
            assert len(replies) == answered + 1, line
            assert replies[-1][:9] == "421 4.7.0"
    for line in (b"MAIL FROM:<a@x.test>", b"RCPT TO:<a@x.test>", b"AUTH PLAIN !", b"DATA", b"EHLO x"):
        async with dialogue(desk.port) as client:
            await client.greet()
            client.writer.write((line + b"\r\n") * 200)
            assert len(await client.replies()) == 100, line
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        for _ in range(3):
            for _ in range(60):
                assert (await client.say(b"RSET"))[:3] == "250"
            assert (await client.send())[:3] == "250", "a message starts the count anew"


RELAYS = [  # the forms that tests for open relays try
    "<relay@elsewhere.test>",
    "relay@elsewhere.test",
    '<"relay@elsewhere.test">',
    '<"relay%elsewhere.test">',
    "<relay%elsewhere.test>",
    "<relay%elsewhere.test@example.com>",
    "<relay%elsewhere.test@[127.0.0.1]>",
    '<"relay%elsewhere.test"@example.com>',
    '<"relay@elsewhere.test"@example.com>',
    '<"relay@elsewhere.test"@[127.0.0.1]>',
    "<relay@elsewhere.test@example.com>",
    "<relay@elsewhere.test@[127.0.0.1]>",
    "<@example.com:relay@elsewhere.test>",
    "<@[127.0.0.1]:relay@elsewhere.test>",
    "<elsewhere.test!relay>",
    '<"elsewhere.test!relay">',
    "<elsewhere.test!relay@example.com>",
    "<elsewhere.test!relay@[127.0.0.1]>",
    "<relay@[192.0.2.1]>",
]


async def test_s26_no_open_relay(desk: Desk) -> None:
    for recipient in RELAYS:
        async with dialogue(desk.port) as client:
            await client.greet()
            for sender in ("<spam@example.com>", "<>", "<spam@[127.0.0.1]>", "spam"):
                assert (await client.say(f"MAIL FROM:{sender}".encode()))[:9] == "530 5.7.0"
                assert (await client.say(f"RCPT TO:{recipient}".encode()))[:9] == "530 5.7.0"
                assert (await client.say(b"DATA"))[:9] == "530 5.7.0"


# PROXY of either version: the second begins with a signature that hides a QUIT, then 127.0.0.1 as 192.0.2.1.
PROXY_V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x9c\x40\0\x19"


@pytest.mark.parametrize("header", [PROXY_V1, PROXY_V2], ids=["v1", "v2"])
async def test_s31_a_proxys_header_is_garbage(desk: Desk, header: bytes) -> None:
    async with dialogue(desk.port) as client:
        client.writer.write(header + b"\r\nEHLO me\r\nAUTH PLAIN " + plain(desk.text, desk.text) + b"\r\n")
        codes = [(await client.reply())[:3]]
        while codes[-1] not in ("235", ""):
            assert {session.address for session in desk.server.sessions} <= {"127.0.0.1"}
            codes.append((await client.reply())[:3])
        assert codes[0] == "220"
        assert set(codes[1:]) <= {"500", "221", "250", "235", ""}
        if header is PROXY_V1:
            assert (await client.send())[:3] == "250", "the session goes on as whoever it really is"
    assert [stored.raw for stored in await desk.stored()] == ([MAIL] if header is PROXY_V1 else [])


async def test_s29_s31_what_is_not_told_and_not_believed(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.reply()
        for line, code in [
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 25", "500 5.5.1"),
            (b"VRFY root", "252 2.5.2"),
            (b"EXPN staff", "502 5.5.1"),
            (b"HELP DATA", "214 2.0.0"),
            (b"", "500 5.5.2"),
            (b"\xff\xfe", "500 5.5.2"),
            (b"MAIL FROM:<shop@example.com>", "503 5.5.1"),
            (b"HELO me", "250 local"),
            (b"AUTH PLAIN " + plain(desk.text, desk.text), "503 5.5.1"),
            (b"MAIL FROM:<shop@example.com>", "530 5.7.0"),
            (b"QUIT now", "501 5.5.4"),
        ]:
            assert (await client.say(line))[:9] == code, line
        assert await client.say(b"EHLO me") == "250 HELP"
        assert (await client.say(b"AUTH PLAIN " + plain(desk.text, desk.text)))[:3] == "235"
        assert (await client.say(b"VRFY b@example.net"))[:9] == "252 2.5.2"
        assert await client.say(b"QUIT") == "221 2.0.0 Bye"
        assert await client.reply() == ""


async def test_s30_a_whole_session_in_one_packet(desk: Desk) -> None:
    one = b"MAIL FROM:<shop@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + MAIL + b".\r\n"
    login = b"AUTH PLAIN " + plain(desk.text, desk.text) + b"\r\n"
    async with dialogue(desk.port) as client:
        client.writer.write(one.split(b"DATA")[0] + b"EHLO me\r\n" + login + one + one + b"QUIT\r\nNOOP\r\n")
        codes = [reply[:3] for reply in await client.replies()]
    assert codes == ["220", "503", "503", "250", "235", *["250", "250", "354", "250"] * 2, "221"]
    assert [stored.raw for stored in await desk.stored()] == [MAIL, MAIL]


async def test_nothing_after_a_goodbye_is_run(desk: Desk) -> None:
    async with dialogue(desk.port) as client:
        await client.log_in(desk.text)
        await client.address()
        client.writer.write(b"BAD\r\n" * 10 + b"DATA\r\n" + MAIL + b".\r\n")
        assert [reply[:3] for reply in await client.replies()] == ["500"] * 9 + ["421"]
    assert await desk.stored() == []


def test_replies_are_one_printable_line_with_an_enhanced_code() -> None:
    assert polished("501 Syntax: \r\n250 ok\0é") == "501 5.5.4 Syntax: ??250 ok??"
    assert polished("550 5.7.1 No") == "550 5.7.1 No"
    assert polished("451 later") == "451 4.0.0 later"
    assert len(polished("554 5.6.0 " + "x" * 1000)) == 500
    assert polished("334 " + "A" * 600) == "334 " + "A" * 600
    assert polished("250 OK") == "250 2.0.0 OK"
