"""A connection's troubles, and whose fault a refusal is.

Trouble of the way out (refused, timed out, DNS, TLS, 421, 4xx to MAIL) makes it back off: 1 s doubling to
10 minutes, then one session probes. A login refused twice, or ten minutes of trouble without one success,
and it has failed. Ten equal refusals without a success inside a minute hold it. A refusal of a recipient
or a message is never its fault. This keeps the counts; what is decided is told to the runner.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from postroom.clock import MICROS, Clock
from postroom.core.actor import ENGINE
from postroom.core.event import EventKind
from postroom.engine.settings import EngineSettings
from postroom.ids import AccountId, ConnectionId, ServerId
from postroom.storage import audit, hot
from postroom.storage.interface import Sql, Work, now
from postroom.transports.interface import Fault, Outcome, Phase, Result

EQUAL_REFUSALS = 10
EQUAL_WITHIN_S = 60.0
LOGINS_TO_FAIL = 2
_VARIABLE = re.compile(r"<[^>]*>|\S+@\S+|\d+")


class Verdict(StrEnum):
    """What an outcome means for the connection."""

    FINE = "fine"
    BACK_OFF = "back_off"
    FAIL = "fail"
    HOLD = "hold"


@dataclass
class Troubles:
    """The counts of one connection while the engine runs."""

    clock: Clock
    settings: EngineSettings
    backoff_until_us: int | None = None
    last_text: str = ""
    _steps: int = 0
    _noted_s: float | None = None
    _since_s: float | None = None
    _logins: int = 0  # refused at AUTH
    _later_logins: int = 0  # refused after it, as "authentication required" to MAIL
    _refusals: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=EQUAL_REFUSALS))

    @property
    def backing_off(self) -> bool:
        return self.backoff_until_us is not None and self.backoff_until_us > self.clock.now_us()

    @property
    def probing(self) -> bool:
        """The wait is over and the next session tells whether the trouble is."""
        return self.backoff_until_us is not None and not self.backing_off

    def opened(self) -> None:
        """A session was opened: AUTH works. What backs off is cleared by a delivery, or here where
        there is none to wait for."""
        self._logins = 0

    def is_news(self) -> bool:
        """Whether this backing off is to be noted: one that begins, at most once in `failed_after_s`."""
        now_s = self.clock.steady_s()
        if self._noted_s is not None and now_s - self._noted_s < self.settings.failed_after_s:
            return False
        self._noted_s = now_s
        return True

    def judge(self, outcome: Outcome) -> Verdict:
        """Count an outcome of an attempt or of opening a session."""
        if outcome.fault is Fault.OURS:
            return Verdict.FINE
        if outcome.fault in (Fault.CONNECTION, Fault.LOGIN):
            return self._trouble(outcome)
        self.clear()
        if outcome.result is Result.SENT:
            self._refusals.clear()
        elif (
            outcome.result is Result.BOUNCED and outcome.code
        ):  # a From that is refused sets aside its pair alone
            return self._refusal(outcome)
        return Verdict.FINE

    def clear(self) -> None:
        """It works."""
        self.backoff_until_us, self._steps, self._since_s = None, 0, None
        self._logins = self._later_logins = 0

    def clock_set_back(self, by_us: int) -> None:
        """The wall clock was moved by `by_us`, which is negative: the wait stays as long as it was."""
        if self.backoff_until_us is not None:
            self.backoff_until_us += by_us

    def _trouble(self, outcome: Outcome) -> Verdict:
        now_s = self.clock.steady_s()
        self.last_text = outcome.text
        if self._rested():  # it was not tried since: this trouble is a new one
            self._steps, self._since_s = 0, None
        if self._since_s is None:
            self._since_s = now_s
        if outcome.fault is Fault.LOGIN and outcome.phase in (Phase.MAIL, Phase.RCPT):
            self._later_logins += 1
        elif outcome.fault is Fault.LOGIN:
            self._logins += 1
        refused = max(self._logins, self._later_logins)
        if refused >= LOGINS_TO_FAIL or now_s - self._since_s >= self.settings.failed_after_s:
            self.clear()
            return Verdict.FAIL
        if not self.backing_off:  # several sessions meet the same trouble: it is one
            wait_s = min(self.settings.backoff_first_s * 2.0**self._steps, self.settings.backoff_longest_s)
            self._steps = min(self._steps + 1, 40)
            self.backoff_until_us = self.clock.now_us() + int(wait_s * MICROS)
        return Verdict.BACK_OFF

    def _rested(self) -> bool:
        """Whether nothing was heard of it for long after its last wait was over."""
        until = self.backoff_until_us
        return (
            until is not None and self.clock.now_us() - until > (self.settings.failed_after_s + 60.0) * MICROS
        )

    def _refusal(self, outcome: Outcome) -> Verdict:
        now_s = self.clock.steady_s()
        self._refusals.append((now_s, _VARIABLE.sub("", outcome.text)))
        first_s, text = self._refusals[0]
        if (
            len(self._refusals) == EQUAL_REFUSALS
            and now_s - first_s <= EQUAL_WITHIN_S
            and all(other == text for _, other in self._refusals)
        ):
            self._refusals.clear()
            self.last_text = outcome.text
            return Verdict.HOLD
        return Verdict.FINE


def record_failed(
    account_id: AccountId, server_id: ServerId | None, connection_id: ConnectionId, version: int, text: str
) -> Work[bool]:
    """The engine found it failed; False when its settings were changed meanwhile."""
    at_us = yield from now()
    rows = yield Sql(
        "UPDATE connections SET connection_failed_at = :now, failed_reason = :text"
        " WHERE account_id = :account_id AND connection_id = :connection_id AND version = :version"
        " AND connection_failed_at IS NULL RETURNING connection_id",
        {
            "now": at_us,
            "text": text,
            "account_id": account_id,
            "connection_id": connection_id,
            "version": version,
        },
    )
    if rows:
        yield from _event(account_id, server_id, connection_id, EventKind.CONNECTION_FAILED, at_us)
        after: dict[str, object] = {"failed_at_us": at_us, "failed_reason": text}
        before: dict[str, object] = dict.fromkeys(after)
        yield from _line(
            account_id, connection_id, "connection.fail", {"before": before, "after": after}, at_us
        )
    return bool(rows)


def record_recovered(
    account_id: AccountId, server_id: ServerId | None, connection_id: ConnectionId, version: int
) -> Work[bool]:
    """A probe succeeded."""
    at_us = yield from now()
    failed = yield Sql(
        "SELECT connection_failed_at, failed_reason FROM connections"
        " WHERE account_id = :account_id AND connection_id = :connection_id",
        {"account_id": account_id, "connection_id": connection_id},
        " FOR UPDATE",
    )
    rows = yield Sql(
        "UPDATE connections SET connection_failed_at = NULL, failed_reason = NULL"
        " WHERE account_id = :account_id AND connection_id = :connection_id AND version = :version"
        " AND connection_failed_at IS NOT NULL RETURNING connection_id",
        {"account_id": account_id, "connection_id": connection_id, "version": version},
    )
    if rows:
        yield from _event(account_id, server_id, connection_id, EventKind.CONNECTION_RECOVERED, at_us)
        before: dict[str, object] = {"failed_at_us": failed[0][0], "failed_reason": failed[0][1]}
        after: dict[str, object] = dict.fromkeys(before)
        yield from _line(
            account_id, connection_id, "connection.recover", {"before": before, "after": after}, at_us
        )
    return bool(rows)


def record_held(
    account_id: AccountId, server_id: ServerId | None, connection_id: ConnectionId, hold_s: float, text: str
) -> Work[int]:
    """Ten equal refusals: nothing more goes there for a while. Returns until when.

    Several processes may find it at once: it is told once.
    """
    at_us = yield from now()
    until = at_us + int(hold_s * MICROS)
    rows = yield Sql(
        "UPDATE connections SET held_until = :until"
        " WHERE account_id = :account_id AND connection_id = :connection_id"
        " AND (held_until IS NULL OR held_until <= :now) RETURNING connection_id",
        {"until": until, "account_id": account_id, "connection_id": connection_id, "now": at_us},
    )
    if not rows:
        return until
    yield from _event(account_id, server_id, connection_id, EventKind.CONNECTION_HELD, at_us)
    detail = {"before": {"held_until_us": None}, "after": {"held_until_us": until}, "text": text}
    yield from _line(account_id, connection_id, "connection.hold", detail, at_us)
    return until


def note_back_off(
    account_id: AccountId, connection_id: ConnectionId, text: str, once_in_s: float
) -> Work[None]:
    """Trouble began; nothing is stored of it but that it was noticed, by one process in so long."""
    at_us = yield from now()
    which = {"connection_id": connection_id}
    yield Sql("SELECT version FROM connections WHERE connection_id = :connection_id", which, " FOR UPDATE")
    told = audit.Wanted(
        target=f"connection {connection_id}",
        action="connection.back_off",
        from_us=at_us - int(once_in_s * MICROS),
    )
    if (yield from audit.list_lines(told, limit=1)):
        return
    yield from _line(account_id, connection_id, "connection.back_off", {"text": text}, at_us)


def _line(
    account_id: AccountId, connection_id: ConnectionId, action: str, detail: Mapping[str, object], at_us: int
) -> Work[None]:
    target = f"connection {connection_id}"
    yield from audit.add(account_id, at_us, ENGINE, action, target, detail)


def _event(
    account_id: AccountId,
    server_id: ServerId | None,
    connection_id: ConnectionId,
    kind: EventKind,
    at_us: int,
) -> Work[None]:
    yield Sql(
        hot.INSERT_EVENT,
        {
            "account_id": account_id,
            "server_id": server_id or 0,
            "message_id": None,
            "delivery_id": None,
            "connection_id": connection_id,
            "kind": kind.value,
            "at": at_us,
            "data": "{}",
        },
    )
