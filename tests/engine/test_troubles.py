"""What counts against a connection: trouble while it was tried, and refusals that are not about a From."""

from __future__ import annotations

from postroom.engine.health import Troubles, Verdict
from postroom.engine.settings import EngineSettings
from postroom.transports.interface import Fault, Outcome, Phase, Result
from tests.support.clock import FakeClock

BUSY = Outcome(Result.RETURNED, Fault.CONNECTION, Phase.MAIL, 421, text="busy")
NO_SENDER = Outcome(Result.RETURNED, Fault.SENDER, Phase.MAIL, 553, text="sender not owned")


def test_refusals_of_one_from_hold_nothing_else() -> None:
    troubles = Troubles(FakeClock(), EngineSettings())
    assert {troubles.judge(NO_SENDER) for _ in range(30)} == {Verdict.FINE}


def test_a_login_that_is_refused_at_mail_fails_though_every_session_opens() -> None:
    """`530` at MAIL (authentication required): opening a session proves nothing against it."""
    troubles = Troubles(FakeClock(), EngineSettings())
    refused = Outcome(Result.RETURNED, Fault.LOGIN, Phase.MAIL, 530, "5.7.0", "Authentication required")
    troubles.opened()
    assert troubles.judge(refused) is Verdict.BACK_OFF
    troubles.opened()
    assert troubles.judge(refused) is Verdict.FAIL
    troubles.judge(refused)
    troubles.judge(Outcome(Result.SENT, Fault.NONE, Phase.DONE, 250, text="ok", begun=True))
    assert troubles.judge(refused) is Verdict.BACK_OFF


def test_two_troubles_with_an_idle_hour_between_are_not_an_hour_of_trouble() -> None:
    clock = FakeClock()
    troubles = Troubles(clock, EngineSettings())
    assert troubles.judge(BUSY) is Verdict.BACK_OFF
    clock.advance(3600)  # its mail went another way meanwhile
    assert troubles.judge(BUSY) is Verdict.BACK_OFF
    assert troubles.backoff_until_us == clock.now_us() + 1_000_000


def test_ten_minutes_of_trouble_while_it_is_tried_again_and_again_is_a_failure() -> None:
    clock = FakeClock()
    troubles = Troubles(clock, EngineSettings())
    began_s = clock.steady_s()
    while troubles.judge(BUSY) is Verdict.BACK_OFF:
        assert troubles.backoff_until_us is not None
        clock.advance((troubles.backoff_until_us - clock.now_us()) / 1_000_000 + 45)  # and it hangs
    assert 600 <= clock.steady_s() - began_s < 1400
