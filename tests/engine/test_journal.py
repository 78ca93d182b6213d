"""The outcome journal: what it says after each way of dying."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.engine.journal import LOST, Journal, discard, replay
from postroom.ids import AttemptId, WorkerId
from postroom.transports.interface import Fault, Outcome, Phase, Result

WORKER = WorkerId(1)
SENT = Outcome(Result.SENT, Fault.NONE, Phase.DONE, 250, "2.0.0", "2.0.0 Ok: queued as Ä1", "Ä1", True)


def journal(folder: Path, epoch: int = 1, boot: str = "boot") -> Journal:
    return Journal(folder, "instance", WORKER, epoch, boot)


def read(folder: Path, epoch: int = 1, boot: str = "boot", instance: str = "instance"):  # type: ignore[no-untyped-def]  # shorthand
    return replay(folder, instance, WORKER, epoch, boot)


def test_it_says_how_far_each_attempt_came(tmp_path: Path) -> None:
    made = journal(tmp_path)
    for attempt in (1, 2, 3):
        made.begin(AttemptId(attempt))
    made.dot(AttemptId(2))
    made.dot(AttemptId(3))
    made.outcome(AttemptId(3), SENT)
    made.close(remove=False)
    said = read(tmp_path)
    assert said.trusted
    assert said.begun == {1, 2, 3}
    assert said.dots == {2, 3}
    assert said.outcomes == {3: SENT}


@given(cut=st.integers(0, 400))
@settings(
    derandomize=True,
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_torn_end_counts_as_absent(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / str(cut)
    if folder.exists():
        return
    made = journal(folder)
    for attempt in range(5):
        made.begin(AttemptId(attempt))
        made.dot(AttemptId(attempt))
        made.outcome(AttemptId(attempt), SENT)
    made.close(remove=False)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    kept = max(0, len(whole) - cut)
    path.write_bytes(whole[:kept])
    said = read(folder)
    assert set(said.outcomes) <= set(said.dots) <= set(said.begun)
    assert len(said.outcomes) >= 5 - 1 - cut // 10
    assert all(outcome == SENT for outcome in said.outcomes.values())


def test_a_flipped_bit_ends_what_is_believed(tmp_path: Path) -> None:
    made = journal(tmp_path)
    made.dot(AttemptId(1))
    size = made.size_bytes
    made.dot(AttemptId(2))
    made.close(remove=False)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[size + 8] ^= 1
    path.write_bytes(bytes(data))
    assert read(tmp_path).dots == {1}


def test_another_boot_is_not_trusted_but_its_outcomes_are(tmp_path: Path) -> None:
    made = journal(tmp_path)
    made.dot(AttemptId(1))
    made.outcome(AttemptId(1), SENT)
    made.close(remove=False)
    said = read(tmp_path, boot="another")
    assert not said.trusted
    assert said.outcomes == {1: SENT}


def test_without_a_boot_id_nothing_is_trusted(tmp_path: Path) -> None:
    journal(tmp_path, boot="").close(remove=False)
    assert not read(tmp_path, boot="").trusted


def test_another_instance_or_epoch_is_never_replayed(tmp_path: Path) -> None:
    made = journal(tmp_path, epoch=4)
    made.dot(AttemptId(1))
    made.close(remove=False)
    assert read(tmp_path, epoch=4, instance="restored elsewhere") == LOST
    assert read(tmp_path, epoch=5) == LOST
    assert read(tmp_path, epoch=4).dots == {1}


def test_a_living_workers_journal_cannot_be_replayed(tmp_path: Path) -> None:
    made = journal(tmp_path)
    with pytest.raises(BlockingIOError):
        read(tmp_path)
    made.close(remove=True)


def test_files_go_when_all_their_attempts_are_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.engine.journal._ROTATE_BYTES", 200)
    made = journal(tmp_path)
    attempts = [AttemptId(n) for n in range(40)]
    for attempt in attempts:
        made.begin(attempt)
        made.dot(attempt)
        made.outcome(attempt, SENT)
    assert len(list(tmp_path.iterdir())) > 3
    made.settled(attempts[:-1])
    made.close(remove=False)
    assert set(read(tmp_path).outcomes) >= {39}
    assert len(list(tmp_path.iterdir())) <= 2
    discard(tmp_path, WORKER, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_not_a_silent_dot(tmp_path: Path) -> None:
    made = journal(tmp_path)
    os.close(made._current.fd)
    full = os.open("/dev/full", os.O_WRONLY)
    made._current.fd = full
    with pytest.raises(OSError, match="space"):
        made.dot(AttemptId(1))
    made.close(remove=True)
