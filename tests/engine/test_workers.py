"""Several deliver processes on one database: shares, deaths, hangs, leases; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.engine.settings import Leases
from postroom.engine.settle import Ended
from tests.support.crowd import Crowd, crowd
from tests.support.engine import sink
from tests.support.sink import copies, read_log
from tests.support.stores import on_both

B, T = Purpose.BROADCAST, Purpose.TRANSACTIONAL
LEASE_S = Leases().lease_s
pytestmark = on_both


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Crowd]:
    """Nobody is at work yet."""
    async with crowd(tmp_path) as made:
        yield made


def people(count: int, name: str = "r") -> list[str]:
    return [f"{name}{number}@example.net" for number in range(count)]


async def test_several_share_the_mail_and_its_sessions(many: Crowd, tmp_path: Path) -> None:
    async with sink(tmp_path) as out:
        engines = [await many.join() for _ in range(3)]
        await many.connection(out.port)
        await many.pass_time(15, *engines)  # each knows how many there are
        for _ in range(10):
            await many.send(B, people(20))
        assert await many.until_settled(flows=True) == {"sent": 200}
        assert set(copies(read_log(out.options.log)).values()) == {1}
        assert out.most_open <= many.settings.sessions_per_connection
        by_worker = await many.rows("SELECT worker_id, COUNT(*) FROM attempts GROUP BY worker_id")
        assert len(by_worker) > 1


async def test_who_comes_first_leaves_the_others_their_part_of_the_sessions(
    many: Crowd, tmp_path: Path
) -> None:
    """Of mail that may use the session kept for it, too: else two of three had them all."""
    async with sink(tmp_path) as out:
        engines = [await many.join() for _ in range(3)]
        await many.connection(out.port)
        await many.pass_time(15, *engines)  # each knows how many there are
        await many.send(T, [f"hang+{number}@example.net" for number in range(30)], engines[0])

        def parts() -> list[int]:
            return [engine.open_sessions for engine in engines]

        await many.until(lambda _: parts()[0] > 1 and out.most_open == parts()[0])
        many.clock.advance(2)
        for engine in engines:
            await engine.looking.reread()
            engine.pump()
        await many.until(lambda _: parts() == [2, 1, 1], flows=True)
        assert many.settings.sessions_per_connection == 4


async def test_caps_are_exact_over_all_of_them(many: Crowd, tmp_path: Path) -> None:
    async with sink(tmp_path) as out:
        engines = [await many.join() for _ in range(3)]
        await many.connection(out.port, hourly_cap=25)
        await many.send(B, people(60))
        for now in (25, 50):
            await many.until(lambda states, now=now: states["sent"] == now, flows=True)  # type: ignore[misc]  # bound at once
            assert out.accepted == now
            await many.pass_time(3660, *engines, step_s=60)
        assert await many.until_settled(flows=True) == {"sent": 60}


async def test_what_a_killed_one_left_comes_back_by_its_journal(many: Crowd, tmp_path: Path) -> None:
    """No lease has to run out for it: its journal's lock is free."""
    async with sink(tmp_path) as out:
        dead = await many.join()
        many.hang(dead)
        await many.connection(out.port)
        await many.send(B, people(6))
        await many.until(lambda states: states["claimed"] > 0)
        await many.kill(dead)
        living = await many.join()
        assert await many.until_settled() == {"sent": 6}
        assert set(copies(read_log(out.options.log)).values()) == {1}
        assert len(await many.open_workers()) == 1
        assert living.epoch == 1
        assert await many.rows("SELECT COUNT(*) FROM slots") == [(many_sessions(many),)]


def many_sessions(many: Crowd) -> int:
    return sum(engine.open_sessions for engine in many.engines)


async def test_a_living_sibling_finds_the_journal_of_one_that_was_killed(many: Crowd, tmp_path: Path) -> None:
    async with sink(tmp_path) as out:
        dead, living = await many.join(), await many.join()
        many.hang(dead)
        await many.connection(out.port)
        await many.send(B, people(6), dead)
        await many.until(lambda states: states["claimed"] > 0)
        await many.kill(dead)
        await many.pass_time(3, living)
        assert await many.until_settled() == {"sent": 6}
        assert set(copies(read_log(out.options.log)).values()) == {1}
        assert len(list((tmp_path / "here").glob("*.journal"))) == 1


