"""A person tries again, sends again or settles: what each may do, what it refuses, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.actions import by_hand
from postroom.actions.context import Actor
from postroom.actions.messages import cancel_message
from postroom.actions.pauses import Target, pause, resume
from postroom.actions.suppressions import suppress_one
from postroom.clock import MICROS
from postroom.core.message import DeliveryState, Purpose, SettledAs
from postroom.core.server import Owner
from postroom.engine.explain import explain
from postroom.engine.retry import Policy
from postroom.errors import Conflict, NotFound
from postroom.ids import AccountId
from tests.support import seed_rows
from tests.support.acting import context
from tests.support.engine import QUICK, bench, sink
from tests.support.sink import Received
from tests.support.stores import on_both

pytestmark = on_both

ACTOR = Actor("Ada")
OWNER = Owner(seed_rows.ACCOUNT, whole_account=True)
STRANGER = Owner(AccountId(2), whole_account=True)
PATIENT = replace(QUICK, policy=Policy(unknown_wait_s=600))


async def test_a_deferred_delivery_is_tried_at_once(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        message = await post.send(Purpose.TRANSACTIONAL, ["defer451+once@example.net", "fine@example.net"])
        await post.until(lambda s: s == {"ready": 1, "sent": 1})
        rows = await post.rows("SELECT due FROM deliveries WHERE state = 'ready'")
        assert rows[0][0] > post.clock.now_us() + 60 * MICROS
        done = await by_hand.retry(context(post), ACTOR, OWNER, str(message))
        assert done.done == (1,)
        assert [(one.state, one.why) for one in done.left_alone] == [
            (DeliveryState.SENT, "it went out; resend sends it again")
        ]
        assert await post.until_settled() == {"sent": 2}
        assert await post.rows("SELECT tries FROM deliveries WHERE delivery_id = 1") == [(1,)]


async def test_a_bounced_delivery_gets_a_new_try_and_a_suppressed_one_none(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        message = await post.send(
            Purpose.TRANSACTIONAL, ["bounce554.5.0+once@example.net", "bounce550.1.1@example.net"]
        )
        assert await post.until_settled() == {"bounced": 2}
        ctx = context(post)
        done = await by_hand.retry(ctx, ACTOR, OWNER, str(message))
        assert done.done == (1,)
        assert [one.why for one in done.left_alone] == ["its address is suppressed (hard_bounce)"]
        assert await post.until_settled() == {"sent": 1, "bounced": 1}
        with pytest.raises(Conflict) as caught:
            await by_hand.resend(ctx, ACTOR, OWNER, str(message), "bounce550.1.1@example.net")
        assert str(caught.value) == "bounced: its address is suppressed (hard_bounce)"


async def test_what_bounced_after_an_unknown_outcome_is_not_called_a_retry(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        message = await post.send(Purpose.TRANSACTIONAL, ["bounce554.5.0@example.net"])
        assert await post.until_settled() == {"bounced": 1}
        await post.do("UPDATE deliveries SET resends = 1")
        with pytest.raises(Conflict, match="an earlier try may have gone out"):
            await by_hand.retry(context(post), ACTOR, OWNER, str(message))


async def test_what_is_resent_is_a_second_copy_on_purpose(tmp_path: Path) -> None:
    seen: list[Received] = []
    async with sink(tmp_path, seen.append) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        message = await post.send(Purpose.BROADCAST, ["a@example.net", "b@example.net"])
        assert await post.until_settled() == {"sent": 2}
        ctx = context(post)
        done = await by_hand.resend(ctx, ACTOR, OWNER, str(message), "B@example.net".lower())
        assert done.done == (2,)
        await post.until(lambda s: s == {"sent": 2} and len(seen) == 3)
        assert [one.recipients for one in seen].count(("b@example.net",)) == 2
        ids = {line for one in seen for line in one.content.splitlines() if b"Message-ID" in line}
        assert len(ids) == 1
        assert await post.rows("SELECT copies FROM deliveries ORDER BY delivery_id") == [(1,), (2,)]
        told = (await explain(ctx, post.engine, OWNER, str(message))).deliveries
        assert told[0].by_hand == ()
        assert [(one.did, one.by) for one in told[1].by_hand] == [("resent", "Ada")]
        rows = await post.rows("SELECT actor, action, target, detail FROM audit")
        assert rows[0][:3] == ("Ada", "message.resend", f"message {message}")
        assert json.loads(rows[0][3]) == {"deliveries": [2]}


async def test_an_unknown_one_may_be_settled_either_way_or_sent_again(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path, settings=PATIENT) as post:
        await post.connection(out.port)
        people = [f"drop+dot+{number}@example.net" for number in range(3)]
        message = await post.send(Purpose.TRANSACTIONAL, people)
        await post.until(lambda s: s["unknown"] == 3)
        ctx = context(post)
        with pytest.raises(Conflict) as caught:
            await by_hand.retry(ctx, ACTOR, OWNER, str(message))
        assert str(caught.value) == "unknown: it may have gone out; resend it, or settle it"
        await by_hand.settle(ctx, ACTOR, OWNER, str(message), SettledAs.SENT, people[0])
        await by_hand.settle(ctx, ACTOR, OWNER, str(message), SettledAs.FAILED, people[1])
        await by_hand.resend(ctx, ACTOR, OWNER, str(message), people[2])
        # The peer breaks off again; a person's resend counts as one of the two there are.
        await post.until(lambda s: s == {"sent": 1, "bounced": 1, "unknown": 1})
        rows = await post.rows("SELECT reason, resends FROM deliveries ORDER BY delivery_id")
        assert rows[0] == ("settled as sent by Ada", 0)
        assert rows[1] == ("settled as failed by Ada", 0)
        assert rows[2][1] == 1
        assert await post.rows("SELECT delivery_id FROM unknowns") == [(3,)]
        with pytest.raises(Conflict) as caught:
            await by_hand.settle(ctx, ACTOR, OWNER, str(message), SettledAs.SENT, people[0])
        assert str(caught.value) == "sent: what became of it is known"


async def test_a_resend_that_is_cancelled_does_not_unsay_what_went_out(tmp_path: Path) -> None:
    """What went out once is sent, what may have is unverified; neither is called cancelled."""
    async with sink(tmp_path) as out, bench(tmp_path, settings=PATIENT) as post:
        connection = await post.connection(out.port)
        message = await post.send(Purpose.TRANSACTIONAL, ["a@example.net", "drop+dot@example.net"])
        await post.until(lambda s: s == {"sent": 1, "unknown": 1})
        await post.do("UPDATE connections SET enabled = 0")
        post.engine.connection_changed(connection)
        await post.until(lambda _: post.engine._runners[connection].off)
        ctx = context(post)
        await by_hand.resend(ctx, ACTOR, OWNER, str(message))
        assert await post.states() == {"ready": 2}
        done = await cancel_message(ctx, ACTOR, OWNER, str(message))
        assert (done.cancelled, done.past_dot) == ((), (1, 2))
        assert await post.states() == {"sent": 1, "unverified": 1}


@pytest.mark.parametrize("act", [by_hand.retry, by_hand.resend])
async def test_what_cannot_be_is_refused_with_its_reason(tmp_path: Path, act: object) -> None:
    assert callable(act)
    async with bench(tmp_path) as post:
        ctx = context(post)
        message = str(await post.send(Purpose.TRANSACTIONAL, ["a@example.net"]))
        for state in ("cancelled", "suppressed", "captured", "claimed", "ready"):
            await post.do("UPDATE deliveries SET state = :s", s=state)
            with pytest.raises(Conflict) as caught:
                await act(ctx, ACTOR, OWNER, message)
            assert str(caught.value).startswith(f"{state}: ")
        for owner, name, recipient in (
            (STRANGER, message, None),
            (OWNER, "77", None),
            (OWNER, message, "b@example.net"),
            (OWNER, message, "no address \x00"),
        ):
            with pytest.raises(NotFound):
                await act(ctx, ACTOR, owner, name, recipient)
        await post.do("DELETE FROM contents")
        with pytest.raises(Conflict, match="not kept any more"):
            await act(ctx, ACTOR, OWNER, message)
        await post.do("UPDATE servers SET deleted_at = 1")
        with pytest.raises(Conflict, match="server was deleted"):
            await act(ctx, ACTOR, OWNER, message)
        assert await post.rows("SELECT 1 FROM audit") == []


async def test_what_went_out_once_is_not_called_suppressed_when_a_resend_finds_its_address_so(
    tmp_path: Path,
) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        connection = await post.connection(out.port)
        sent = await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        unsure = await post.send(Purpose.BROADCAST, ["drop+dot@example.net"])
        fresh = await post.send(Purpose.TRANSACTIONAL, ["b@example.net"])
        assert await post.until_settled() == {"sent": 2, "unverified": 1}
        ctx = context(post)
        await pause(ctx, ACTOR, Target.connection(OWNER, connection))
        await by_hand.resend(ctx, ACTOR, OWNER, str(sent))
        await by_hand.resend(ctx, ACTOR, OWNER, str(unsure))
        await post.do("UPDATE deliveries SET copies = 0 WHERE message_id = :m", m=fresh)
        await by_hand.resend(ctx, ACTOR, OWNER, str(fresh))
        for address in ("a@example.net", "drop+dot@example.net", "b@example.net"):
            await suppress_one(ctx, ACTOR, OWNER, seed_rows.SERVER, address)
        await resume(ctx, ACTOR, Target.connection(OWNER, connection))
        await post.until_settled()
        rows = await post.rows("SELECT message_id, state, reason FROM deliveries")
        text = "the address was suppressed while the message waited"
        assert sorted(rows) == [
            (sent, "sent", text),
            (unsure, "unverified", text),
            (fresh, "suppressed", text),
        ]
        # The session that was dropped may have given one back that it had not begun.
        assert len(await post.rows("SELECT 1 FROM attempts WHERE result <> 'returned'")) == 3
