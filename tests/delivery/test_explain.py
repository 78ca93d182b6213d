"""Explaining: every attempt and every candidate, from what was stored."""

from __future__ import annotations

import asyncio
import re
import shlex
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import typer

from postroom.cli.app import app
from postroom.clock import to_iso
from postroom.core.message import DeliveryState, Purpose
from postroom.core.server import Owner
from postroom.engine.explain import explain
from postroom.engine.queue_view import Wanted, show_queue
from postroom.engine.reasons import MEANING, next_step, next_steps
from postroom.engine.router import load_decision
from postroom.engine.routing import Candidate, Facts, Judged, Paused, Reason, decide
from tests.support.acting import context
from tests.support.clock import FakeClock
from tests.support.engine import QUICK, bench, sink
from tests.support.seed_rows import ACCOUNT

DOCS = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()


def test_every_reason_has_a_meaning_and_a_row_in_the_docs() -> None:
    assert set(MEANING) == set(Reason)
    rows = set(re.findall(r"^\| `(\w+)` \|", DOCS.split("## Reasons")[1], re.M))
    assert rows == {one.value for one in Reason}


def test_every_state_has_a_row_in_the_docs() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", DOCS.split("## Reasons")[0], re.M))
    assert rows == {one.value for one in DeliveryState}


GOOD = {"purposes": ("transactional",), "hour_room": 10, "day_room": 10, "enabled": True}
LATER = 2_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"deleted": True}, Reason.DELETED),
        ({"enabled": False}, Reason.SWITCHED_OFF),
        ({"failed_at": 5}, Reason.FAILED),
        ({"disabled_at": 5}, Reason.DISABLED),
        ({"held_until": LATER}, Reason.HELD),
        ({"backoff_until": LATER}, Reason.BACKING_OFF),
        ({"sender_refused_until": LATER}, Reason.REFUSES_SENDER),
        ({"purposes": ("broadcast",)}, Reason.PURPOSE_NOT_ALLOWED),
        ({"has_transport": False}, Reason.NO_TRANSPORT),
        ({"hour_room": 0}, Reason.HOUR_FULL),
        ({"day_room": 0}, Reason.DAY_FULL),
        ({"held_until": 500, "backoff_until": 500, "sender_refused_until": 500}, Reason.CHOSEN),
    ],
)
def test_each_fact_gives_its_reason(change: dict[str, object], reason: Reason) -> None:
    one = Candidate(1, "a", **{**GOOD, **change})  # type: ignore[arg-type]  # the fields by name
    decision = decide(Facts(1_000, "transactional", "s@example.com", True, None, (one,)))
    assert decision.reason_for(1) is reason
    assert decision.chosen == ((1,) if reason is Reason.CHOSEN else ())


async def test_a_failed_connection_is_told_with_its_cause_and_when_it_is_tried_again(tmp_path: Path) -> None:
    clock = FakeClock()
    settings = replace(QUICK, failed_after_s=0.1, probe_every_s=600.0)
    async with bench(tmp_path, clock=clock, settings=settings) as post:
        connection = await post.connection(1)  # nobody listens there
        message = await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        ctx = context(post)
        owner = Owner(ACCOUNT, whole_account=True)
        async with asyncio.timeout(10.0):
            while (route := post.engine.runners.get(connection)) is None or route.route.failed_at is None:
                clock.advance(0.05)
                await asyncio.sleep(0.005)
        found_us = clock.now_us()
        clock.advance(100.0)
        (delivery,) = (await explain(ctx, post.engine, owner, str(message))).deliveries
        (told,) = delivery.candidates
        assert (told.reason, told.until) == ("failed", to_iso(found_us + 600_000_000))
        assert "refused" in told.meaning.partition(": ")[2]
        assert delivery.waits_for is not None
        # Without an engine there is nobody to try it again.
        (delivery,) = (await explain(ctx, None, owner, str(message))).deliveries
        assert delivery.candidates[0].until is None


async def test_one_that_backs_off_is_told_with_what_was_said_and_what_to_do(tmp_path: Path) -> None:
    clock = FakeClock()
    async with bench(tmp_path, clock=clock, settings=replace(QUICK, backoff_first_s=60.0)) as post:
        connection = await post.connection(1)  # nobody listens there
        message = await post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        ctx = context(post)
        async with asyncio.timeout(10.0):
            while not post.engine.health_of(connection).backoff_until:
                await asyncio.sleep(0.005)
        owner = Owner(ACCOUNT, whole_account=True)
        (delivery,) = (await explain(ctx, post.engine, owner, str(message))).deliveries
        (told,) = delivery.candidates
        assert told.reason == "backing_off"
        assert "refused" in told.meaning
        assert delivery.next_steps == (told.next_step,) == (f"postroom connection test {connection}",)
        seen = await show_queue(ctx, post.engine, Wanted())
        assert "refused" in seen.connections[0].trouble
        assert seen.lanes[0].next_steps == delivery.next_steps


