"""Whose turn it is: fair between accounts, then servers; transactional first inside a server."""

from __future__ import annotations

from collections import Counter

from postroom.core.message import Purpose
from postroom.engine.lanes import LaneBook, LaneState
from postroom.ids import AccountId, LaneId, ServerId
from postroom.storage.lanes import Lane
from tests.support.stores import on_both

pytestmark = on_both

NOW = 1_000


def add(
    book: LaneBook, number: int, account: int, server: int, purpose: Purpose, waiting: int = 1000
) -> LaneState:
    lane = Lane(LaneId(number), AccountId(account), ServerId(server), purpose, "s", "a@example.com", None)
    state = book.add(lane)
    book.wake(state, NOW, waiting)
    return state


def serve(book: LaneBook, rounds: int, size: int = 4) -> Counter[int]:
    """Claim again and again as one connection would; who got how many."""
    got: Counter[int] = Counter()
    for _ in range(rounds):
        for state, count in book.pick(size, NOW, lambda _: size):
            book.served(state.lane, count)
            state.backlog -= count
            if state.backlog <= 0:
                state.next_due_us = None
            got[state.lane.lane_id] += count
    return got


def test_transactional_goes_first_inside_a_server() -> None:
    book = LaneBook()
    add(book, 1, 1, 1, Purpose.BROADCAST)
    add(book, 2, 1, 1, Purpose.TRANSACTIONAL, waiting=6)
    assert serve(book, 2) == {2: 6, 1: 2}


def test_accounts_share_however_many_servers_and_labels_they_have() -> None:
    book = LaneBook()
    for number in range(1, 10):
        add(book, number, 1, number, Purpose.TRANSACTIONAL)
    add(book, 10, 2, 10, Purpose.BROADCAST)
    got = serve(book, 50)
    assert abs(got[10] - sum(got[n] for n in range(1, 10))) <= 4


def test_servers_of_an_account_share() -> None:
    book = LaneBook()
    add(book, 1, 1, 1, Purpose.BROADCAST)
    add(book, 2, 1, 2, Purpose.BROADCAST)
    add(book, 3, 1, 2, Purpose.SEQUENCE)
    got = serve(book, 50)
    assert abs(got[1] - got[2] - got[3]) <= 4


def test_who_comes_back_from_idleness_has_no_credit() -> None:
    book = LaneBook()
    add(book, 1, 1, 1, Purpose.BROADCAST)
    serve(book, 100)
    add(book, 2, 2, 2, Purpose.BROADCAST)
    got = serve(book, 20)
    assert abs(got[1] - got[2]) <= 4


def test_a_lane_without_work_or_allowance_is_not_picked() -> None:
    book = LaneBook()
    late = add(book, 1, 1, 1, Purpose.BROADCAST)
    late.next_due_us = NOW + 1
    blocked = add(book, 2, 1, 1, Purpose.BROADCAST)
    assert book.pick(4, NOW, lambda state: 0 if state is blocked else 4) == []
    assert book.pick(4, NOW + 1, lambda state: 0 if state is blocked else 4) == [(late, 4)]


def test_an_older_look_does_not_overwrite_a_newer_wake() -> None:
    book = LaneBook()
    state = add(book, 1, 1, 1, Purpose.BROADCAST)
    before = state.changes
    book.wake(state, NOW, 1)
    book.looked(state, before, None)
    assert state.next_due_us == NOW
    book.looked(state, state.changes, None)
    assert state.next_due_us is None
