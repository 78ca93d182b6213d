"""What people are shown: nothing of Python's, nothing torn."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.cli import exits, run
from postroom.inbound.inbox_folder import InboxFolder


def test_a_folded_field_is_shown_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inbox = InboxFolder(tmp_path, keep=10, fsync=False)
    inbox.open()
    inbox.add({}, b"Received: by a\r\n\twith SMTP;\r\n Sat\r\nFrom: a@example.com\r\n\r\nHello\r\n")
    inbox.close()
    assert run(["inbox", "show", "1", "--folder", str(tmp_path)]) == exits.OK
    assert capsys.readouterr().out.splitlines()[:2] == [
        "Received: by a with SMTP; Sat",
        "From: a@example.com",
    ]


def test_a_vendor_is_shown_without_brackets_and_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vendor", "show", "postmark"]) == exits.OK
    shown = capsys.readouterr().out.splitlines()
    assert ("methods", "smtp, api") in {tuple(line.split(None, 1)) for line in shown}
    assert ("smtp_ports", "587, 2525, 25") in {tuple(line.split(None, 1)) for line in shown}
    assert not any("('" in line for line in shown)
