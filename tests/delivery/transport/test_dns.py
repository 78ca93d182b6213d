"""Asking DNS: a real server of ours on loopback, which plays what the world's servers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from postroom.errors import Unavailable
from postroom.transports import dns as ours
from postroom.transports.dns import DnsResolver

NAME = "s._domainkey.example.com"
LONG = "x" * 255


class _Server(asyncio.DatagramProtocol):
    """Answers by the first label of what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        query = dns.message.from_wire(data)
        name = query.question[0].name
        self.asked.append(name.to_text())
        answer = self._answer(query, name.labels[0].decode())
        if answer is not None:
            self._transport.sendto(answer, addr)

    def _answer(self, query: dns.message.Message, how: str) -> bytes | None:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        name = query.question[0].name
        if how == "silent":
            return None
        if how == "garbage":
            return b"\x00garbage" * 9
        if how == "none":
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif how == "broken":
            response.set_rcode(dns.rcode.SERVFAIL)
        elif how == "alias":
            target = f"s.{name.parent().to_text()}"
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
            response.answer.append(dns.rrset.from_text(target, 60, "IN", "TXT", '"aliased"'))
        elif how != "empty":
            texts = [f'"{LONG}" "{LONG}" "end"'] + (['"second"'] if how == "two" else [])
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *texts))
        return response.to_wire()


@asynccontextmanager
async def resolver() -> AsyncIterator[tuple[DnsResolver, _Server]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(_Server, local_addr=("127.0.0.1", 0))
    try:
        yield DnsResolver(["127.0.0.1"], transport.get_extra_info("sockname")[1]), server
    finally:
        transport.close()


async def test_strings_of_a_record_are_joined_and_the_name_is_asked_as_it_is() -> None:
    async with resolver() as (asking, server):
        assert await asking.txt(NAME) == [f"{LONG}{LONG}end".encode()]
        assert server.asked == [f"{NAME}."]
        assert sorted(await asking.txt("two.example.com")) == sorted([b"second", f"{LONG}{LONG}end".encode()])


@pytest.mark.parametrize(
    ("name", "records"),
    [("none.example.com", []), ("empty.example.com", []), ("alias.example.com", [b"aliased"])],
)
async def test_what_is_not_there_is_no_error(name: str, records: list[bytes]) -> None:
    async with resolver() as (asking, _):
        assert await asking.txt(name) == records


@pytest.mark.parametrize("how", ["silent", "broken", "garbage"])
async def test_no_answer_is_never_a_no(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "PATIENCE_S", 0.3)
    async with resolver() as (asking, _):
        with pytest.raises(Unavailable, match=f"DNS did not answer for {how}.example.com"):
            await asking.txt(f"{how}.example.com")


async def test_a_name_that_is_none_is_not_asked() -> None:
    async with resolver() as (asking, server):
        with pytest.raises(Unavailable):
            await asking.txt("x" * 64 + ".example.com")
        assert server.asked == []