def _commands(group: object) -> dict[str, object]:
    return getattr(group, "commands", {})


@pytest.mark.parametrize("reason", list(Reason))
def test_each_next_step_is_a_command_that_exists(reason: Reason) -> None:
    facts = Facts(0, "broadcast", "o'hara@example.com", False, None, (Candidate(7, "a"),))
    step = next_step(Judged(7, reason), facts, 3)
    if step is None:
        return
    program, *words = shlex.split(step)
    assert program == "postroom"
    found: object = typer.main.get_command(app)
    while words and words[0] in _commands(found):
        found = _commands(found)[words.pop(0)]
    known = {name for one in getattr(found, "params", ()) for name in (*one.opts, *one.secondary_opts)}
    assert not _commands(found)
    assert {word for word in words if word.startswith("--")} <= known
    if reason is Reason.SENDER_NOT_PROVEN:
        assert words == ["o'hara@example.com", "--server", "3"]


def test_what_to_do_is_said_only_where_nothing_may_send() -> None:
    good = Candidate(1, "a", **GOOD)  # type: ignore[arg-type]  # the fields by name
    off, paused = replace_fields(good, 2, enabled=False), replace_fields(good, 3, paused=Paused(0, "Ada", ""))
    facts = Facts(1_000, "transactional", "s@example.com", True, None, (good, off))
    assert next_steps(facts, decide(facts), 1) == ()
    facts = Facts(1_000, "transactional", "s@example.com", True, None, (off, paused))
    assert next_steps(facts, decide(facts), 1) == (
        "postroom connection update 2 --enabled",
        "postroom connection resume 3",
    )
    facts = Facts(1_000, "transactional", "s@example.com", False, None, (off, paused))
    assert next_steps(facts, decide(facts), 1) == ("postroom identity trust s@example.com --server 1",)
    facts = Facts(1_000, "transactional", "s@example.com", True, None, ())
    assert next_steps(facts, decide(facts), 4) == ("postroom connection create --server 4",)


def replace_fields(one: Candidate, connection_id: int, **change: object) -> Candidate:
    fields = msgspec.structs.asdict(one) | {"connection_id": connection_id} | change
    return Candidate(**fields)


def test_rank_is_by_preference_then_room_then_number() -> None:
    rooms = {1: 5, 2: 9, 3: 9}
    several = tuple(
        Candidate(n, str(n), purposes=("broadcast",), hour_room=room, day_room=100)
        for n, room in rooms.items()
    )
    facts = Facts(0, "broadcast", "s@example.com", True, None, several)
    assert decide(facts).chosen == (2, 3, 1)
    assert decide(facts).reason_for(3) is Reason.ALSO_ELIGIBLE
    preferred = Facts(0, "broadcast", "s@example.com", True, 1, several)
    assert decide(preferred).chosen == (1, 2, 3)


def test_an_unproven_sender_is_sent_by_nobody() -> None:
    one = Candidate(1, "a", **GOOD)  # type: ignore[arg-type]  # the fields by name
    decision = decide(Facts(0, "transactional", "s@example.com", False, None, (one,)))
    assert decision.chosen == ()
    assert decision.reason_for(1) is Reason.SENDER_NOT_PROVEN


async def test_an_attempts_decision_is_stored_with_facts_that_decide_the_same(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        chosen = await post.connection(out.port, hourly_cap=1000)
        other = await post.connection(out.port, hourly_cap=15)
        await post.do("UPDATE connections SET enabled = 0 WHERE connection_id = :c", c=other)
        post.engine.connection_changed(other)
        await post.send(Purpose.TRANSACTIONAL, ["someone@example.net"])
        assert await post.until_settled() == {"sent": 1}
        rows = await post.rows("SELECT decision_id, connection_id FROM attempts")
        stored = await post.store.read(lambda: load_decision(ACCOUNT, rows[0][0]))
        assert stored is not None
        facts, decision = stored
        assert decide(facts) == decision
        assert decision.chosen[0] == chosen == rows[0][1]
        assert decision.reason_for(other) is Reason.SWITCHED_OFF