async def test_a_lost_machines_mail_is_unknown_after_its_lease(many: Crowd, tmp_path: Path) -> None:
    """Its journal is out of reach: transactional mail is sent again, other mail counts as sent."""
    async with sink(tmp_path) as out:
        dead, living = await many.join("there"), await many.join("here")
        many.hang(dead)
        await many.connection(out.port)
        await many.send(B, people(1), dead)
        await many.send(T, people(1, "t"), dead)
        await many.until(lambda states: states["claimed"] == 2)
        await many.kill(dead)
        await many.pass_time(LEASE_S, living)
        assert (await many.states())["claimed"] == 2  # watched for a whole lease, from the first look on
        await many.pass_time(15, living)
        await many.until(lambda states: states == {"unverified": 1, "unknown": 1})
        many.clock.advance(1)
        await many.until(lambda states: states == {"unverified": 1, "sent": 1})
        assert [record.recipient for record in read_log(out.options.log)] == ["t0@example.net"]
        assert len(await many.open_workers()) == 1
        assert not await many.rows(
            "SELECT 1 FROM slots WHERE worker_id NOT IN"
            " (SELECT worker_id FROM workers WHERE ended_at IS NULL)"
        )


async def test_what_is_unknown_to_one_is_sent_again_in_time_by_the_one_that_leads(
    many: Crowd, tmp_path: Path
) -> None:
    """It hears of nothing, and reads everything anew only after half a minute."""
    async with sink(tmp_path) as out:
        leading, other = await many.join(), await many.join()
        await many.connection(out.port)
        await many.pass_time(1, leading, other)
        assert leading.terms.membership.leads
        await many.send(T, ["drop+dot+once@example.net"], other)
        await many.until(lambda states: states == {"unknown": 1})
        many.clock.advance(1)
        await many.until(lambda states: states == {"sent": 1})


async def test_one_that_hangs_sends_nothing_when_it_wakes_and_begins_anew(
    many: Crowd, tmp_path: Path
) -> None:
    """It was stopped for three leases. On its own host its journal shows that nothing had left."""
    async with sink(tmp_path) as out:
        hung, living = await many.join(), await many.join()
        goes_on = many.hang(hung)
        await many.connection(out.port)
        await many.send(B, people(4), hung)
        await many.until(lambda states: states["claimed"] > 0)
        await many.pass_time(3 * LEASE_S, living)
        assert await many.until_settled() == {"sent": 4}
        goes_on.set()
        await many.until(lambda _: hung.terms.present is not None and not hung.fenced)
        assert hung.terms.present is not None
        assert hung.terms.present.worker.worker_id == 3
        await many.send(B, people(6, "later"))
        assert await many.until_settled() == {"sent": 10}
        assert set(copies(read_log(out.options.log)).values()) == {1}


async def test_news_of_one_that_hung_elsewhere_correct_what_was_given_up(many: Crowd, tmp_path: Path) -> None:
    """Nobody could read its journal, so its mail was taken for sent; it was not, as it says when it wakes."""
    async with sink(tmp_path) as out:
        hung, living = await many.join("there"), await many.join("here")
        goes_on = many.hang(hung)
        await many.connection(out.port)
        await many.send(B, people(2), hung)
        await many.until(lambda states: states["claimed"] > 0)
        await many.pass_time(3 * LEASE_S, living)
        assert await many.until_settled() == {"unverified": 2}
        goes_on.set()
        assert await many.until(lambda states: states == {"sent": 2}) == {"sent": 2}
        assert set(copies(read_log(out.options.log)).values()) == {1}


