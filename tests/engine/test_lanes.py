"""Whose turn it is on a connection: fair between servers, transactional first inside one."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from postroom.core.message import Purpose
from postroom.engine.lane_book import LaneBook
from postroom.engine.lanes import LaneState
from postroom.engine.pauses import Pauses
from postroom.ids import AccountId, ConnectionId, LaneId, ServerId
from postroom.storage.lanes import Lane

NOW = 1_000
HERE, THERE = ConnectionId(1), ConnectionId(2)
T, B, S = Purpose.TRANSACTIONAL, Purpose.BROADCAST, Purpose.SEQUENCE


def add(
    book: LaneBook,
    number: int,
    server: int,
    purpose: Purpose,
    waiting: int = 1000,
    *,
    ways: tuple[ConnectionId, ...] = (HERE,),
    due_us: int = NOW,
) -> LaneState:
    lane = Lane(LaneId(number), AccountId(1), ServerId(server), purpose, "s", "a@example.com", None)
    state = book.add(lane)
    book.choose(state, ways)
    book.wake(state, due_us, waiting)
    return state


def serve(book: LaneBook, rounds: int, size: int = 4, connection: ConnectionId = HERE) -> Counter[int]:
    """Claim again and again as one connection would; who got how many."""
    got: Counter[int] = Counter()
    for _ in range(rounds):
        for state, count in book.pick(connection, size, NOW, lambda _: size):
            book.claimed(state, count, full=False)
            if state.backlog <= 0:
                book.looked(state, state.changes, None)
            got[state.lane.lane_id] += count
    return got


def waiting(book: LaneBook, connection: ConnectionId, now_us: int = NOW) -> tuple[int, bool]:
    book.ripen(now_us)
    return book.waiting(connection, now_us, lambda _: 1, 1 << 30, bulk=True)


def test_transactional_goes_first_inside_a_server() -> None:
    book = LaneBook()
    add(book, 1, 1, B)
    add(book, 2, 1, T, waiting=6)
    assert serve(book, 2) == {2: 6, 1: 2}


def test_servers_share_however_many_lanes_and_labels_they_have() -> None:
    book = LaneBook()
    for number in range(1, 10):
        add(book, number, 1, T)
    add(book, 10, 2, B)
    add(book, 11, 2, S)
    got = serve(book, 50)
    assert abs(got[10] + got[11] - sum(got[n] for n in range(1, 10))) <= 4


def test_who_comes_back_from_idleness_has_no_credit() -> None:
    book = LaneBook()
    add(book, 1, 1, B)
    serve(book, 100)
    add(book, 2, 2, B)
    got = serve(book, 20)
    assert abs(got[1] - got[2]) <= 4


def test_who_comes_back_from_a_block_has_no_credit() -> None:
    """It was in the line all the time, and nothing of it was allowed."""
    book = LaneBook()
    add(book, 1, 1, B)
    add(book, 2, 2, B)
    for _ in range(100):
        ((state, count),) = book.pick(HERE, 4, NOW, lambda s: 4 if s.lane.lane_id == 1 else 0)
        book.claimed(state, count, full=False)
    got = serve(book, 20)
    assert abs(got[1] - got[2]) <= 8


def test_what_another_connection_sent_counts_here() -> None:
    book = LaneBook()
    add(book, 1, 1, B, ways=(HERE, THERE))
    add(book, 2, 2, B, ways=(HERE,))
    assert serve(book, 10, connection=THERE) == {1: 40}
    add(book, 3, 3, B, ways=(HERE,))
    got = serve(book, 9)
    assert abs(got[2] - got[3]) <= 1
    assert got[1] <= got[2]


def test_as_few_as_were_taken_are_charged() -> None:
    """A claim that gets less than it asked for leaves the turn where it was."""
    book = LaneBook()
    add(book, 1, 1, B)
    add(book, 2, 2, B)
    for _ in range(50):
        assert book.pick(HERE, 8, NOW, lambda _: 8)
    got = serve(book, 20)
    assert got == {1: 40, 2: 40}


def test_turns_are_those_of_the_plain_rule() -> None:
    """Against a sort of all lanes before each delivery, with lanes that come, go, wait and are blocked."""
    chance = random.Random(1)  # no secret
    book, served = LaneBook(), Counter[int]()
    present = 0
    states = [
        add(book, number, number % 7, chance.choice((T, B)), chance.randrange(1, 60))
        for number in range(1, 30)
    ]
    for _ in range(300):
        book.ripen(NOW)
        blocked = {chance.randrange(1, 30) for _ in range(5)}
        bulk = chance.randrange(0, 9)
        expected: Counter[int] = Counter()
        left_bulk = bulk
        while sum(expected.values()) < 8:
            open_ = [
                (
                    max(served[s.lane.server_id], present)
                    + sum(n for one, n in expected.items() if one % 7 == s.lane.server_id),
                    s.lane.server_id,
                    not s.transactional,
                    s.lane.lane_id,
                )
                for s in states
                if s.active
                and s.lane.lane_id not in blocked
                and s.backlog > expected[s.lane.lane_id]
                and (s.transactional or left_bulk > 0)
            ]
            if not open_:
                break
            *_, is_bulk, lane_id = min(open_)
            expected[lane_id] += 1
            left_bulk -= is_bulk

        def allowed(state: LaneState, blocked: set[int] = blocked) -> int:
            return 0 if state.lane.lane_id in blocked else 8

        picked = book.pick(HERE, 8, NOW, allowed, bulk)
        assert {s.lane.lane_id: n for s, n in picked} == dict(expected)
        for state, count in picked:
            present = max(served[state.lane.server_id], present)
            served[state.lane.server_id] = present + count
            book.claimed(state, count, full=False)
            if state.backlog == 0:
                book.looked(state, state.changes, None)
        back = chance.choice(states)
        if not back.active:
            book.wake(back, NOW, chance.randrange(1, 60))


def test_a_lane_without_work_or_allowance_is_not_picked() -> None:
    book = LaneBook()
    late = add(book, 1, 1, B, due_us=NOW + 1)
    blocked = add(book, 2, 1, B)
    assert book.pick(HERE, 4, NOW, lambda state: 0 if state is blocked else 4) == []
    assert book.pick(HERE, 4, NOW + 1, lambda state: 0 if state is blocked else 4) == [(late, 4)]


def test_an_older_look_does_not_overwrite_a_newer_wake() -> None:
    book = LaneBook()
    state = add(book, 1, 1, B)
    before = state.changes
    book.wake(state, NOW, 1)
    book.looked(state, before, None)
    assert state.next_due_us == NOW
    book.looked(state, state.changes, None)
    assert state.next_due_us is None


def test_several_lanes_of_bulk_share_one_bound() -> None:
    """So that a session stays free for the rest."""
    book = LaneBook()
    for number, purpose in enumerate((B, S, B), 1):
        add(book, number, number, purpose, 100)
    picked = book.pick(HERE, 20, NOW, lambda _: 18, bulk=18)
    assert sum(count for _, count in picked) == 18


@pytest.mark.parametrize("bulk", [0, 4])
def test_the_rest_is_transactional_mails_of_whatever_server(bulk: int) -> None:
    book = LaneBook()
    for number, purpose in enumerate((B, S, T), 1):
        add(book, number, number, purpose, 100)
    picked = book.pick(HERE, 20, NOW, lambda s: 20 if s.transactional else bulk, bulk=bulk)
    got = Counter[bool]()
    for state, count in picked:
        got[state.transactional] += count
    assert got == Counter({True: 20 - bulk, False: bulk})


def test_a_connection_has_the_lanes_that_were_chosen_for_it_and_no_others() -> None:
    book = LaneBook()
    one = add(book, 1, 1, B, 10)
    two = add(book, 2, 1, T, 20, ways=(THERE, HERE))
    assert waiting(book, HERE) == (30, True)
    assert waiting(book, THERE) == (20, True)
    book.choose(one, (THERE,))
    book.refused(two, THERE)
    assert (waiting(book, HERE), waiting(book, THERE)) == ((20, True), (10, False))
    assert two.stale
    book.choose(two, ())
    assert waiting(book, HERE) == (0, False)
    assert book.pick(HERE, 4, NOW, lambda _: 4) == []
    assert book.pick(THERE, 4, NOW, lambda _: 4) == [(one, 4)]


def test_counting_ends_when_there_is_enough_and_leaves_bulk_out_where_asked() -> None:
    book = LaneBook()
    for number in range(1, 100):
        add(book, number, number, T if number % 2 else B, 1)
    book.ripen(NOW)
    seen = []
    assert book.waiting(HERE, NOW, lambda s: seen.append(s) or 1, 7, bulk=True) == (7, True)  # type: ignore[func-returns-value]
    assert len(seen) == 7
    assert book.waiting(HERE, NOW, lambda _: 1, 1000, bulk=False) == (50, True)
    assert book.waiting(HERE, NOW, lambda s: not s.transactional, 1000, bulk=True) == (49, False)


def test_what_is_paused_is_in_no_line_until_it_is_resumed() -> None:
    book = LaneBook()
    state = add(book, 1, 1, B, 10)
    assert waiting(book, HERE) == (10, False)
    book.pause(state, paused=True)
    assert (waiting(book, HERE), list(book.active)) == ((0, False), [])
    book.wake(state, NOW - 5, 1)
    assert waiting(book, HERE) == (0, False)
    book.pause(state, paused=False)
    assert waiting(book, HERE) == (11, False)
    assert state.next_due_us == NOW - 5
    book.pauses = Pauses(everything=True)
    assert add(book, 2, 2, B).paused


def test_news_are_told_once_and_only_of_lanes_with_work() -> None:
    book = LaneBook()
    state = add(book, 1, 1, B, 10, due_us=NOW + 5)
    book.doubt(state)
    book.ripen(NOW)
    assert list(book.news()) == []
    book.ripen(NOW + 5)
    assert list(book.news()) == [state]
    assert list(book.news()) == []
    book.wake(state, NOW, 1)
    assert list(book.news()) == [state]
    book.looked(state, state.changes, NOW + 50)
    assert list(book.active) == []
    book.ripen(NOW + 49)
    assert list(book.news()) == []
    book.ripen(NOW + 50)
    assert list(book.news()) == [state]


def test_a_clock_set_back_moves_waits_with_it() -> None:
    book = LaneBook()
    state = add(book, 1, 1, B, 10, due_us=NOW + 500)
    book.clock_set_back(-300)
    book.ripen(NOW + 199)
    assert not book.active
    book.ripen(NOW + 200)
    assert list(book.active.values()) == [state]


def test_an_accounts_lanes_are_found_without_looking_at_the_others() -> None:
    book = LaneBook()
    ours = add(book, 1, 1, B)
    theirs = book.add(Lane(LaneId(2), AccountId(2), ServerId(2), T, "s", "a@example.com", None))
    assert list(book.of_account(AccountId(1))) == [ours]
    assert list(book.of_account(AccountId(2))) == [theirs]
    assert list(book.of_account(AccountId(3))) == []
    assert list(book.of_account(AccountId(0))) == [ours, theirs]


def test_where_more_waits_than_was_told_of_claims_grow_until_one_runs_short() -> None:
    book = LaneBook()
    state = add(book, 1, 1, B, 3)
    asked = []
    for _ in range(11):
        ((_, count),) = book.pick(HERE, 50, NOW, lambda _: 50)
        asked.append(count)
        book.claimed(state, count, full=True)
    assert asked == [3, 1, 2, 1, 4, 1, 8, 1, 16, 1, 32]
    book.claimed(state, 5, full=False)
    book.looked(state, state.changes, None)
    book.wake(state, NOW, 1)
    ((_, count),) = book.pick(HERE, 50, NOW, lambda _: 50)
    assert count == 1
    book.claimed(state, 1, full=True)
    assert state.backlog == 0  # as many as were told of: nothing says that there is more
    ((_, count),) = book.pick(HERE, 50, NOW, lambda _: 50)
    book.claimed(state, count, full=True)
    assert (count, state.backlog) == (1, 2)
