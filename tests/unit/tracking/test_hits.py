"""Opens and clicks on their way to the database: what is counted, what becomes an event, what bounds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from postroom.actions import accounts, identities, servers
from postroom.actions.accept import Submission, accept_message
from postroom.actions.context import Context
from postroom.actions.hits import MOST_EVENTS, MOST_TEXT, Hit, record
from postroom.core.message import Purpose
from postroom.core.server import Owner
from postroom.errors import Unavailable
from postroom.ids import DeliveryId
from postroom.mail.content import Mailbox
from postroom.storage.interface import Rows, Sql, Work
from postroom.tracking import hits as hits_module
from postroom.tracking.hits import BURST_LINKS, WAIT_S, Hits
from tests.support.clock import FakeClock
from tests.support.context import ACTOR, make_harness
from tests.support.stores import on_both

pytestmark = on_both


@dataclass
class Post:
    """A recorder, and two deliveries of one message."""

    ctx: Context
    clock: FakeClock
    hits: Hits
    owner: Owner
    ann: DeliveryId
    bob: DeliveryId

    def hit(self, link: int | None = None, who: DeliveryId | None = None, **more: object) -> Hit:
        made = Hit(who or self.ann, link, self.clock.now_us(), "Mail/1", "203.0.113.7")
        return replace(made, **more)  # type: ignore[arg-type]  # its fields

    async def rows(self, text: str) -> Rows:
        def work() -> Work[Rows]:
            return (yield Sql(text))

        return await self.ctx.store.read(work)

    async def events(self) -> list[tuple[str, DeliveryId, Mapping[str, object]]]:
        """Of opens and clicks, in order."""
        rows = await self.rows(
            "SELECT kind, delivery_id, data FROM events WHERE kind IN ('opened', 'clicked') ORDER BY event_id"
        )
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    async def counted(self) -> dict[tuple[DeliveryId, int], tuple[int, int]]:
        """(people, machines) by delivery and link."""
        rows = await self.rows("SELECT delivery_id, link, people, machines FROM hits")
        return {(row[0], row[1]): (row[2], row[3]) for row in rows}


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with make_harness(tmp_path) as harness:
        ctx = harness.ctx
        account = await accounts.create_account(ctx, ACTOR, "Acme")
        shop = await servers.create_server(
            ctx, ACTOR, account.account_id, "Shop", default_sender="a@shop.example"
        )
        await identities.trust(ctx, ACTOR, "shop.example", account.account_id)
        to = [Mailbox("ann@example.net"), Mailbox("bob@example.net")]
        accepted = await accept_message(
            ctx, Submission(account.account_id, shop.server_id, Purpose.TRANSACTIONAL, "test", to, text="x")
        )
        (ann, _, _), (bob, _, _) = accepted.deliveries
        hits = Hits(ctx)
        try:
            yield Post(ctx, harness.clock, hits, Owner(account.account_id, shop.server_id), ann, bob)
        finally:
            await hits.stop()


async def test_an_event_says_who_where_and_whether_it_was_the_first(post: Post) -> None:
    post.hits.note(post.hit())
    post.hits.note(post.hit(4, in_text=True))
    await post.hits.write(everything=True)
    post.hits.note(post.hit())
    await post.hits.write(everything=True)
    said = {"user_agent": "Mail/1", "source": "203.0.113.7"}
    assert await post.events() == [
        ("opened", post.ann, {"first": True, **said}),
        ("clicked", post.ann, {"first": True, **said, "link": 4, "part": "text"}),
        ("opened", post.ann, {"first": False, **said}),
    ]
    assert await post.counted() == {(post.ann, 0): (2, 0), (post.ann, 5): (1, 0)}
    assert post.ctx.tally.hits == {("open", "person"): 2, ("click", "person"): 1}


async def test_recipients_and_links_are_counted_apart(post: Post) -> None:
    for hit in (post.hit(1), post.hit(2), post.hit(1, post.bob), post.hit(None, post.bob)):
        post.hits.note(hit)
    await post.hits.write(everything=True)
    assert [(kind, who, data["first"]) for kind, who, data in await post.events()] == [
        ("clicked", post.ann, True),
        ("clicked", post.ann, True),
        ("clicked", post.bob, True),
        ("opened", post.bob, True),
    ]


async def test_a_machine_is_never_the_first(post: Post) -> None:
    post.hits.note(post.hit(machine="head"))
    await post.hits.write(everything=True)
    post.hits.note(post.hit())
    await post.hits.write(everything=True)
    assert [(data.get("machine"), data["first"]) for _, _, data in await post.events()] == [
        ("head", False),
        (None, True),
    ]
    assert await post.counted() == {(post.ann, 0): (1, 1)}


async def test_k7_many_links_within_two_seconds_are_a_scanner_s(post: Post) -> None:
    post.hits.note(post.hit())
    for link in range(BURST_LINKS + 1):
        post.hits.note(post.hit(link))
    for link in range(BURST_LINKS - 1):
        post.hits.note(post.hit(link, post.bob))
    await post.hits.write(everything=True)
    clicks = [(who, data.get("machine")) for kind, who, data in await post.events() if kind == "clicked"]
    assert clicks == [(post.ann, "burst")] * (BURST_LINKS + 1) + [(post.bob, None)] * (BURST_LINKS - 1)


async def test_k7_the_same_link_again_or_links_one_by_one_are_a_person_s(post: Post) -> None:
    for link in range(BURST_LINKS + 2):
        post.hits.note(post.hit(link))
        post.hits.note(post.hit(link))
        post.clock.advance(WAIT_S)
        await post.hits.write()
    assert [data.get("machine") for _, _, data in await post.events()] == [None] * (BURST_LINKS + 2)


async def test_what_is_young_waits(post: Post) -> None:
    post.hits.note(post.hit())
    await post.hits.write()
    assert await post.events() == []
    post.clock.advance(WAIT_S)
    await post.hits.write()
    assert len(await post.events()) == 1


async def test_k8_ten_thousand_hits_on_one_pixel_are_one_row_and_one_event(post: Post) -> None:
    for _ in range(10_000):
        post.hits.note(post.hit())
    await post.hits.write(everything=True)
    ((_, _, data),) = await post.events()
    assert (data["first"], data["times"]) == (True, 10_000)
    assert await post.counted() == {(post.ann, 0): (10_000, 0)}


async def test_k8_events_of_one_pixel_end_and_counting_goes_on(post: Post) -> None:
    for _ in range(MOST_EVENTS + 10):
        await record(post.ctx, [post.hit()])
    assert len(await post.events()) == MOST_EVENTS
    assert await post.counted() == {(post.ann, 0): (MOST_EVENTS + 10, 0)}


async def test_k8_what_waits_is_bounded_and_the_rest_is_counted(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits_module, "MOST_WAITING", 5)
    for number in range(20):
        post.hits.note(post.hit(who=DeliveryId(1_000_000 + number)))
    assert post.ctx.tally.hits_dropped == 15
    await post.hits.write(everything=True)
    post.hits.note(post.hit())
    await post.hits.write(everything=True)
    assert [who for _, who, _ in await post.events()] == [post.ann]  # the others belong to nobody


async def test_a_large_number_is_written_in_slices(post: Post) -> None:
    for number in range(250):
        post.hits.note(post.hit(who=DeliveryId(1_000_000 + number)))
    post.hits.note(post.hit())
    await post.hits.write(everything=True)
    assert len(await post.events()) == 1


async def test_a_long_user_agent_is_cut(post: Post) -> None:
    await record(post.ctx, [post.hit(user_agent="x" * 100_000)])
    ((_, _, data),) = await post.events()
    assert data["user_agent"] == "x" * MOST_TEXT


async def test_a_deleted_server_s_mail_is_counted_no_more(post: Post) -> None:
    assert post.owner.server_id is not None
    await servers.delete_server(post.ctx, ACTOR, post.owner, post.owner.server_id)
    await record(post.ctx, [post.hit()])
    assert await post.events() == []
    assert await post.counted() == {}


async def test_while_nothing_can_be_written_hits_wait(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("the disk is full")

    post.hits.note(post.hit())
    with monkeypatch.context() as patched:
        patched.setattr(hits_module, "record", refuse)
        with pytest.raises(Unavailable):
            await post.hits.write(everything=True)
        post.hits.note(post.hit())
    await post.hits.write(everything=True)
    ((_, _, data),) = await post.events()
    assert data["times"] == 2


async def test_what_waits_is_written_at_the_stop(post: Post) -> None:
    post.hits.note(post.hit())
    await post.hits.stop()
    assert len(await post.events()) == 1


async def test_a_fault_of_ours_drops_what_it_met_and_ends_nothing(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(hits_module, "record", fail)
        post.hits.note(post.hit())
        await post.hits.write(everything=True)
    assert post.ctx.tally.hits_dropped == 1
    assert "could not be written" in caplog.text
    post.hits.note(post.hit())
    await post.hits.write(everything=True)
    assert len(await post.events()) == 1


async def test_two_processes_count_one_delivery_once_each(post: Post) -> None:
    await asyncio.gather(
        *(record(post.ctx, [post.hit(), post.hit(1), post.hit(who=post.bob)]) for _ in range(8))
    )
    assert await post.counted() == {(post.ann, 0): (8, 0), (post.ann, 2): (8, 0), (post.bob, 0): (8, 0)}
    firsts = [(kind, who) for kind, who, data in await post.events() if data["first"]]
    assert sorted(firsts) == sorted([("opened", post.ann), ("clicked", post.ann), ("opened", post.bob)])
