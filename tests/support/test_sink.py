"""The sink: it logs before it says yes, does what recipients ask, and its judges count exactly."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sink import (
    Received,
    Sink,
    SinkOptions,
    SinkRecord,
    copies,
    max_in_any_window,
    read_log,
    sink_process,
)
from tests.support.sink_trouble import trouble_of

BODY = b"From: a@x.test\r\nMessage-ID: <one@x.test>\r\n\r\nMessage-ID: <no@x.test>\r\n.dot\r\n"


class Client:
    """A raw SMTP client over any stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def code(self) -> str:
        """The code of the next reply, "" when the sink closed."""
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 5)).decode()
            if line[3:4] != "-":
                return line[:3]

    async def say(self, data: bytes) -> str:
        self.writer.write(data)
        return await self.code()

    async def codes(self, data: bytes, count: int) -> list[str]:
        """Everything in one write; the codes of `count` replies."""
        self.writer.write(data)
        return [await self.code() for _ in range(count)]

    async def transaction(self, recipient: str, body: bytes = BODY) -> list[str]:
        """One whole message as a pipelining client sends it; the codes up to where it stopped."""
        codes = await self.codes(f"MAIL FROM:<a@x.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode(), 3)
        if codes[-1] == "354":
            codes.append(await self.say(body.replace(b"\r\n.", b"\r\n..") + b".\r\n"))
        return codes


@asynccontextmanager
async def client_of(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    name = "localhost" if context else None
    streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    client = Client(*streams)
    try:
        assert await client.code() == "220"
        yield client
    finally:
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


@asynccontextmanager
async def running(
    folder: Path, received: list[Received] | None = None, **options: Any
) -> AsyncIterator[Sink]:
    """A sink in this process that logs to `folder`/log. Any: whatever SinkOptions has."""
    sink = Sink(SinkOptions(log=folder / "log", **options), received.append if received is not None else None)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()
        assert not sink.open


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return folder / "cert.pem", folder / "key.pem", context


async def test_logs_every_copy_before_its_yes(tmp_path: Path) -> None:
    received: list[Received] = []
    async with running(tmp_path, received) as sink, client_of(sink.port) as client:
        assert await client.say(b"EHLO me\r\n") == "250"
        rcpts = b'RCPT TO:<b@y.test>\r\nRCPT TO:<"c d>"@y.test>\r\n'
        codes = await client.codes(b"MAIL FROM:<>\r\n" + rcpts + b"DATA\r\n", 4)
        assert codes == ["250", "250", "250", "354"]
        assert await client.say(BODY.replace(b".dot", b"..dot") + b".\r\n") == "250"
        records = read_log(tmp_path / "log")
        assert [record.recipient for record in records] == ["b@y.test", '"c_d>"@y.test']
        assert {(record.message_id, record.session) for record in records} == {("<one@x.test>", 1)}
        assert received == [Received("", ("b@y.test", '"c d>"@y.test'), BODY, 1)]
        async with client_of(sink.port) as other:
            assert await other.transaction("b@y.test") == ["250", "250", "354", "250"]
        assert read_log(tmp_path / "log")[2].session == 2
        assert (sink.accepted, sink.sessions, sink.most_open) == (2, 2, 2)
    assert copies(read_log(tmp_path / "log")) == {
        ("<one@x.test>", "b@y.test"): 2,
        ("<one@x.test>", '"c_d>"@y.test'): 1,
    }


async def test_the_time_is_that_of_the_dot(tmp_path: Path) -> None:
    async with running(tmp_path, delay_s=0.05) as sink, client_of(sink.port) as client:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await client.transaction("b@y.test"))[-1] == "250"
        assert loop.time() - began >= 0.05
        codes = await client.codes(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n", 3)
        assert codes == ["250", "250", "354"]
        client.writer.write(b"x\r\n.\r\nQUIT\r\n")
        assert [await client.code(), await client.code()] == ["250", "221"]
        first, second = read_log(tmp_path / "log")
        assert second.time_us - first.time_us >= 50_000
        assert second.message_id == "-"


@given(cuts=st.sets(st.integers(1, 400), max_size=10))
@settings(derandomize=True, max_examples=25, deadline=None)
def test_reads_the_same_however_it_is_cut(tmp_path_factory: pytest.TempPathFactory, cuts: set[int]) -> None:
    folder = tmp_path_factory.mktemp("cut")
    one = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
    wire = b"EHLO me\r\n" + one + b"..\r\n\r\n.\r\n" + one + b".\r\n" + one + b"a\n.\r\nb\r\n.\r\nQUIT\r\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    received: list[Received] = []

    async def deliver() -> list[str]:
        async with running(folder, received) as sink, client_of(sink.port) as client:
            for start, end in itertools.pairwise(edges):
                client.writer.write(wire[start:end])
                await asyncio.sleep(0)
            return [await client.code() for _ in range(15)]

    assert asyncio.run(deliver()) == ["250", *["250", "250", "354", "250"] * 3, "221", ""]
    assert [one.content for one in received] == [b".\r\n\r\n", b"", b"a\n.\r\nb\r\n"]
    assert len(read_log(folder / "log")) == 3


@pytest.mark.parametrize(
    ("recipient", "codes", "logged"),
    [
        ("bounce550.1.1@y.test", ["250", "550", "503"], 0),
        ("bounce@y.test", ["250", "550", "503"], 0),
        ("bounce554.6.0+dot+x1@y.test", ["250", "250", "354", "554"], 0),
        ("defer451@y.test", ["250", "451", "503"], 0),
        ("defer452.2.2+data@y.test", ["250", "250", "452"], 0),
        ("drop@y.test", ["250", "", ""], 0),
        ("drop+dot@y.test", ["250", "250", "354", ""], 1),
        ("bouncer@y.test", ["250", "250", "354", "250"], 1),
        ("bounce550x@y.test", ["250", "250", "354", "250"], 1),
    ],
)
async def test_recipients_ask_for_trouble(
    tmp_path: Path, recipient: str, codes: list[str], logged: int
) -> None:
    async with running(tmp_path) as sink, client_of(sink.port) as client:
        assert await client.transaction(recipient) == codes
        assert len(read_log(tmp_path / "log")) == logged
        if "" not in codes:
            assert await client.say(b"RSET\r\n") == "250"
            assert (await client.transaction("good@y.test"))[-1] == "250"


def test_the_reply_says_what_the_address_asks() -> None:
    for recipient, reply in [
        ("bounce550.1.1@y", b"550 5.1.1 "),
        ("defer421.3.20+x@y", b"421 4.3.20 "),
        ("defer@y", b"451 4.0.0 "),
    ]:
        trouble = trouble_of(recipient)
        assert trouble is not None
        assert trouble.reply.startswith(reply)
    assert trouble_of("someone+dot@y") is None


@pytest.mark.parametrize(("recipient", "logged"), [("hang@y.test", 0), ("hang+dot@y.test", 1)])
async def test_hanging_is_never_answered_and_ends_with_the_peer(
    tmp_path: Path, recipient: str, logged: int
) -> None:
    async with running(tmp_path) as sink:
        async with client_of(sink.port) as client:
            await client.say(b"MAIL FROM:<a@x.test>\r\n")
            if logged:
                assert await client.codes(f"RCPT TO:<{recipient}>\r\nDATA\r\n".encode(), 2) == ["250", "354"]
                client.writer.write(BODY + b".\r\nNOOP\r\n")
            else:
                client.writer.write(f"RCPT TO:<{recipient}>\r\nNOOP\r\n".encode())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.1)
            assert len(read_log(tmp_path / "log")) == logged
        async with client_of(sink.port) as client:
            assert (await client.transaction("good@y.test"))[-1] == "250"


async def test_once_means_the_first_time(tmp_path: Path) -> None:
    async with running(tmp_path) as sink, client_of(sink.port) as client:
        assert (await client.transaction("defer451+once+a@y.test"))[1] == "451"
        await client.say(b"RSET\r\n")
        assert (await client.transaction("defer451+once+a@y.test"))[-1] == "250"
        assert (await client.transaction("defer451+dot+once+a@y.test"))[-1] == "451"
        assert (await client.transaction("defer451+dot+once+a@y.test"))[-1] == "250"
        assert (await client.transaction("defer451+once+b@y.test"))[1] == "451"


async def test_every_third_message_is_dropped_but_logged(tmp_path: Path) -> None:
    async with running(tmp_path, drop_every=3) as sink:
        ends = []
        for _ in range(6):
            async with client_of(sink.port) as client:
                ends.append((await client.transaction("b@y.test"))[-1])
        assert ends == ["250", "250", ""] * 2
    assert len(read_log(tmp_path / "log")) == 6


async def test_dropping_by_chance(tmp_path: Path) -> None:
    async with running(tmp_path, drop_probability=1.0) as sink, client_of(sink.port) as client:
        assert (await client.transaction("b@y.test"))[-1] == ""
    async with running(tmp_path, drop_probability=1e-12) as sink, client_of(sink.port) as client:
        assert (await client.transaction("b@y.test"))[-1] == "250"


@pytest.mark.parametrize("refuse", [False, True])
async def test_logins(tmp_path: Path, refuse: bool) -> None:
    final = "535" if refuse else "235"
    async with running(tmp_path, refuse_login=refuse) as sink, client_of(sink.port) as client:
        assert await client.say(b"AUTH PLAIN AHUAcA==\r\n") == final
        assert await client.codes(b"auth plain\r\nAHUAcA==\r\n", 2) == ["334", final]
        assert await client.codes(b"AUTH LOGIN\r\ndQ==\r\ncA==\r\n", 3) == ["334", "334", final]
        assert await client.codes(b"AUTH LOGIN dQ==\r\ncA==\r\n", 2) == ["334", final]
        assert await client.codes(b"AUTH LOGIN\r\n*\r\n", 2) == ["334", "501"]
        assert await client.codes(b"AUTH CRAM-MD5\r\nAUTH\r\nSTARTTLS\r\n", 3) == ["504", "504", "502"]


async def test_what_does_not_belong_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as sink, client_of(sink.port) as client:
        for line, code in [
            (b"DATA", "503"),
            (b"RCPT TO:<b@y.test>", "503"),
            (b"MAIL a@x.test", "501"),
            (b"MAIL FROM:<a@x.test> SIZE=10 BODY=8BITMIME", "250"),
            (b"MAIL FROM:<a@x.test>", "503"),
            (b"RCPT TO:<>", "503"),
            (b"RCPT TO b@y.test", "501"),
            (b"RCPT TO:<b@y.test>", "250"),
            (b"RSET", "250"),
            (b"DATA", "503"),
            (b"HELO me", "250"),
            (b"WHAT", "502"),
            (b"X" * 20_000, "500"),
        ]:
            assert await client.say(line + b"\r\n" * (len(line) < 20_000)) == code, line
        assert await client.code() == ""


async def test_starttls(tmp_path: Path, certificate: tuple[Path, Path, ssl.SSLContext]) -> None:
    *files, context = certificate
    async with running(tmp_path, certificate=tuple(files)) as sink:
        smtp = aiosmtplib.SMTP(hostname="localhost", port=sink.port, start_tls=True, tls_context=context)
        async with smtp:
            await smtp.ehlo()
            assert not smtp.supports_extension("starttls")
            await smtp.login("user", "word")
            await smtp.sendmail("a@x.test", ["b@y.test"], BODY)
        async with client_of(sink.port) as client:
            assert await client.codes(b"EHLO me\r\nSTARTTLS\r\nMAIL FROM:<a@x.test>\r\n", 2) == ["250", "220"]
            client.writer.write(b"this is no handshake at all, but long enough to be seen as one\r\n")
            assert await client.code() == ""
    assert len(read_log(tmp_path / "log")) == 1


async def test_a_session_stuck_in_its_handshake_does_not_hold_up_the_end(
    tmp_path: Path, certificate: tuple[Path, Path, ssl.SSLContext]
) -> None:
    cert, key, _ = certificate
    async with running(tmp_path, certificate=(cert, key)) as here, client_of(here.port) as client:
        assert await client.say(b"STARTTLS\r\n") == "220"
        await asyncio.wait_for(here.stop(), 5)
    with sink_process(tmp_path / "log", "--tls", str(cert), str(key)) as there:
        async with client_of(there.port) as client:
            assert await client.say(b"STARTTLS\r\n") == "220"
            there.process.terminate()
            assert await asyncio.to_thread(there.process.wait, 5) == 0


async def test_implicit_tls(tmp_path: Path, certificate: tuple[Path, Path, ssl.SSLContext]) -> None:
    *files, context = certificate
    async with (
        running(tmp_path, certificate=tuple(files), implicit_tls=True) as sink,
        client_of(sink.port, context) as client,
    ):
        assert await client.codes(b"EHLO me\r\nSTARTTLS\r\n", 2) == ["250", "502"]
        assert (await client.transaction("b@y.test"))[-1] == "250"
    assert len(read_log(tmp_path / "log")) == 1


async def test_as_a_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with sink_process(log, "--drop-after-dot", "2", "--delay-ms", "1") as sink:
        async with client_of(sink.port) as client:
            assert (await client.transaction("b@y.test"))[-1] == "250"
            assert (await client.transaction("b@y.test"))[-1] == ""
        async with client_of(sink.port) as open_session:
            sink.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(sink.process.wait, 10) == 0
            with contextlib.suppress(ConnectionResetError):
                assert await open_session.code() == ""
    assert len(read_log(log)) == 2
    with pytest.raises(RuntimeError, match="did not start"), sink_process(log, "--host", "192.0.2.1"):
        pass


def record(time_us: int) -> SinkRecord:
    return SinkRecord(time_us, "<m>", "b@y.test", 1)


def test_windows_are_half_open() -> None:
    hour = 3_600_000_000
    assert max_in_any_window([]) == 0
    assert max_in_any_window([record(0), record(hour)]) == 1
    assert max_in_any_window([record(hour - 1), record(0)]) == 2
    assert max_in_any_window([record(0), record(5), record(10)], window_s=0.00001) == 2


@given(times=st.lists(st.integers(0, 30), max_size=12), width=st.integers(1, 12))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_the_window_is_the_worst_of_all(times: list[int], width: int) -> None:
    worst = max(
        (sum(start < time_us <= start + width for time_us in times) for start in range(-1, 31)), default=0
    )
    assert max_in_any_window([record(time_us) for time_us in times], width / 1_000_000) == worst


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_log(log) == []
    log.write_text("")
    assert read_log(log) == []
    log.write_text("5 <m> b@y.test 1\n6 <m> b@")
    assert read_log(log) == [record(5)]
