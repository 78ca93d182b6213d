"""The seam between one connection's runner and the dispatcher that all runners share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from postroom.clock import Clock
from postroom.engine.attempt import Attempt
from postroom.engine.claim import Claimed, Claims
from postroom.engine.health import Verdict
from postroom.engine.settings import EngineSettings
from postroom.storage.interface import Store
from postroom.transports.interface import Outcome

if TYPE_CHECKING:
    from postroom.engine.runner import Runner
    from postroom.engine.terms import Terms


class Host(Protocol):
    """What a runner needs of the dispatcher."""

    clock: Clock
    settings: EngineSettings
    store: Store

    terms: Terms

    @property
    def fenced(self) -> bool:
        """Nothing more may go out: our epoch is not ours any more."""

    async def claim(self, runner: Runner, wanted: int, wanted_bulk: int) -> Claims | None:
        """Claim for this runner; None when no lane has anything for it."""

    def work_for(self, runner: Runner) -> tuple[int, bool]:
        """About how many deliveries wait for this runner, and whether any is transactional."""

    def attempt(self, claimed: Claimed) -> Attempt:
        """The checks and the journal of one attempt."""

    async def envelope_outcome(self, attempt: Attempt, deliver: Deliver) -> Outcome:
        """Compose and hand over to `deliver`."""

    def ended(self, attempt: Attempt, outcome: Outcome, done: Callable[[], None]) -> None:
        """Record and settle."""

    def health_changed(self, runner: Runner) -> None:
        """Routing has to look again."""

    async def judged(self, runner: Runner, verdict: Verdict) -> None:
        """Store what became of the connection."""

    def backed_off(self, runner: Runner) -> None:
        """Note that the connection began to back off."""

    def call(self, runner: Runner) -> None:
        """It can take more than before: look soon whether there is something for it."""


class Deliver(Protocol):
    """Delivers an envelope through a session, a fresh one if the old turned out stale."""

    def __call__(self, attempt: Attempt) -> Awaitable[Outcome]: ...
