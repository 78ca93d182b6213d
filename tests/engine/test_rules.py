"""The engine's pure rules: retry times, kept-back room, and what a connection's troubles come to."""

from __future__ import annotations

import pytest

from postroom.clock import MICROS
from postroom.core.message import DeliveryState, Purpose
from postroom.engine.caps import kept_back
from postroom.engine.clock_guard import ClockGuard
from postroom.engine.health import Troubles, Verdict
from postroom.engine.retry import Policy, next_attempt_us
from postroom.engine.settings import EngineSettings
from postroom.engine.transitions import DeliveryFacts, after, after_crash, after_unknown_wait
from postroom.ids import AttemptId, DeliveryId
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support.clock import FakeClock

POLICY = Policy()
T, B = Purpose.TRANSACTIONAL, Purpose.BROADCAST


def waits_s(purpose: Purpose, tries: int, at_s: float = 0, jitter: float = 0) -> float | None:
    now = int(at_s * MICROS)
    due = next_attempt_us(POLICY, purpose, tries, 0, now, jitter)
    return None if due is None else (due - now) / MICROS


def test_waits_double_from_five_minutes_to_four_hours() -> None:
    assert [waits_s(B, n) for n in range(1, 9)] == [300, 600, 1200, 2400, 4800, 9600, 14400, 14400]
    assert waits_s(B, 10_000) == 14400
    assert waits_s(B, 1, jitter=1.0) == 240


@pytest.mark.parametrize(("purpose", "hours"), [(T, 24), (B, 120), (Purpose.SEQUENCE, 120)])
def test_it_gives_up_once_and_tries_a_last_time_at_the_end(purpose: Purpose, hours: int) -> None:
    end = hours * 3600
    assert waits_s(purpose, 30, at_s=end - 60) == 60
    assert waits_s(purpose, 30, at_s=end) is None


@pytest.mark.parametrize(
    ("cap", "busiest", "kept"),
    [(None, 100, 0), (500, 0, 0), (500, 1, 2), (500, 10, 12), (500, 1000, 100), (15, 1, 2), (15, 50, 3)],
)
def test_room_kept_back_for_transactional_mail(cap: int | None, busiest: int, kept: int) -> None:
    assert kept_back(cap, busiest) == kept


def facts(purpose: Purpose = T, resends: int = 0, crashes: int = 0) -> DeliveryFacts:
    return DeliveryFacts(DeliveryId(1), purpose, 0, 5, 2, resends, crashes)


def outcome(result: Result, fault: Fault = Fault.NONE, code: int = 0, text: str = "") -> Outcome:
    return Outcome(result, fault, Phase.DONE, code, text=text)


def test_unknown_ends_by_itself() -> None:
    unknown = outcome(Result.UNKNOWN)
    move = after(unknown, facts(), POLICY, 1000, AttemptId(1))
    assert (move.state, move.due_us) == (DeliveryState.UNKNOWN, 1000 + 30 * MICROS)
    assert after_unknown_wait(facts(), POLICY, 9).state is DeliveryState.READY
    assert after_unknown_wait(facts(), POLICY, 9).resends == 1
    assert after(unknown, facts(resends=2), POLICY, 0, AttemptId(1)).state is DeliveryState.UNVERIFIED
    assert after(unknown, facts(B), POLICY, 0, AttemptId(1)).state is DeliveryState.UNVERIFIED


def test_the_connections_trouble_is_no_step_of_the_schedule() -> None:
    move = after(outcome(Result.RETURNED, Fault.CONNECTION), facts(), POLICY, 1000, AttemptId(1))
    assert (move.state, move.due_us, move.tries) == (DeliveryState.READY, 5, 2)


