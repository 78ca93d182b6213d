"""Notice is given of each trouble once, and of its end: a real engine, a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from postroom.core.message import Purpose
from postroom.engine.notices import NoticeKind, Notices, Trouble
from postroom.engine.retention import NOTICES, Past
from postroom.engine.runner import Runner
from postroom.engine.watch import LINGERS_S, Watch, WatchSettings
from postroom.errors import Unavailable
from postroom.ids import ConnectionId
from postroom.storage.interface import Store, Work
from postroom.storage.notices import StoredNotice, newest
from postroom.tally import Tally
from tests.support.clock import FakeClock
from tests.support.engine import QUICK, Bench, bench, sink
from tests.support.passed_on import PassedOn

T = TypeVar("T")
GB = 1 << 30


@dataclass
class Watched:
    """An engine that is watched when a test looks."""

    post: Bench
    clock: FakeClock
    watch: Watch
    notices: Notices
    tally: Tally
    free: int = 100 * GB

    def disk_free(self) -> int:
        if self.free < 0:
            raise OSError("no such disk")
        return self.free

    async def look(self, after_s: float = 10.0) -> list[str]:
        """Look, and tell what is open. after_s: the slower looks, at queue and disk, wait for 10."""
        self.clock.advance(after_s)
        await self.watch.look()
        return sorted(self.notices.counts().elements())

    async def told(self) -> list[StoredNotice]:
        """Every notice stored, the oldest first."""
        return (await self.post.store.read(lambda: newest(100)))[::-1]

    async def runner(self, connection: ConnectionId) -> Runner:
        """Of a connection the engine was told of."""
        await self.until(lambda: connection in self.post.engine.runners)
        return self.post.engine.runners[connection]

    async def until(self, what: Callable[[], object]) -> None:
        async with asyncio.timeout(10.0):
            while not what():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def watched(folder: Path, **settings: Any) -> AsyncIterator[Watched]:
    clock = FakeClock()
    async with bench(folder, clock=clock, settings=replace(QUICK, **settings)) as post:
        tally = Tally()
        notices = Notices(post.store, clock, tally)
        made = Watched(post, clock, None, notices, tally)  # type: ignore[arg-type]  # made from it, next line
        made.watch = Watch(post.engine, post.store, notices, WatchSettings(), made.disk_free)
        yield made


async def test_a_connection_that_failed_and_works_again(tmp_path: Path) -> None:
    async with watched(tmp_path, failed_after_s=0.1) as seen, sink(tmp_path) as peer:
        connection = await seen.post.connection(1)  # nobody listens there
        await seen.post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        runner = await seen.runner(connection)

        def failed() -> bool:
            seen.clock.advance(0.2)
            return runner.route.failed_at is not None

        await seen.until(failed)
        for _ in range(3):
            assert await seen.look() == ["connection_failed"]
        (told,) = await seen.told()
        assert (told.kind, told.about, told.ended_at_us) == (
            "connection_failed",
            f"connection {connection}",
            None,
        )
        assert "refused" in told.text
        assert "(out)" in told.text
        version = runner.route.version
        await seen.post.do("UPDATE connections SET port = :p, version = version + 1", p=peer.port)
        seen.post.engine.connection_changed(connection)
        await seen.until(lambda: runner.route.version > version)  # else it probes where nobody listens
        seen.clock.advance(601.0)  # the engine's own probe finds that it works
        await seen.until(lambda: runner.route.failed_at is None)
        await seen.post.until_settled()
        assert await seen.look() == []
        (told,) = await seen.told()
        assert told.ended_at_us == seen.clock.now_us()
        assert seen.tally.notices == {"connection_failed": 1}


async def test_a_failed_connection_that_is_switched_off_troubles_nobody(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        connection = await seen.post.connection(1)
        await seen.post.do(
            "UPDATE connections SET connection_failed_at = 1, failed_reason = '535 no', enabled = 0"
        )
        seen.post.engine.connection_changed(connection)
        runner = await seen.runner(connection)
        await seen.until(lambda: runner.route.failed_at)
        assert await seen.look() == []


async def test_a_connection_that_rests_after_equal_refusals(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        connection = await seen.post.connection(1)
        until = seen.clock.now_us() + 60_000_000
        await seen.post.do("UPDATE connections SET held_until = :u", u=until)
        seen.post.engine.connection_changed(connection)
        runner = await seen.runner(connection)
        await seen.until(lambda: runner.route.held_until)
        assert await seen.look() == ["connection_held"]
        seen.clock.advance(60.0)
        assert await seen.look() == []


async def test_a_cap_that_binds_is_told_once_and_ends_when_it_no_longer_does(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen, sink(tmp_path) as peer:
        connection = await seen.post.connection(peer.port, hourly_cap=2)
        for number in range(6):
            await seen.post.send(Purpose.BROADCAST, [f"r{number}@example.net"])
        await seen.post.until(lambda states: states["sent"] == 2)
        runner = await seen.runner(connection)
        await seen.until(lambda: runner.blocked(transactional=False))
        assert await seen.look(0.0) == ["cap_binds"]
        (told,) = await seen.told()
        assert told.about == f"connection {connection} hour"
        assert "cap of 2 an hour" in told.text
        assert told.data["cap"] == 2
        seen.clock.advance(3650.0)
        await seen.post.until(lambda states: states["sent"] == 4)
        await seen.until(lambda: runner.blocked(transactional=False))
        assert await seen.look(0.0) == ["cap_binds"]
        seen.clock.advance(3650.0)
        await seen.post.until(lambda states: states["sent"] == 6)
        assert await seen.look(0.0) == []
        assert len(await seen.told()) == 1


async def test_a_trouble_that_comes_and_goes_is_one(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        binds = Trouble(NoticeKind.CAP_BINDS, "connection 1 hour", "no room", lingers_s=LINGERS_S)
        for _ in range(3):
            await seen.notices.observe([binds], [NoticeKind.CAP_BINDS])
            seen.clock.advance(LINGERS_S - 1)
            await seen.notices.observe([], [NoticeKind.CAP_BINDS])
            await seen.notices.observe([], [NoticeKind.DISK_LOW])
            assert seen.notices.is_open(NoticeKind.CAP_BINDS, "connection 1 hour")
        seen.clock.advance(1)
        await seen.notices.observe([], [NoticeKind.CAP_BINDS])
        assert not seen.notices.counts()
        assert seen.tally.notices == {"cap_binds": 1}


async def test_a_daily_cap_is_named_as_one(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen, sink(tmp_path) as peer:
        connection = await seen.post.connection(peer.port, hourly_cap=100, daily_cap=1)
        for number in range(2):
            await seen.post.send(Purpose.TRANSACTIONAL, [f"r{number}@example.net"])
        runner = await seen.runner(connection)
        await seen.until(lambda: runner.blocked(transactional=True))
        assert await seen.look(0.0) == ["cap_binds"]
        assert [one.about for one in await seen.told()] == [f"connection {connection} day"]


async def test_a_queue_that_ages_is_told_with_what_it_waits_for(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen, sink(tmp_path) as peer:
        await seen.post.send(Purpose.TRANSACTIONAL, ["a@example.net"])
        await seen.post.send(Purpose.BROADCAST, ["b@example.net"])
        await seen.until(lambda: all(not one.stale for one in seen.post.engine.lanes.values()))
        seen.clock.advance(280.0)
        assert await seen.look() == []
        seen.clock.advance(20.0)
        assert await seen.look() == ["queue_ages"]
        (told,) = await seen.told()
        assert (told.about, told.data["reasons"]) == ("server 1 transactional", ["no_connection"])
        assert told.text == "transactional mail of server 1 has waited for 5 minutes: no_connection"
        seen.clock.advance(86_400.0)
        assert await seen.look() == ["queue_ages", "queue_ages"]
        assert [one.about for one in await seen.told()] == ["server 1 transactional", "server 1 bulk"]
        await seen.post.connection(peer.port)
        await seen.post.until_settled()
        assert await seen.look() == []
        assert all(one.ended_at_us for one in await seen.told())


async def test_a_disk_that_fills_is_told_once_however_it_hovers(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        assert await seen.look() == []
        for seen.free in (GB - 1, GB + 1, GB - 1, GB):
            assert await seen.look() == ["disk_low"]
        seen.free = -1  # it cannot be asked: nothing is known, nothing changes
        assert await seen.look() == ["disk_low"]
        seen.free = 2 * GB
        assert await seen.look() == []
        assert len(await seen.told()) == 1


async def test_clock_steps(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        await seen.look()
        seen.clock.step(-3600.0)
        assert await seen.look() == []
        seen.clock.step(100.0)
        assert await seen.look() == ["clock_stepped"]
        assert await seen.look() == ["clock_stepped"]
        seen.clock.advance(100.0)
        assert await seen.look() == []
        back, forward = await seen.told()
        assert (back.text, back.ended_at_us) == ("the clock was set back by 3600 s", back.began_at_us)
        assert forward.text.startswith("the clock was set forward by 100 s; nothing goes out under caps for")
        assert forward.ended_at_us


async def test_a_held_delivery_is_told_of_once_for_its_server(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen, sink(tmp_path) as peer:
        await seen.post.send(Purpose.TRANSACTIONAL, ["a@example.net", "b@example.net"])
        await seen.post.do("UPDATE contents SET body = :b", b=b"\x01rubbish")
        await seen.post.connection(peer.port)
        await seen.post.until(lambda states: states["held"] == 2)
        await seen.until(lambda: len(seen.post.engine.news_of_held) == 2)
        assert await seen.look() == []
        (told,) = await seen.told()
        assert (told.kind, told.about) == ("delivery_held", "server 1")
        assert "example.net" not in told.text
        assert told.data == {"message": 1, "delivery": 1}


async def test_a_restart_tells_nothing_twice_and_ends_what_is_over(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        seen.free = 1
        await seen.look()
        again = Notices(seen.post.store, seen.clock, tally := Tally())
        await again.load(LINGERS_S)
        watch = Watch(seen.post.engine, seen.post.store, again, WatchSettings(), seen.disk_free)
        await watch.look()
        assert (tally.notices, len(await seen.told())) == ({}, 1)
        seen.free = 2 * GB
        seen.clock.advance(10.0)
        await watch.look()
        (told,) = await seen.told()
        assert told.ended_at_us == seen.clock.now_us()


class Full(PassedOn):
    """A store that takes nothing while it is full."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.full = True

    async def write(self, work: Callable[[], Work[T]], size_bytes: int = 0, *, share: bool = False) -> T:
        if self.full:
            raise Unavailable("the disk is full")
        return await super().write(work, size_bytes)


