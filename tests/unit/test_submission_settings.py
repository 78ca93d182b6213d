"""Each setting of submission reaches the limit it is named for."""

from __future__ import annotations

from postroom.config import load
from postroom.inbound.smtp_server import SessionLimits
from postroom.of_settings import session_limits


def test_the_defaults_are_those_of_the_listener() -> None:
    assert session_limits(load({}, {})) == SessionLimits()


def test_each_limit_is_a_setting() -> None:
    given = {
        "submission_sessions": "7",
        "submission_sessions_per_address": "6",
        "submission_bytes_in_flight": "50MB",
        "submission_idle": "5s",
        "submission_session_time": "40s",
        "submission_messages_per_session": "3",
    }
    found = session_limits(load(given, {}))
    assert (found.max_sessions, found.sessions_per_address) == (7, 6)
    assert found.memory_bytes == 50 << 20
    assert (found.idle_s, found.session_s, found.messages_per_session) == (5.0, 40.0, 3)
