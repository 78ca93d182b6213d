"""Enhanced codes are found where they are, and nowhere else."""

from __future__ import annotations

import pytest

from postroom.mail.status import enhanced, find_status, parse_status


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        (550, "5.1.1 User unknown", "5.1.1"),
        (550, "550-5.1.1 first 550 5.1.1 second", "5.1.1"),
        (550, "#5.1.0 Address rejected.", "5.1.0"),
        (550, "mailbox unavailable (5.7.1).", "5.7.1"),
        (550, "see 4.94.2, code 5.2.2.", "5.2.2"),
        (451, "4.7.650 rate limited", "4.7.650"),
        (550, "4.1.1 of another class", ""),
        (550, "host 5.1.1.9 refused", ""),
        (550, "host 10.5.1.1 refused", ""),
        (550, "version 15.1.1", ""),
        (0, "Status: 4.2.2", "4.2.2"),
        (550, "", ""),
        (550, "5.1.1234", ""),
    ],
)
def test_enhanced(code: int, text: str, found: str) -> None:
    assert enhanced(code, text) == found


def test_parts() -> None:
    status = find_status(550, "5.7.26 no")
    assert status is not None
    assert (status.severity, status.subject, status.detail) == (5, 7, 26)
    assert (status.text, status.about) == ("5.7.26", "security or policy")


def test_parse_status_takes_a_whole_value_only() -> None:
    assert parse_status(" 2.0.0 ") is not None
    assert parse_status("5.1.1 (bad)") is None
    assert parse_status("3.1.1") is None
    unknown = parse_status("5.9.9")
    assert unknown is not None
    assert unknown.about == "other"
