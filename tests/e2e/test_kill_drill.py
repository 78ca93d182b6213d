"""The kill drill in small: 500 messages and 5 SIGKILLs, for each purpose; `make drill` is the large one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from drills import kills
from drills.beside import Notes, Pace, PausedFor
from drills.feed import Told
from drills.judge import judge, judge_hand
from drills.kills import Course
from postroom.core.message import Purpose
from postroom.keyring import KeyRing, KeyState
from tests.support.sink import SinkRecord


@pytest.mark.parametrize("purpose", [Purpose.TRANSACTIONAL, Purpose.BROADCAST])
async def test_nothing_is_lost_and_copies_stay_within_open_transactions(
    tmp_path: Path, purpose: Purpose
) -> None:
    verdict = await kills.run(tmp_path, Course(purpose, 500, kills=5, seed=7, reply_ms=20.0))
    assert verdict.problems() == [], verdict.line()
    assert verdict.counts.accepted == 500
    assert verdict.kills == 5
    assert 0 < verdict.counts.open <= 5 * 10  # ten sessions: kills found transactions open


async def test_s8_the_same_for_mail_submitted_by_smtp(tmp_path: Path) -> None:
    """A 250 that was lost costs the client a second message of its own; none is lost or doubled by us."""
    course = Course(Purpose.TRANSACTIONAL, 200, kills=3, seed=7, reply_ms=10.0, by_smtp=True)
    verdict = await kills.run(tmp_path, course)
    assert verdict.problems() == [], verdict.line()
    assert (verdict.counts.accepted, verdict.kills) == (200, 3)


async def test_without_kills_there_is_no_copy_and_dropped_replies_cost_one_each(tmp_path: Path) -> None:
    verdict = await kills.run(tmp_path, Course(Purpose.TRANSACTIONAL, 200, drop_every=40, reply_ms=0.0))
    assert verdict.problems() == [], verdict.line()
    assert verdict.counts.open == verdict.counts.taken // 40
    assert verdict.counts.copies == verdict.counts.open


async def test_kills_do_not_widen_an_hourly_cap(tmp_path: Path) -> None:
    verdict = await kills.run(
        tmp_path, Course(Purpose.BROADCAST, 300, kills=3, hourly_cap=150, seed=3, reply_ms=10.0)
    )
    assert verdict.problems() == [], verdict.line()
    assert verdict.counts.waiting >= 150


async def test_rotating_the_key_file_meanwhile_loses_nothing_and_fails_no_login(tmp_path: Path) -> None:
    course = Course(Purpose.TRANSACTIONAL, 150, kills=1, beside=Pace(rotate_s=0.02), seed=5, reply_ms=10.0)
    verdict = await kills.run(tmp_path, course)
    assert verdict.problems() == [], verdict.line()
    assert verdict.rotations >= 1  # as many as a busy machine gets done meanwhile
    ring = KeyRing.load(tmp_path / "data" / "keys.ring")
    assert list(ring.states.values()).count(KeyState.RETIRED) >= verdict.rotations


async def test_z3_an_operator_at_work_beside_the_kills_costs_nothing(tmp_path: Path) -> None:
    """Rotations, backups, pauses, cancels meanwhile; then one backup is restored and waits to be told."""
    pace = Pace(rotate_s=0.2, backup_s=1.0, pause_s=0.2, paused_s=0.1, cancel_s=0.03, reset_s=0.2, tidy_s=0.2)
    course = Course(Purpose.TRANSACTIONAL, 250, kills=1, beside=pace, seed=5, reply_ms=5.0)
    verdict = await kills.run(tmp_path, course)
    assert verdict.problems() == [], verdict.line()
    assert verdict.counts.cancelled > 0
    assert '"backup"' in json.dumps(asdict(verdict), default=str)  # as `--json` writes it
    for one in ("backup", "queue.pause", "queue.resume", "connection.reset_window", "housekeeping"):
        assert verdict.done[one] > 0, verdict.line()


def record(number: int, recipient: str, session: int) -> SinkRecord:
    return SinkRecord(number, f"<{recipient}>", recipient, session)


def test_the_judge_counts_what_was_promised_and_is_nowhere() -> None:
    told = Told(accepted={"a", "b", "c", "d"})
    states = {"a": "sent", "b": "unverified", "c": "sent", "d": "ready"}
    counts = judge([record(1, "a", 1)], told, states, 1)
    assert (counts.lost, counts.unverified, counts.waiting, counts.sent_unseen) == (1, 1, 1, 1)
    assert counts.problems() == ["1 accepted and lost", "1 recorded as sent and not at the sink"]


def test_the_judge_excuses_a_copy_only_where_its_session_had_ended() -> None:
    told = Told(accepted={"a", "b"})
    states = {"a": "sent", "b": "sent"}
    ended = [record(1, "b", 1), record(2, "a", 1), record(3, "a", 2)]
    assert judge(ended, told, states, 1).problems() == []
    assert judge(ended, told, states, 0).problems() == ["1 copies + 0 unverified > 0 open transactions"]
    went_on = [record(1, "a", 1), record(2, "b", 1), record(3, "a", 2)]
    assert judge(went_on, told, states, 1).problems() == ["1 sent again although its session had gone on"]


def test_the_judge_sees_a_request_that_was_accepted_twice() -> None:
    told = Told(accepted={"a"})
    twice = [SinkRecord(1, "<1>", "a", 1), SinkRecord(2, "<2>", "a", 2)]
    assert judge(twice, told, {"a": "sent"}, 0).problems() == ["1 accepted twice"]


@pytest.mark.parametrize(
    ("notes", "problem"),
    [
        (Notes(cancelled={"a"}), "1 said to be cancelled, and sent in the end"),
        (Notes(too_late={"b"}), "1 said to be too late to cancel, and cancelled in the end"),
        (Notes(pauses=[PausedFor(1, 4, 1)]), "2 sent while paused, with 1 on their way at its start"),
        (Notes(wrong=["a backup ended with 5"]), "a backup ended with 5"),
    ],
)
def test_the_judge_holds_the_hand_to_its_answers(notes: Notes, problem: str) -> None:
    records = [record(number, "a", number) for number in (1, 2, 3, 4)]
    assert judge_hand(records, notes, {"a": "sent", "b": "cancelled"}) == [problem]
    fine = Notes(cancelled={"b"}, too_late={"a"}, pauses=[PausedFor(1, 4, 2)])
    assert judge_hand(records, fine, {"a": "sent", "b": "cancelled"}) == []


def test_the_judge_counts_what_was_cancelled_only_where_somebody_asked_and_nothing_left() -> None:
    told = Told(accepted={"a", "b", "c"})
    states = {"a": "cancelled", "b": "cancelled", "c": "cancelled"}
    counts = judge([record(1, "c", 1)], told, states, 0, to_cancel={"a", "c"})
    assert (counts.cancelled, counts.lost, counts.cancelled_and_sent) == (3, 1, 1)
    assert counts.problems() == ["1 accepted and lost", "1 recorded as cancelled and at the sink"]
