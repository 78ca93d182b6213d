"""X1-X18: the dial-out targets that lead inside, each refused with the same text and never connected.

The numbers follow the list of hostile input, its ranges and name tricks taken in order. What a URL
adds to them (schemes, user names, redirects) ends at the dialer as a host, and is tried as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from postroom.transports.dial_rules import AddressKind, IpAddress, kind_of, read_host
from postroom.transports.dialer import Dialer, DialFailed, DialPrivate, DialRefused, Purpose
from tests.support.certs import Certs
from tests.support.scripted_smtp import ScriptedServer, Stage, hang

TARGETS = [
    ("X1", "127.0.0.1"),
    ("X1", "127.255.255.254"),
    ("X2", "127.1"),
    ("X3", "0"),
    ("X4", "2130706433"),
    ("X5", "0x7f.1"),
    ("X5", "0X7F000001"),
    ("X6", "017700000001"),
    ("X6", "0177.0.0.01"),
    ("X7", "localhost."),
    ("X7", "localhost"),
    ("X7", "127.0.0.1."),
    ("X8", "[::1]"),
    ("X8", "::1"),
    ("X8", "0:0:0:0:0:0:0:1"),
    ("X9", "[::ffff:127.0.0.1]"),
    ("X9", "::ffff:7f00:1"),
    ("X9", "::127.0.0.1"),
    ("X10", "[64:ff9b::7f00:1]"),
    ("X10", "64:ff9b::10.0.0.1"),
    ("X10", "64:ff9b:1::7f00:1"),
    ("X11", "[2002:7f00:1::]"),
    ("X11", "2002:a00:1::1"),
    ("X11", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
    ("X12", "100.64.0.1"),
    ("X12", "100.127.255.254"),
    ("X13", "169.254.169.254"),
    ("X13", "[::ffff:169.254.169.254]"),
    ("X13", "fd00:ec2::254"),
    ("X13", "100.100.100.200"),
    ("X13", "168.63.129.16"),
    ("X14", "10.0.0.1"),
    ("X14", "172.16.0.1"),
    ("X14", "172.31.255.254"),
    ("X14", "192.168.1.1"),
    ("X14", "fc00::1"),
    ("X15", "0.0.0.0"),
    ("X15", "::"),
    ("X15", "255.255.255.255"),
    ("X15", "224.0.0.1"),
    ("X15", "ff02::1"),
    ("X15", "240.0.0.1"),
    ("X16", "fe80::1%eth0"),
    ("X16", "[fe80::1]"),
    ("X16", "198.41.0.4"),  # our own public address, as set below
    ("X16", "::ffff:198.41.0.4"),
    ("X17", "inside.example"),
    ("X17", "half-inside.example"),
    ("X17", "mapped.example"),
    ("X18", "good@127.0.0.1"),
    ("X18", "127。0。0。1"),
    ("X18", "１２７．０．０．１"),
    ("X18", "127｡0｡0｡1"),
    ("X18", "file:"),
    ("X18", "unix:/run/x"),
    ("X18", "gopher://x"),
    ("X18", "127.0.0.1:25"),
    ("X18", "good.example/../127.0.0.1"),
    ("X18", "good.example\r\nHost: evil"),
    ("X18", "good.example\0.evil"),
    ("X18", ""),
    ("X18", "."),
    ("X18", "a" * 254),
    ("X18", "1.2.3.4.5"),
    ("X18", "256.1.1.1"),
]
NAMES = {
    "localhost": ["::1", "127.0.0.1"],
    "localhost.": ["127.0.0.1"],
    "inside.example": ["10.1.2.3"],
    "half-inside.example": ["198.41.0.5", "192.168.0.7"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "good.example": ["198.41.0.5"],
}
ids = [f"{number}-{host[:24]!a}" for number, host in TARGETS]


async def _resolve(host: str, port: int) -> Sequence[str]:
    return NAMES[host]


def _dialer(dial_private: DialPrivate = DialPrivate.SMTP) -> Dialer:
    return Dialer(dial_private, resolver=_resolve, own_addresses=["198.41.0.4"])


@pytest.mark.parametrize("purpose", [Purpose.HTTP, Purpose.IMAP])
@pytest.mark.parametrize(("number", "host"), TARGETS, ids=ids)
async def test_x1_to_x18_are_refused(number: str, host: str, purpose: Purpose) -> None:
    dialer = _dialer()
    with pytest.raises(DialRefused) as refused:
        await dialer.dial(host, 443, purpose, timeout_s=1)
    assert str(refused.value) == "this destination may not be dialled; see the setting dial_private"
    assert dialer.refused.total() == 1


@pytest.mark.parametrize(("number", "host"), TARGETS, ids=ids)
async def test_x1_to_x18_are_refused_to_smtp_too_when_nobody_may(number: str, host: str) -> None:
    with pytest.raises(DialRefused):
        await _dialer(DialPrivate.NONE).dial(host, 25, Purpose.SMTP, timeout_s=1)


NEVER = ["X3", "X10", "X11", "X13", "X15"]


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("host", [h for n, h in TARGETS if n in NEVER or h.startswith(("fe80", "[fe80"))])
async def test_some_stay_closed_whatever_is_set(host: str, purpose: Purpose) -> None:
    with pytest.raises(DialRefused):
        await _dialer(DialPrivate.ALL).dial(host, 443, purpose, timeout_s=1)


@pytest.mark.parametrize("host", ["127.1", "localhost", "[::ffff:127.0.0.1]", "10.0.0.1", "100.64.0.1"])
async def test_smtp_may_use_private_hosts_by_default(host: str) -> None:
    dialer = _dialer()
    assert await dialer.resolve(host, 25, Purpose.SMTP, timeout_s=1)
    assert dialer.refused.total() == 0


@pytest.mark.parametrize("port", [22, 25, 5432, 6379, 7999, 9001, 0, -1, 65536])
async def test_x18_ports_that_are_not_http(port: int) -> None:
    dialer = _dialer()
    with pytest.raises(DialRefused):
        await dialer.resolve("good.example", port, Purpose.HTTP, timeout_s=1)


async def test_ports_that_are() -> None:
    dialer = Dialer(resolver=_resolve, http_ports=[{8443}])
    assert await dialer.resolve("good.example", 8443, Purpose.HTTP, timeout_s=1)
    with pytest.raises(DialRefused):
        await dialer.resolve("good.example", 443, Purpose.HTTP, timeout_s=1)
    for port in (80, 443, 8000, 9000):
        assert await _dialer().resolve("good.example", port, Purpose.HTTP, timeout_s=1)
    for port in (0, 65536):
        with pytest.raises(DialRefused):
            await dialer.resolve("good.example", port, Purpose.SMTP, timeout_s=1)
    assert await dialer.resolve("good.example", 2525, Purpose.SMTP, timeout_s=1)


async def test_x17_rebinding_has_nothing_to_bind_to() -> None:
    """The name is asked for once; a second answer is never sought."""
    asked: list[str] = []

    async def turncoat(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    async with ScriptedServer() as server:
        dialer = Dialer(DialPrivate.ALL, resolver=turncoat, http_ports=[range(1, 65536)])
        stream = await dialer.open_stream("turncoat.example", server.port, Purpose.HTTP, timeout_s=2)
        assert (await stream.reader.readline()).startswith(b"220")
        stream.writer.close()
        await stream.writer.wait_closed()
    assert asked == ["turncoat.example"]
    assert (stream.peer.address, stream.peer.loopback) == ("127.0.0.1", True)


async def test_a_stream_with_tls(certs: Certs) -> None:
    everywhere = [range(1, 65536)]
    async with ScriptedServer(tls=certs.server("hook.example"), implicit=True) as server:

        async def here(host: str, port: int) -> Sequence[str]:
            return [server.host]

        dialer = Dialer(DialPrivate.ALL, resolver=here, http_ports=everywhere)
        stream = await dialer.open_stream(
            "hook.example.", server.port, Purpose.HTTP, timeout_s=5, ssl_context=certs.client()
        )
        assert (await stream.reader.readline()).startswith(b"220")
        stream.writer.close()
        await stream.writer.wait_closed()
        with pytest.raises(DialFailed, match="certificate is not accepted"):
            await dialer.open_stream(
                "other.example", server.port, Purpose.HTTP, timeout_s=5, ssl_context=certs.client()
            )
    async with ScriptedServer({Stage.HANDSHAKE: hang()}, tls=certs.server(), implicit=True) as server:
        with pytest.raises(DialFailed, match="no handshake in time"):
            await dialer.open_stream(
                "localhost", server.port, Purpose.HTTP, timeout_s=0.1, ssl_context=certs.client()
            )


async def test_the_next_address_is_tried_and_families_alternate() -> None:
    async def several(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.9", "127.0.0.8", "::1", "127.0.0.1"]

    async with ScriptedServer() as server:
        dialer = Dialer(resolver=several)
        order = await dialer.resolve("several.example", server.port, Purpose.SMTP, timeout_s=2)
        assert [str(a) for a in order] == ["127.0.0.9", "::1", "127.0.0.8", "127.0.0.1"]
        sock, peer = await dialer.dial("several.example", server.port, Purpose.SMTP, timeout_s=2)
        sock.close()
    assert peer.address == "127.0.0.1"


async def test_nobody_listens() -> None:
    async with ScriptedServer() as server:
        port = server.port
    with pytest.raises(DialFailed) as failed:
        await Dialer().dial("127.0.0.1", port, Purpose.SMTP, timeout_s=2)
    assert str(failed.value) == f"cannot connect to port {port}: connection refused"


@pytest.mark.parametrize(
    ("listening", "ours"),
    [("127.0.0.1", True), ("0.0.0.0", True), ("::", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False)],
)
async def test_q16_our_own_listener_is_never_dialled(listening: str, ours: bool) -> None:
    async with ScriptedServer() as server:
        dialer = _dialer()
        dialer.listeners.add((listening, server.port))
        dialing = dialer.dial("127.0.0.1", server.port, Purpose.SMTP, timeout_s=2)
        if ours:
            with pytest.raises(DialRefused, match="it would go round"):
                await dialing
        else:
            sock, _ = await dialing
            sock.close()
        dialer.listeners = {(listening, server.port + 1)}
        sock, _ = await dialer.dial("127.0.0.1", server.port, Purpose.SMTP, timeout_s=2)
        sock.close()


async def test_names_that_do_not_resolve() -> None:
    async def nothing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name at 10.0.0.53")

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async def empty(host: str, port: int) -> Sequence[str]:
        return []

    async def rubbish(host: str, port: int) -> Sequence[str]:
        return ["not an address"]

    for resolver in (nothing, never, empty, rubbish):
        with pytest.raises(DialFailed) as failed:
            await Dialer(resolver=resolver).dial("x.example", 25, Purpose.SMTP, timeout_s=0.05)
        assert str(failed.value).startswith("cannot resolve the host name")


async def test_the_systems_resolver_is_asked_by_default() -> None:
    async with ScriptedServer() as server:
        sock, peer = await Dialer().dial("localhost", server.port, Purpose.SMTP, timeout_s=5)
        sock.close()
    assert peer.loopback


KINDS = [
    ("8.8.8.8", AddressKind.PUBLIC),
    ("2606:4700::1111", AddressKind.PUBLIC),
    ("::ffff:8.8.8.8", AddressKind.PUBLIC),
    ("64:ff9b::8.8.8.8", AddressKind.PUBLIC),
    ("2002:808:808::1", AddressKind.PUBLIC),
    ("192.0.2.1", AddressKind.PRIVATE),
    ("2001:db8::1", AddressKind.PRIVATE),
    ("fec0::1", AddressKind.PRIVATE),
    ("4000::1", AddressKind.PRIVATE),
    ("127.9.9.9", AddressKind.LOOPBACK),
    ("::ffff:127.0.0.1", AddressKind.LOOPBACK),
    ("64:ff9b::127.0.0.1", AddressKind.NEVER),
    ("fd20:ce::254", AddressKind.NEVER),
]


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_kinds(text: str, kind: AddressKind) -> None:
    address = read_host(text)
    assert not isinstance(address, str)
    assert kind_of(address) is kind


HOSTS: list[tuple[str, str | None]] = [
    ("mail.example", None),
    ("mail.example.", None),
    ("_smtp.example", None),
    ("bücher.example", "xn--bcher-kva.example"),
    ("mail。example", "mail.example"),
    ("3com.example", None),
    ("example.0x", "refused"),
]


@pytest.mark.parametrize(("host", "read"), HOSTS)
def test_names(host: str, read: str | None) -> None:
    if read == "refused":
        with pytest.raises(ValueError):
            read_host(host)
    else:
        answer: str | IpAddress = read_host(host)
        assert answer == (read or host)
