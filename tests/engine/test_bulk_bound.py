"""What all lanes of bulk together may take is bounded, so that a session stays free for the rest."""

from __future__ import annotations

from postroom.core.message import Purpose
from postroom.engine.lanes import LaneBook
from postroom.ids import AccountId, LaneId, ServerId
from postroom.storage.lanes import Lane

NOW = 1_000


def book(*purposes: Purpose) -> LaneBook:
    made = LaneBook()
    for number, purpose in enumerate(purposes, 1):
        lane = Lane(LaneId(number), AccountId(number), ServerId(number), purpose, "s", "a@example.com", None)
        made.wake(made.add(lane), NOW, 100)
    return made


def test_several_lanes_of_bulk_share_one_bound() -> None:
    lanes = book(Purpose.BROADCAST, Purpose.SEQUENCE, Purpose.BROADCAST)
    picked = lanes.pick(20, NOW, lambda _: 18, bulk=18)
    assert sum(count for _, count in picked) == 18


def test_the_rest_is_transactional_mails_whatever_account_it_is_of() -> None:
    lanes = book(Purpose.BROADCAST, Purpose.SEQUENCE, Purpose.TRANSACTIONAL)
    picked = lanes.pick(20, NOW, lambda s: 20 if s.transactional else 4, bulk=4)
    got = {state.transactional: 0 for state, _ in picked}
    for state, count in picked:
        got[state.transactional] += count
    assert got == {True: 16, False: 4}
