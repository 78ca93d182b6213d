"""The vendor's own quota: read, shown, and obeyed where it is lower than our caps."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from postroom.core.message import Purpose
from postroom.errors import Unavailable
from postroom.storage import quotas
from postroom.storage.interface import Work
from postroom.storage.quotas import VendorQuota
from tests.delivery.apis.api_bench import api_way_out
from tests.delivery.faults import play
from tests.support.fault_bench import FaultBench, fault_bench
from tests.support.http_peer import Asked, Exchange, HttpPeer
from tests.support.seed_rows import ACCOUNT as ACCOUNT_ID
from tests.support.ses_peer import ACCOUNT, is_signed

BROADCAST = Purpose.BROADCAST


class Ses:
    """Counts what it takes against its quota, and refuses what is too much."""

    def __init__(self, most: int, used: int) -> None:
        self.most, self.used = most, used
        self.refused = 0
        self.asked_while_down = 0
        self.down = False

    async def __call__(self, exchange: Exchange) -> None:
        asked: Asked = await exchange.request()
        assert is_signed(asked)
        if self.down:
            self.asked_while_down += 1
            await exchange.reply(503, {"message": "down"})
        elif asked.method == "GET":
            quota = {"Max24HourSend": self.most, "SentLast24Hours": self.used, "MaxSendRate": 14}
            await exchange.reply(200, {**ACCOUNT, "SendQuota": quota})
        elif self.used >= self.most:
            self.refused += 1
            await exchange.reply(
                400,
                {"message": "Daily message quota exceeded"},
                "x-amzn-ErrorType: LimitExceededException\r\n",
            )
        else:
            self.used += 1
            await exchange.reply(200, {"MessageId": f"m{self.used}"})


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[FaultBench]:
    async with fault_bench(tmp_path) as made:
        yield made


async def reasons(post: FaultBench) -> set[str]:
    text = await post.value("SELECT decision FROM decisions ORDER BY decision_id DESC LIMIT 1")
    return {one["reason"] for one in json.loads(text)["judged"]} if text else set()


async def test_a_quota_lower_than_our_cap_is_obeyed_and_mail_goes_on_when_there_is_more(
    post: FaultBench,
) -> None:
    ses = Ses(most=10, used=7)
    async with HttpPeer(ses) as peer:
        way = await api_way_out(post, peer, "aws_ses", hourly_cap=100)
        await post.mail(BROADCAST, ["first@example.net"])
        await post.until_settled()

        async def is_read() -> bool:
            return await post.store.read(lambda: quotas.get(ACCOUNT_ID, way)) is not None

        await play.until(is_read)
        await post.mail(BROADCAST, [f"r{number}@example.net" for number in range(5)])
        await post.until(lambda states: states["sent"] == 3)

        async def is_full() -> bool:
            return await reasons(post) == {"quota_full"}

        await play.until(is_full)
        assert (await post.states())["ready"] == 3
        assert (ses.used, ses.refused) == (10, 0)
        await post.check_books()
        ses.most = 12
        post.time.advance(61.0)
        await post.until(lambda states: states["sent"] == 5)
        await play.until(is_full)
        assert (ses.used, ses.refused) == (12, 0)
        ses.most = 100
        post.time.advance(61.0)
        await post.until_settled()
        assert (ses.used, ses.refused) == (13, 0)


async def test_what_is_under_way_counts_when_a_quota_is_read(post: FaultBench) -> None:
    way = await post.connection(25, hourly_cap=100)
    await post.do("INSERT INTO cap (account_id, connection_id, held) VALUES (1, :c, 4)", c=way)
    await post.do(
        "INSERT INTO cap_release (account_id, connection_id, due, n) VALUES (1, :c, :due, 3)",
        c=way,
        due=post.clock.now_us() + 1_000_000,
    )
    await post.store.write(lambda: quotas.save(ACCOUNT_ID, way, 50, 20, 1.5))
    await post.store.write(lambda: quotas.grant(ACCOUNT_ID, way, 2))
    kept = await post.store.read(lambda: quotas.get(ACCOUNT_ID, way))
    assert kept == VendorQuota(post.clock.now_us(), 50, 20, 3, 1.5)
    assert kept.left == 27
    asked = await post.store.read(lambda: quotas.mark(ACCOUNT_ID, way))
    assert asked == quotas.Mark(granted=3, under_way=1)
    await post.store.write(lambda: quotas.grant(ACCOUNT_ID, way, 5))
    await post.store.write(lambda: quotas.save(ACCOUNT_ID, way, 50, 22, 1.5, asked))
    again = await post.store.read(lambda: quotas.get(ACCOUNT_ID, way))
    assert again is not None
    assert again.granted == 1 + 5
    await post.store.write(lambda: quotas.save(ACCOUNT_ID, way, None, 0, None))
    unlimited = await post.store.read(lambda: quotas.get(ACCOUNT_ID, way))
    assert unlimited is not None
    assert unlimited.left is None


async def test_what_was_granted_since_counts_on_while_the_vendor_cannot_be_asked(post: FaultBench) -> None:
    ses = Ses(most=10, used=0)
    async with HttpPeer(ses) as peer:
        way = await api_way_out(post, peer, "aws_ses", hourly_cap=100)
        await post.mail(BROADCAST, [f"r{number}@example.net" for number in range(6)])
        await post.until_settled()
        before = await post.store.read(lambda: quotas.get(ACCOUNT_ID, way))
        assert before is not None
        assert before.left == 4
        ses.down = True
        post.time.advance(301.0)
        runner = post.engine.runners[way]

        async def was_asked() -> bool:
            return ses.asked_while_down > 0 and not runner.way._quota._reading

        await play.until(was_asked)
        after = await post.store.read(lambda: quotas.get(ACCOUNT_ID, way))
        assert after is not None
        assert after.left == 4


async def test_a_quota_that_cannot_be_stored_is_no_trouble_of_the_connection(
    post: FaultBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ses = Ses(most=10, used=0)
    tries: list[object] = []
    keep = quotas.save

    def busy(*given: Any) -> Work[None]:  # Any: handed through
        tries.append(given)
        if len(tries) < 3:
            raise Unavailable("the database is busy")
        return keep(*given)

    monkeypatch.setattr(quotas, "save", busy)
    async with HttpPeer(ses) as peer:
        way = await api_way_out(post, peer, "aws_ses", hourly_cap=100)
        await post.mail(BROADCAST, ["a@example.net"])
        await post.until_settled()

        async def is_read() -> bool:
            return await post.store.read(lambda: quotas.get(ACCOUNT_ID, way)) is not None

        await play.until(is_read)
        assert await post.value("SELECT COUNT(*) FROM events WHERE kind LIKE 'connection%'") == 0
        assert post.engine.runners[way].troubles.backoff_until_us is None
