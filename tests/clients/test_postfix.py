"""A real Postfix as the next hop: what it takes, defers, refuses and greylists, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import smtplib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dkim
import pytest

from postroom.core.message import DeliveryState, Purpose
from postroom.transports.interface import Timeouts
from tests.support.certs import Certs
from tests.support.clock import FakeClock
from tests.support.dkim_corpus import corpus, records
from tests.support.engine import Bench, bench
from tests.support.postfix import Postfix, needs_root, postfix
from tests.support.tools import needs

pytestmark = [needs("debian"), needs_root]
PATIENT = Timeouts(20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 1.0)
SENT, READY, BOUNCED = DeliveryState.SENT, DeliveryState.READY, DeliveryState.BOUNCED


@pytest.fixture(scope="module")
def next_hop(certs: Certs) -> Iterator[Postfix]:
    number = os.getpid()  # so that no two of these meet on one address
    address = f"127.77.{number >> 8 & 255}.{number & 255}"
    with postfix(certs.key_and_chain(address), address) as running:
        yield running


async def at_last(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def copies(next_hop: Postfix, prefix: str) -> Counter[str]:
    """How often each recipient of this test was reached."""
    return Counter(who for _, who, _ in next_hop.arrived() if who.startswith(prefix))


async def states(post: Bench) -> dict[str, DeliveryState]:
    return {
        who: DeliveryState(state) for who, state in await post.rows("SELECT recipient, state FROM deliveries")
    }


async def test_each_recipient_meets_its_own_fate_and_nobody_gets_two(
    next_hop: Postfix, tmp_path: Path
) -> None:
    clock = FakeClock()
    good = [f"ann{number}@example.net" for number in range(20)]
    ill = ["gone@example.net", "blocked@example.net", "full@example.net", "grey@example.net"]
    async with bench(tmp_path, clock=clock, timeouts=PATIENT) as post:
        await post.connection(next_hop.port, host=next_hop.address)
        await post.send(Purpose.TRANSACTIONAL, [*good, *ill])
        await post.send(Purpose.TRANSACTIONAL, ["virus@example.net"], "X5O EICAR-STANDARD")
        await post.until(lambda found: found[SENT] == len(good) and found[BOUNCED] == 3)

        async def tries(recipient: str, count: int) -> None:
            text = (
                "SELECT COUNT(*) FROM attempts JOIN deliveries USING (account_id, delivery_id)"
                " WHERE recipient = :who AND result IS NOT NULL"
            )
            async with asyncio.timeout(20):
                while (await post.rows(text, who=recipient))[0][0] < count:
                    await asyncio.sleep(0.01)

        await tries("full@example.net", 1)
        await tries("grey@example.net", 1)
        assert (await states(post))["grey@example.net"] == READY
        clock.advance(301)
        await tries("full@example.net", 2)
        await post.until(lambda found: found[SENT] == len(good) + 1)
        now = await states(post)
        assert {who: now[who] for who in [*ill, "virus@example.net"]} == {
            "gone@example.net": BOUNCED,
            "blocked@example.net": BOUNCED,
            "virus@example.net": BOUNCED,
            "full@example.net": READY,
            "grey@example.net": SENT,
        }
        rows = await post.rows("SELECT address FROM suppressions")
        assert [row[0] for row in rows] == ["gone@example.net"], "only what speaks against the address"
        told = await post.rows(
            "SELECT recipient, code, enhanced FROM attempts JOIN deliveries USING (account_id, delivery_id)"
            " WHERE result NOT IN ('sent', 'returned') ORDER BY recipient, attempts.attempt_id"
        )
        assert [tuple(row) for row in told] == [
            ("blocked@example.net", 554, "5.7.1"),
            ("full@example.net", 452, "4.2.2"),
            ("full@example.net", 452, "4.2.2"),
            ("gone@example.net", 550, "5.1.1"),
            ("grey@example.net", 450, "4.7.1"),
            ("virus@example.net", 550, "5.7.1"),
        ]
    await at_last(next_hop.is_idle)
    await at_last(lambda: len(copies(next_hop, "ann")) == len(good))
    assert copies(next_hop, "") - copies(next_hop, "tls") == Counter([*good, "grey@example.net"])


async def test_starttls_with_its_certificate_verified(
    next_hop: Postfix, certs: Certs, tmp_path: Path
) -> None:
    async with bench(tmp_path, tls=certs.client(), timeouts=PATIENT) as post:
        await post.connection(next_hop.port, host=next_hop.address)
        recipients = [f"tls{number}@example.net" for number in range(5)]
        await post.send(Purpose.TRANSACTIONAL, recipients)
        assert (await post.until_settled())[SENT] == len(recipients)
    await at_last(lambda: len(copies(next_hop, "tls")) == len(recipients))
    await at_last(next_hop.is_idle)
    assert set(copies(next_hop, "tls").values()) == {1}
    dumps = [dump for _, who, dump in next_hop.arrived() if who.startswith("tls")]
    assert all(b"with ESMTPS id" in dump for dump in dumps)


async def test_mail_waits_where_the_certificate_is_a_strangers(next_hop: Postfix, tmp_path: Path) -> None:
    async with bench(tmp_path, tls=Certs().client(), timeouts=PATIENT) as post:
        await post.connection(next_hop.port, host=next_hop.address)
        await post.send(Purpose.TRANSACTIONAL, ["stranger@example.net"])
        await at_last(lambda: "SSL_accept error" in next_hop.log())
        assert (await states(post)) == {"stranger@example.net": READY}
    assert not copies(next_hop, "stranger")


def test_signatures_hold_behind_it(next_hop: Postfix) -> None:
    """What it hands on is still believed: it changes neither body nor header of what keeps to RFC 5322."""
    sendable = [
        one for one in corpus() if one.data.isascii() and max(map(len, one.data.split(b"\r\n"))) < 998
    ]
    assert len(sendable) > 100
    with smtplib.SMTP(next_hop.address, next_hop.port) as client:
        for one in sendable[:100]:
            client.sendmail("ann@example.com", [f"signed{one.number}@example.net"], one.data)
    began = time.monotonic()
    while len(copies(next_hop, "signed")) < 100:
        assert time.monotonic() - began < 20
        time.sleep(0.05)

    def ask(name: bytes, **_: object) -> bytes:
        return records()[name.decode("ascii").rstrip(".")].encode("ascii")

    for _, who, dump in next_hop.arrived():
        if who.startswith("signed"):
            first = dump.index(b"Received: ")  # what smtp-sink knows of the envelope stands above
            judge = dkim.DKIM(dump[first:])
            assert judge.verify(0, dnsfunc=ask), who
            assert judge.verify(1, dnsfunc=ask), who
