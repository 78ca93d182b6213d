"""The outcome journal when its disk is full or its folder is gone: what it has written stays readable."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postroom.core.message import Purpose
from postroom.engine.journal import Journal, replay
from postroom.ids import AttemptId, WorkerId
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support.engine import bench, sink

WORKER = WorkerId(1)
SENT = Outcome(Result.SENT, Fault.NONE, Phase.DONE, 250, text="x" * 900, begun=True)


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """As a full disk does, the kernel takes what still fits and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_follows_a_record_that_did_not_fit_is_read(tmp_path: Path) -> None:
    made = Journal(tmp_path, "instance", WORKER, 1, "boot")
    made.dot(AttemptId(1))
    with no_file_larger_than(made.size_bytes + 100), pytest.raises(OSError):
        made.outcome(AttemptId(1), SENT)
    made.dot(AttemptId(2))
    made.outcome(AttemptId(2), SENT)
    made.dot(AttemptId(3))
    made.close(remove=False)
    said = replay(tmp_path, "instance", WORKER, 1, "boot")
    assert said.trusted
    assert said.dots == {1, 2, 3}
    assert said.outcomes == {2: SENT}


def test_a_journal_that_cannot_go_on_in_a_new_file_goes_on_in_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    made = Journal(folder, "instance", WORKER, 1, "boot")
    for number in range(1, 100):
        made.outcome(AttemptId(number), SENT)
    shutil.rmtree(folder)  # the next file cannot be made
    made.settled([AttemptId(number) for number in range(1, 100)])
    made.dot(AttemptId(100))
    made.close(remove=True)


async def test_outcomes_are_settled_while_no_new_journal_file_can_be_made(tmp_path: Path) -> None:
    async with sink(tmp_path) as out, bench(tmp_path) as post:
        await post.connection(out.port)
        shutil.rmtree(tmp_path / "journal")
        for number in range(30):
            people = [f"r{number}-{i}@example.net" for i in range(100)]
            await post.send(Purpose.BROADCAST, people)
        states = await post.until_settled()
        assert states == {"sent": 3000}
