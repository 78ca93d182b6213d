"""A message that was taken and then refused is kept as a bounce of each of its recipients, within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.actions import accounts, api_errors, servers
from postroom.actions.api_errors import MOST_RECIPIENTS, ApiError
from postroom.core.server import Server
from postroom.errors import NotFound
from postroom.ids import ServerId
from postroom.storage.interface import Rows, Sql, Work
from tests.support.context import ACTOR, Harness, make_harness
from tests.support.stores import on_both

pytestmark = on_both


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with make_harness(tmp_path) as made:
        yield made


async def a_server(harness: Harness) -> Server:
    account = await accounts.create_account(harness.ctx, ACTOR, "Acme")
    return await servers.create_server(harness.ctx, ACTOR, account.account_id, "Shop")


async def rows(harness: Harness, text: str) -> Rows:
    def work() -> Work[Rows]:
        return (yield Sql(text))

    return await harness.store.read(work)


def refused(server: Server, *recipients: str, error: str = "No.", explanation: str = "Because.") -> ApiError:
    return ApiError(
        server.account_id, server.server_id, "outbound", recipients, error, explanation, 406, subject="Hi"
    )


async def test_each_recipient_has_a_bounce_and_they_share_a_number(harness: Harness) -> None:
    server = await a_server(harness)
    told = refused(server, "Ann@Example.NET", "bob@example.net")
    made = await api_errors.record(harness.ctx, told)
    stored = await rows(
        harness,
        "SELECT bounce_id, recipient, address, kind, text, report, subject, public_id, delivery_id, at"
        " FROM bounces ORDER BY bounce_id",
    )
    assert [row[0] for row in stored] == made
    assert [row[1:3] for row in stored] == [
        ("Ann@Example.NET", "ann@example.net"),
        ("bob@example.net", "bob@example.net"),
    ]
    report = "Because.\r\n\r\nErrorCode: 406\r\nMessage: No.\r\n"
    assert {row[3:7] for row in stored} == {("not_accepted", "No.", report, "Hi")}
    assert len({row[7] for row in stored}) == 1
    assert {row[8] for row in stored} == {None}
    assert {row[9] for row in stored} == {harness.clock.now_us()}


async def test_what_a_stranger_wrote_is_bounded_and_cleaned(harness: Harness) -> None:
    server = await a_server(harness)
    many = [f"b{number}@example.net" for number in range(MOST_RECIPIENTS + 5)]
    assert len(await api_errors.record(harness.ctx, refused(server, *many))) == MOST_RECIPIENTS
    bad = "no address\x00\r\nX: y\ud800" + "z" * 5000
    (number,) = await api_errors.record(
        harness.ctx, refused(server, bad, error="a\nb" * 900, explanation="c\x00\nd" * 9000)
    )
    ((recipient, text, report),) = await rows(
        harness, f"SELECT recipient, text, report FROM bounces WHERE bounce_id = {number}"
    )
    assert recipient.startswith("no address   X: y z")
    assert (len(recipient), len(text)) == (1000, 1000)
    assert "\n" not in text
    assert "\x00" not in report
    assert len(report) < 30_000


async def test_a_server_that_is_gone_keeps_nothing(harness: Harness) -> None:
    server = await a_server(harness)
    gone = ApiError(server.account_id, ServerId(999), "outbound", ["a@example.net"], "No.", "", 406)
    with pytest.raises(NotFound):
        await api_errors.record(harness.ctx, gone)
    assert await rows(harness, "SELECT COUNT(*) FROM bounces") == [(0,)]
