"""The test inbox: what it accepts, how it stores, and that nothing can be smuggled through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.clock import to_datetime
from postroom.errors import Conflict, Invalid, NotFound, Unavailable
from postroom.inbound.inbox import Inbox, list_mails, open_socket, read_mail

NOW_US = 1_700_000_000_000_000
MAIL = b"Subject: Hello\r\n\r\nOne line.\r\n"


class FixedClock:
    def now_us(self) -> int:
        return NOW_US

    def steady_s(self) -> float:
        return 0.0


@asynccontextmanager
async def running(folder: Path, keep: int = 1000, **settings: Any) -> AsyncIterator[int]:
    """A started inbox; its port. Any: whatever Inbox takes by name."""
    inbox = Inbox(folder, keep, clock=FixedClock(), **settings)
    listener = open_socket("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    await inbox.start(listener)
    try:
        yield port
    finally:
        await inbox.stop()
        assert not inbox.sessions
        assert not inbox.tasks
        assert inbox.held_bytes == 0


class Dialogue:
    """A raw SMTP client: what it says is bytes, every wait is short."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        """The last line of the next reply; "" when the peer closed."""
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 5)).decode()
            if not line or line[3:4] != "-":
                return line.rstrip("\r\n")

    async def replies(self) -> AsyncIterator[str]:
        """Every reply until the peer closes."""
        while line := await self.reply():
            yield line

    async def say(self, data: bytes) -> str:
        self.writer.write(data)
        return await self.reply()

    async def begin(self, sender: bytes = b"a@x.test", recipient: bytes = b"b@y.test") -> None:
        """From the banner to the 354."""
        assert (await self.reply())[:3] == "220"
        assert (await self.say(b"EHLO me\r\n"))[:3] == "250"
        assert (await self.say(b"MAIL FROM:<" + sender + b">\r\n"))[:3] == "250"
        assert (await self.say(b"RCPT TO:<" + recipient + b">\r\n"))[:3] == "250"
        assert (await self.say(b"DATA\r\n"))[:3] == "354"


@asynccontextmanager
async def dialogue(port: int) -> AsyncIterator[Dialogue]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Dialogue(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):  # the other side may have been quicker
            await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_stores_the_bytes_and_the_envelope_before_its_yes(tmp_path: Path) -> None:
    body = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n..two\r\n.one\r\nplain \xc3\xbc\x00\r\n"
    async with running(tmp_path / "in") as port, dialogue(port) as client:
        await client.begin(b"")
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        assert await client.say(stuffed + b".\r\n") == "250 2.0.0 Stored as 1"
        mail = list_mails(tmp_path / "in")[0]
        assert (mail.number, mail.sender, mail.recipients) == (1, "", ("b@y.test",))
        assert (mail.subject, mail.size_bytes, mail.received_at) == ("Grüße", len(body), to_datetime(NOW_US))
        assert read_mail(tmp_path / "in", 1) == body
    assert (tmp_path / "in").stat().st_mode & 0o77 == 0
    assert (tmp_path / "in" / "1.eml").stat().st_mode & 0o77 == 0


async def test_common_client_with_login_and_utf8(tmp_path: Path) -> None:
    message = EmailMessage()
    message["Subject"] = "Two recipients"
    message["From"] = "grüße@x.test"
    message.set_content("häh\n.\n..\n", cte="8bit")
    async with (
        running(tmp_path) as port,
        aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client,
    ):
        await client.ehlo()
        for feature in ("8bitmime", "smtputf8", "pipelining", "auth"):
            assert client.supports_extension(feature)
        assert client.esmtp_extensions["size"] == str(26 * 1024 * 1024)
        await client.login("anybody", "any password")
        for count in (1, 2):
            await client.send_message(
                message, sender="grüße@x.test", recipients=["b@y.test", "Bü@y.test", "b@y.test"]
            )
            assert len(list_mails(tmp_path)) == count
    mail = list_mails(tmp_path)[0]
    assert (mail.number, mail.sender) == (2, "grüße@x.test")
    assert mail.recipients == ("b@y.test", "Bü@y.test")
    assert "häh\r\n.\r\n..\r\n".encode() in read_mail(tmp_path, 2)


@pytest.mark.parametrize(
    "steps",
    [
        [b"AUTH PLAIN " + b64encode(b"\0user\0word")],
        [b"auth plain", b64encode(b"admin\0user\0word")],
        [b"AUTH LOGIN", b64encode(b"user"), b64encode(b"word")],
        [b"AUTH LOGIN " + b64encode(b"user"), b64encode(b"word" * 600)],
    ],
)
async def test_any_login_is_right_without_tls(tmp_path: Path, steps: list[bytes]) -> None:
    async with running(tmp_path) as port, dialogue(port) as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        for step in steps[:-1]:
            assert (await client.say(step + b"\r\n"))[:3] == "334"
        assert (await client.say(steps[-1] + b"\r\n"))[:3] == "235"
        assert (await client.say(b"MAIL FROM:<a@x.test> AUTH=<> BODY=8BITMIME\r\n"))[:3] == "250"


@pytest.mark.parametrize("word", [b"!!!", b64encode(b"no NULs"), b64encode(b"\0a\0b\0c"), b"A" * 20_000])
async def test_a_malformed_login_is_refused_and_the_session_lives(tmp_path: Path, word: bytes) -> None:
    async with running(tmp_path) as port, dialogue(port) as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        assert (await client.say(b"AUTH PLAIN " + word + b"\r\n"))[:2] == "50"
        assert (await client.say(b"NOOP\r\n"))[:3] == "250"


@pytest.mark.parametrize(
    "ending",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\r\r\n"],
)
async def test_only_crlf_dot_crlf_ends_a_message(tmp_path: Path, ending: bytes) -> None:
    smuggled = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil"
    async with running(tmp_path) as port, dialogue(port) as client:
        await client.begin()
        answer = await client.say(b"Subject: first\r\n\r\ntext" + ending + smuggled + b"\r\n.\r\n")
        assert (await client.say(b"NOOP\r\n"))[:3] == "250", "exactly one reply came before"
    if b"\0" in ending:
        assert answer[:3] == "250"
        assert [mail.subject for mail in list_mails(tmp_path)] == ["first"]
        assert b"smuggled" in read_mail(tmp_path, 1)
    else:
        assert answer[:10] == "554 5.6.11"
        assert list_mails(tmp_path) == []


@given(lines=st.lists(st.text(".ab \t", max_size=6), max_size=8), data=st.data())
@settings(
    derandomize=True,
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_bodies_survive_dots_and_read_boundaries(
    tmp_path: Path, lines: list[str], data: st.DataObject
) -> None:
    body = b"".join(line.encode() + b"\r\n" for line in lines)
    stuffed = b"".join(b"." * line.startswith(".") + line.encode() + b"\r\n" for line in lines)
    wire = stuffed + b".\r\nNOOP\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=6)))

    async def deliver() -> None:
        async with running(tmp_path, fsync=False) as port, dialogue(port) as client:
            await client.begin()
            for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
                client.writer.write(wire[start:end])
                await asyncio.sleep(0)
            number = int((await client.reply()).split()[-1])
            assert (await client.reply())[:3] == "250"
            assert read_mail(tmp_path, number) == body

    asyncio.run(deliver())


async def test_a_whole_pipelined_session_in_one_packet(tmp_path: Path) -> None:
    async with running(tmp_path) as port, dialogue(port) as client:
        one = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n" + MAIL + b".\r\n"
        client.writer.write(b"MAIL FROM:<early@x.test>\r\nEHLO me\r\n" + one + one + b"QUIT\r\n")
        codes = [(await client.reply())[:3] for _ in range(12)]
        assert codes == ["220", "503", "250", *["250", "250", "354", "250"] * 2, "221"]
        assert await client.reply() == ""
    assert [mail.number for mail in list_mails(tmp_path)] == [2, 1]


@pytest.mark.parametrize("unfinished", [b"half a li", b"line\r\n", b"line\r\n.", b"line\r\n.\r"])
async def test_a_connection_lost_inside_data_stores_nothing(tmp_path: Path, unfinished: bytes) -> None:
    async with running(tmp_path) as port, dialogue(port) as client:
        await client.begin()
        client.writer.write(unfinished)
        client.writer.write_eof()
        assert await client.reply() == ""
    assert list_mails(tmp_path) == []


async def test_size_limits(tmp_path: Path) -> None:
    async with running(tmp_path, size_limit_bytes=1000) as port, dialogue(port) as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        for size in (b"1001", b"99999999999", b"-1", b"many", "²".encode()):
            answer = await client.say(b"MAIL FROM:<a@x.test> SIZE=" + size + b"\r\n")
            assert answer[:3] in ("552", "501", "451"), size
        for length, code in ((1000, "250"), (1001, "552")):
            await client.say(b"MAIL FROM:<a@x.test> SIZE=1000\r\n")
            await client.say(b"RCPT TO:<b@y.test>\r\n")
            await client.say(b"DATA\r\n")
            assert (await client.say(b"x" * (length - 2) + b"\r\n.\r\n"))[:3] == code
    assert [mail.size_bytes for mail in list_mails(tmp_path)] == [1000]


async def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, size_limit_bytes=1_000_000)
    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    await inbox.start(listener)
    async with dialogue(port) as client:
        await client.begin()
        client.writer.write(b"." * 200_000)
        await until(lambda: inbox.held_bytes > 0)
        for _ in range(100):
            client.writer.write(b"." * 100_000)
            await client.writer.drain()
            assert inbox.held_bytes <= 1_000_000
        await until(lambda: inbox.held_bytes == 0)
        assert (await client.say(b"\r\n.\r\n"))[:3] == "552"
        assert (await client.say(b"NOOP\r\n"))[:3] == "250"
    await inbox.stop()
    assert list_mails(tmp_path) == []


async def test_long_lines_are_kept_whole(tmp_path: Path) -> None:
    line = bytes(range(32, 127)) * 4000
    async with running(tmp_path) as port, dialogue(port) as client:
        await client.begin()
        assert (await client.say(b"Subject: x\r\n\r\n" + line + b"\r\n.\r\n"))[:3] == "250"
    assert read_mail(tmp_path, 1) == b"Subject: x\r\n\r\n" + line + b"\r\n"


async def test_memory_for_all_sessions_is_bounded(tmp_path: Path) -> None:
    async with (
        running(tmp_path, memory_bytes=3000) as port,
        dialogue(port) as first,
        dialogue(port) as second,
    ):
        await first.begin()
        await second.begin()
        first.writer.write(b"x" * 2000 + b"\r\n")
        await first.writer.drain()
        second_answer = await second.say(b"x" * 2998 + b"\r\n.\r\n")
        first_answer = await first.say(b".\r\n")
        assert {first_answer[:3], second_answer[:3]} == {"250", "452"}
        await second.say(b"MAIL FROM:<a@x.test>\r\n")
        await second.say(b"RCPT TO:<b@y.test>\r\n")
        await second.say(b"DATA\r\n")
        assert (await second.say(b"x" * 2998 + b"\r\n.\r\n"))[:3] == "250"


async def test_the_session_above_the_limit_is_told_to_come_back(tmp_path: Path) -> None:
    async with (
        running(tmp_path, max_sessions=2) as port,
        dialogue(port) as first,
        dialogue(port) as second,
    ):
        assert [(await c.reply())[:3] for c in (first, second)] == ["220", "220"]
        async with dialogue(port) as third:
            assert (await third.reply())[:3] == "421"
            assert await third.reply() == ""
        assert (await first.say(b"QUIT\r\n"))[:3] == "221"
        assert await first.reply() == ""
        async with dialogue(port) as fourth:
            assert (await fourth.reply())[:3] == "220"


async def test_idle_sessions_end(tmp_path: Path) -> None:
    async with running(tmp_path, idle_s=0.05) as port, dialogue(port) as client:
        assert (await client.reply())[:3] == "220"
        assert (await client.reply())[:3] == "421"
        assert await client.reply() == ""


async def test_senseless_commands_end_the_session(tmp_path: Path) -> None:
    async with running(tmp_path) as port:
        async with dialogue(port) as client:
            await client.reply()
            client.writer.write(b"NONSENSE\r\n" * 10)
            codes = [(await client.reply())[:3] for _ in range(6)]
            assert codes == ["500", "500", "500", "500", "502", ""]
        async with dialogue(port) as client:
            await client.reply()
            client.writer.write(b"NOOP\r\n" * 250)
            codes = [(await client.reply())[:3] for _ in range(202)]
            assert codes[-2:] == ["421", ""]


async def test_commands_that_must_not_work(tmp_path: Path) -> None:
    async with running(tmp_path) as port, dialogue(port) as client:
        await client.reply()
        await client.say(b"EHLO [IPv6:::1]\r\n")
        for command, code in [
            (b"STARTTLS", "454"),
            (b"VRFY root\xff\r", "252"),
            (b"EXPN all", "502"),
            (b"DATA", "503"),
            (b"RCPT TO:<b@y.test>", "503"),
            (b"MAIL FROM:<a\rb@x.test>", "501"),
            (b"MAIL FROM:<a\xff@x.test>", "501"),
            (b"MAIL FROM:<", "5"),
            (b"MAIL FROM:<\xc3\xbc@x.test>", "553"),
            (b"MAIL FROM:<a@x.test> WHAT=1", "555"),
            (b"X" * 70_000, "500"),
            (b"MAIL FROM:<a@x.test>", "250"),
            (b"RCPT TO:<>", "501"),
            (b"RCPT TO:<b@y.test>\0", "5"),
            (b"DATA", "503"),
            (b"RCPT TO:<b@y.test>", "250"),
            (b"EHLO me", "250"),
            (b"DATA", "503"),
        ]:
            assert (await client.say(command + b"\r\n")).startswith(code), command


async def test_recipients_are_counted_once_and_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as port, dialogue(port) as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        await client.say(b"MAIL FROM:<a@x.test>\r\n")
        client.writer.write(b"".join(b"RCPT TO:<r%d@y.test>\r\n" % (n // 2) for n in range(2004)))
        codes = [(await client.reply())[:3] for _ in range(2004)]
        assert codes == ["250"] * 2000 + ["452"] * 4
        await client.say(b"DATA\r\n")
        assert (await client.say(MAIL + b".\r\n"))[:3] == "250"
    assert len(list_mails(tmp_path)[0].recipients) == 1000


async def send(port: int, times: int = 1) -> list[str]:
    """Send MAIL several times at once, on a session each; the replies."""

    async def one() -> str:
        async with dialogue(port) as client:
            await client.begin()
            return await client.say(MAIL + b".\r\n")

    return await asyncio.gather(*(one() for _ in range(times)))


async def test_numbers_grow_for_ever_and_the_newest_stay(tmp_path: Path) -> None:
    async with running(tmp_path, keep=3) as port:
        assert sorted(await send(port, 5)) == [f"250 2.0.0 Stored as {n}" for n in range(1, 6)]
    assert [mail.number for mail in list_mails(tmp_path)] == [5, 4, 3]
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["3.json", "4.json", "5.json"]
    for number in (3, 4, 5):
        (tmp_path / f"{number}.eml").unlink()
    (tmp_path / ".7.eml.tmp").write_bytes(b"torn")
    async with running(tmp_path, keep=2) as port:
        assert await send(port) == ["250 2.0.0 Stored as 6"]
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".last", "6.eml", "6.json"}
    async with running(tmp_path, keep=1) as port:
        assert [mail.number for mail in list_mails(tmp_path)] == [6]
        assert await send(port) == ["250 2.0.0 Stored as 7"]
    assert [mail.number for mail in list_mails(tmp_path)] == [7]


async def test_a_full_disk_is_no_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with running(tmp_path) as port:
        monkeypatch.setattr(os, "fsync", full)
        assert (await send(port))[0][:3] == "452"
        assert list_mails(tmp_path) == []
        monkeypatch.undo()
        assert await send(port) == ["250 2.0.0 Stored as 2"]
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".last", "2.eml", "2.json"}


async def test_a_mail_being_stored_is_still_answered_at_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(tmp_path)
    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    await inbox.start(listener)
    loop = asyncio.get_running_loop()
    reached, let_go = asyncio.Event(), asyncio.Event()
    real = os.fsync

    def slow(descriptor: int) -> None:
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result(5)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    async with dialogue(port) as busy, dialogue(port) as idle:
        await idle.reply()
        await busy.begin()
        busy.writer.write(MAIL + b".\r\n")
        await asyncio.wait_for(reached.wait(), 5)
        stopping = asyncio.create_task(inbox.stop())
        assert (await idle.reply())[:3] == "421"
        assert not stopping.done()
        let_go.set()
        assert (await busy.reply())[:3] == "250"
        assert (await busy.reply())[:3] == "421"
        await asyncio.wait_for(stopping, 5)
    await inbox.stop()
    assert read_mail(tmp_path, 1) == MAIL


async def test_refuses_addresses_that_are_not_loopback(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="loopback"):
        open_socket("0.0.0.0", 0)
    with pytest.raises(Invalid, match="loopback"):
        open_socket("::", 0)
    listener = socket.create_server(("0.0.0.0", 0))
    with pytest.raises(Invalid, match=r"loopback.*0\.0\.0\.0"):
        await Inbox(tmp_path / "in").start(listener)
    assert listener.fileno() == -1
    assert not (tmp_path / "in").exists()
    open_socket("localhost", 0).close()


async def test_one_inbox_per_folder_and_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="at least 1"):
        Inbox(tmp_path, keep=0)
    async with running(tmp_path / "in") as port:
        with pytest.raises(Conflict, match="another inbox"):
            await Inbox(tmp_path / "in").start(open_socket("127.0.0.1", 0))
        with pytest.raises(Conflict, match=f"cannot listen on 127.0.0.1:{port}"):
            open_socket("127.0.0.1", port)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot use"):
        await Inbox(tmp_path / "file").start(open_socket("127.0.0.1", 0))


def test_listing_survives_broken_files(tmp_path: Path) -> None:
    assert list_mails(tmp_path / "none") == []
    envelope = {"sender": "a@x.test", "recipients": ["b@y.test"], "received_at_us": NOW_US}
    for number, facts in enumerate(
        [b"", b"{", b"[]", b"7", b"{}", b'{"sender": 1, "recipients": 2}', b"\xff", b"[" * 100_000], start=1
    ):
        (tmp_path / f"{number}.eml").write_bytes(MAIL)
        (tmp_path / f"{number}.json").write_bytes(facts)
    (tmp_path / "20.eml").write_bytes(b"")
    (tmp_path / "20.json").write_text(json.dumps(envelope | {"received_at_us": 10**40}))
    (tmp_path / "21.eml").mkdir()
    (tmp_path / "022.eml").write_bytes(MAIL)
    (tmp_path / "23.eml.bak").write_bytes(MAIL)
    (tmp_path / "24.json").write_text(json.dumps(envelope))
    os.utime(tmp_path / "1.eml", (1000, 1000))
    mails = list_mails(tmp_path)
    assert [mail.number for mail in mails] == [20, 8, 7, 6, 5, 4, 3, 2, 1]
    assert {(mail.subject, mail.sender, mail.recipients) for mail in mails[1:]} == {("Hello", "", ())}
    assert mails[-1].received_at == to_datetime(1_000_000_000)
    assert [mail.number for mail in list_mails(tmp_path, limit=2)] == [20, 8]
    for missing in (21, 24, 99, -1):
        with pytest.raises(NotFound):
            read_mail(tmp_path, missing)


@pytest.mark.parametrize(
    ("head", "subject"),
    [
        (b"From: a\r\nSUBJECT:  two \r\n words\r\n\r\nSubject: body\r\n", "two  words"),
        (b"\r\nSubject: body\r\n", ""),
        (b"X: =\r\n\r\n", ""),
        (b"Subject:\r\n\r\n", ""),
        (b"Subject: =?utf-8?b?4oKs?= and =?iso-8859-1?q?=FC?=\r\n\r\n", "€ and ü"),
        (b"Subject: =?nonsense?q?abc?=\r\n\r\n", "=?nonsense?q?abc?="),
        (b"Subject: =?zlib_codec?q?abc?=\r\n\r\n", "=?zlib_codec?q?abc?="),
        (b"Subject: =?a\x00b?q?abc?=\r\n\r\n", "=?a b?q?abc?="),
        (b"Subject: =?utf-8?b?A?=\r\n\r\n", "=?utf-8?b?A?="),
        (b"Subject: =?utf-8?q?a=0D=0ABcc:_x=E2=80=AE?=\r\n\r\n", "a  Bcc: x"),
        (b"Subject: r\xe9sum\xc3\xa9\r\n\r\n", "r\ufffdsumé"),
        (b"Subject: " + b"x" * 1_000_000, "x" * 2000),
    ],
)
def test_subjects_are_decoded_and_harmless(tmp_path: Path, head: bytes, subject: str) -> None:
    (tmp_path / "1.eml").write_bytes(head)
    assert list_mails(tmp_path)[0].subject == subject


async def test_garbage_never_breaks_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = [b"EHLO a", b"HELO", b"AUTH PLAIN AAAA", b"AUTH LOGIN", b"MAIL FROM:<(((((@x>", b'RCPT TO:<"']
    words += [b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>", b"DATA", b"RSET", b"\xff\xfe", b"", b"QUIT now"]
    async with running(tmp_path, max_sessions=3) as port:
        for start in range(len(words)):
            async with dialogue(port) as client:
                order = [*words[start:], *words[:start], b".", b"QUIT"]
                client.writer.write(b"\r\n".join(order) + b"\r\n")
                replies = [line async for line in client.replies()]
                assert replies[-1][:3] == "221"
                assert all(line[0] in "2345" for line in replies)
        assert (await send(port))[0][:3] == "250"
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