async def test_late_news_that_it_was_sent_stops_the_second_try(many: Crowd, tmp_path: Path) -> None:
    """Its host lost the database after the dot; the mail is about to be sent again when it is back."""
    async with sink(tmp_path) as out:
        first, second = await many.join("there"), await many.join("here")
        first.tell_overtaken = second.overtaken
        await many.connection(out.port)
        assert first.terms.present is not None
        put, late = first.terms.present.settler.put, list[tuple[Ended, Callable[[], None]]]()
        first.terms.present.settler.put = lambda *one: late.append(one)  # type: ignore[method-assign]
        await many.send(T, people(1), first)
        await many.until(lambda _: bool(late))
        first.looking.look = _cut_off  # type: ignore[method-assign]
        await many.pass_time(LEASE_S + 30, second)
        goes_on = many.hang(second, looks=True)
        while not await many.rows("SELECT 1 FROM attempts WHERE result = 'unknown'"):
            await asyncio.sleep(0.01)
        many.clock.advance(1)
        while len(await many.rows("SELECT 1 FROM attempts")) < 2:  # it is on its way once more
            await asyncio.sleep(0.01)
        for one in late:
            put(*one)
        while not await many.rows("SELECT 1 FROM deliveries WHERE copies = 1"):
            await asyncio.sleep(0.01)
        goes_on.set()
        assert await many.until_settled() == {"sent": 1}
        assert out.accepted == 1
        assert await many.rows("SELECT result FROM attempts ORDER BY attempt_id") == [
            ("sent",),
            ("returned",),
        ]


async def _cut_off() -> None:
    """It can look at nothing."""


async def test_after_a_stall_of_the_database_everybody_lives(many: Crowd, tmp_path: Path) -> None:
    engines = [await many.join() for _ in range(3)]
    await many.pass_time(45, *engines)
    before = await many.open_workers()
    many.clock.advance(60)  # shorter than the lease: nobody could renew
    await many.pass_time(60, *engines)
    assert await many.open_workers() == before
    many.clock.advance(200)  # longer: everybody begins anew, and nobody takes anybody for dead
    await many.until(lambda _: not any(engine.fenced for engine in engines))
    while len(await many.open_workers()) > 3:  # the former ones end
        await asyncio.sleep(0.01)
    await many.pass_time(150, *engines)
    epochs = await many.rows("SELECT worker_id FROM workers WHERE epoch > 2")
    assert epochs == []
    assert len(await many.open_workers()) == 3


async def test_a_process_that_could_not_renew_cuts_its_sessions_and_begins_anew(
    many: Crowd, tmp_path: Path
) -> None:
    async with sink(tmp_path) as out:
        only = await many.join()
        await many.connection(out.port)
        await many.send(B, people(3))
        await many.until_settled()
        many.clock.advance(LEASE_S - Leases().lease_margin_s - 0.001)
        assert not only.fenced
        many.clock.advance(0.001)
        assert only.fenced
        await many.until(lambda _: not only.fenced)
        await many.send(B, people(3, "later"))
        assert await many.until_settled() == {"sent": 6}
        await many.until(lambda _: only.open_sessions >= 0)


async def test_what_is_past_its_dot_when_the_lease_ends_is_heard_out(many: Crowd, tmp_path: Path) -> None:
    """Cut, it would be unknown, and be sent again."""
    async with sink(tmp_path, delay_s=0.3) as out:
        only = await many.join()
        await many.connection(out.port)
        await many.send(T, people(2))
        await many.until(lambda _: out.accepted > 0)
        many.clock.advance(LEASE_S)
        await many.until(lambda _: not only.fenced)
        assert await many.until_settled(flows=True) == {"sent": 2}
        assert set(copies(read_log(out.options.log)).values()) == {1}
        assert await many.rows("SELECT COUNT(*) FROM attempts WHERE result = 'unknown'") == [(0,)]


async def test_one_leads_and_another_does_when_it_is_gone(many: Crowd, tmp_path: Path) -> None:
    first, second = await many.join(), await many.join()
    await many.pass_time(30, first, second)
    assert (first.leads, second.leads) == (True, False)
    many.engines.remove(first)
    await first.stop(1.0)
    await many.pass_time(15, second)
    assert second.leads
    third = await many.join()
    await many.pass_time(30, second, third)
    await many.kill(second)
    await many.pass_time(3, third)  # its journal is replayed, and what it led is free
    await many.pass_time(15, third)
    assert third.leads


async def test_a_clean_end_leaves_nothing(many: Crowd, tmp_path: Path) -> None:
    async with sink(tmp_path) as out:
        only = await many.join()
        await many.connection(out.port)
        await many.send(B, people(3))
        await many.until_settled()
        many.engines.remove(only)
        await only.stop(5.0)
        assert await many.open_workers() == []
        assert await many.rows("SELECT 1 FROM slots") == []
        assert await many.rows("SELECT 1 FROM leases") == []
        assert list((tmp_path / "here").iterdir()) == []