def test_a_way_out_that_breaks_in_the_body_takes_a_step_so_that_it_ends() -> None:
    cut = Outcome(Result.RETURNED, Fault.CONNECTION, Phase.BODY, text="reset", begun=True)
    move = after(cut, facts(), POLICY, 1000, AttemptId(1))
    assert (move.state, move.tries) == (DeliveryState.READY, 3)
    assert move.due_us is not None
    assert move.due_us > 1000 + 240 * MICROS
    late = after(cut, facts(), POLICY, 25 * 3600 * MICROS, AttemptId(1))
    assert late.state is DeliveryState.BOUNCED
    assert late.reason == "given up after 3 tries: reset"
    ours = Outcome(Result.RETURNED, Fault.OURS, Phase.BODY, text="stopped", begun=True)
    assert after(ours, facts(), POLICY, 1000, AttemptId(1)).tries == 2


def test_two_crashes_isolate_and_none_holds() -> None:
    assert [after_crash(facts(crashes=n)).crashes for n in range(4)] == [1, 2, 2, 2]
    assert after_crash(facts(crashes=9)).state is DeliveryState.READY


REFUSED = outcome(Result.RETURNED, Fault.CONNECTION, 421, "busy")
LOGIN = outcome(Result.RETURNED, Fault.LOGIN, 535, "no")


def test_backing_off_doubles_and_equal_trouble_is_one() -> None:
    clock = FakeClock()
    troubles = Troubles(clock, EngineSettings())
    waits: list[float] = []
    for _ in range(12):
        assert troubles.judge(REFUSED) is Verdict.BACK_OFF
        until = troubles.backoff_until_us
        troubles.judge(REFUSED)  # another session met the same
        assert troubles.backoff_until_us == until
        assert until is not None
        waits.append((until - clock.now_us()) / MICROS)
        clock.step(waits[-1] + 1)
        assert troubles.probing
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    troubles.judge(outcome(Result.SENT))
    assert not troubles.probing


def test_a_login_refused_twice_fails_and_ten_minutes_of_trouble_too() -> None:
    clock = FakeClock()
    troubles = Troubles(clock, EngineSettings())
    assert [troubles.judge(LOGIN), troubles.judge(LOGIN)] == [Verdict.BACK_OFF, Verdict.FAIL]
    assert troubles.judge(REFUSED) is Verdict.BACK_OFF
    clock.advance(599)
    assert troubles.judge(REFUSED) is Verdict.BACK_OFF
    clock.advance(1)
    assert troubles.judge(REFUSED) is Verdict.FAIL


def refusal(n: int, text: str = "550 5.7.1 <{}@example.net> listed, see case {}") -> Outcome:
    return outcome(Result.BOUNCED, Fault.MESSAGE, 550, text.format(n, n))


def test_ten_equal_refusals_inside_a_minute_hold() -> None:
    clock = FakeClock()
    troubles = Troubles(clock, EngineSettings())
    verdicts = [troubles.judge(refusal(n)) for n in range(10)]
    assert verdicts == [Verdict.FINE] * 9 + [Verdict.HOLD]
    for n in range(9):
        troubles.judge(refusal(n))
    troubles.judge(outcome(Result.SENT))
    assert troubles.judge(refusal(1)) is Verdict.FINE  # a success between
    for n in range(20):
        clock.advance(7)
        assert troubles.judge(refusal(n)) is Verdict.FINE  # too slow to mean anything
    for n in range(20):
        assert troubles.judge(refusal(n, "x" * n)) is Verdict.FINE  # not equal


def test_a_recipients_refusal_is_never_the_connections_fault() -> None:
    troubles = Troubles(FakeClock(), EngineSettings())
    assert troubles.judge(outcome(Result.DEFERRED, Fault.RECIPIENT, 451)) is Verdict.FINE
    assert troubles.backoff_until_us is None


def test_grants_pause_for_as_long_as_the_clock_was_set_forward() -> None:
    clock = FakeClock()
    guard = ClockGuard(clock)
    clock.advance(5000)
    assert not guard.paused()
    clock.step(3600)
    assert guard.paused()
    clock.advance(3599)
    assert guard.paused()
    clock.advance(2)
    assert not guard.paused()
    clock.step(-3600)
    assert not guard.paused()