async def test_what_cannot_be_stored_is_told_at_once_and_stored_later(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        store, tally = Full(seen.post.store), Tally()
        notices = Notices(store, seen.clock, tally)
        low = Trouble(NoticeKind.DISK_LOW, "disk", "no room")
        began_us = seen.clock.now_us()
        for _ in range(2):
            await notices.observe([low], [NoticeKind.DISK_LOW])
            assert (tally.notices, notices.counts()) == ({"disk_low": 1}, {"disk_low": 1})
            seen.clock.advance(1.0)
        await notices.observe([], [NoticeKind.DISK_LOW])
        assert notices.counts() == {"disk_low": 1}  # its end cannot be stored either, so it waits
        store.full = False
        await notices.observe([], [NoticeKind.DISK_LOW])
        assert notices.counts() == {}
        (told,) = await seen.told()
        assert (told.began_at_us, told.ended_at_us) == (began_us, seen.clock.now_us())
        assert tally.notices == {"disk_low": 1}


async def test_old_notices_are_forgotten_and_open_ones_stay(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        for about in ("a", "b", "c"):
            await seen.notices.once(Trouble(NoticeKind.CLOCK_STEPPED, about, "x"))
        await seen.notices.observe([Trouble(NoticeKind.DISK_LOW, "disk", "x")], [NoticeKind.DISK_LOW])
        at_us = seen.clock.now_us()
        assert await seen.post.store.write(lambda: NOTICES.delete(at_us - 1)) == Past()
        assert (await seen.post.store.write(lambda: NOTICES.delete(at_us))).rows == 3
        assert [one.about for one in await seen.told()] == ["disk"]


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_every_kind_has_a_row_on_the_page(kind: NoticeKind) -> None:
    page = (Path(__file__).parents[2] / "docs" / "notices.md").read_text("utf-8")
    assert f"| `{kind.value}` |" in page


async def test_of_several_engines_the_one_that_leads_looks_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path) as seen:
        seen.free = 100
        membership = seen.post.engine.terms.membership
        monkeypatch.setattr(membership, "leads", False)
        assert await seen.look() == []
        monkeypatch.setattr(membership, "leads", True)
        assert await seen.look() == ["disk_low"]
        monkeypatch.setattr(membership, "leads", False)
        assert await seen.look() == [], "another keeps it now"
        (told,) = await seen.told()
        assert told.ended_at_us is None
        monkeypatch.setattr(membership, "leads", True)
        assert await seen.look() == ["disk_low"]
        assert len(await seen.told()) == 1, "taken up from who led before"
        seen.free = 100 * GB
        await seen.look(LINGERS_S)
        assert await seen.look() == []
        (told,) = await seen.told()
        assert told.ended_at_us is not None
