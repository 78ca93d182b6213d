"""What the first start prints can be pasted into a shell as it is."""

from __future__ import annotations

import json
import shlex

import pytest

from postroom.cli.first_run import RECIPIENT, curl_lines, fresh_lines
from postroom.cli.serve import _tell
from postroom.cli.terminal import Terminal
from postroom.serving.ready import Ready

KEY = "prs_abcdefghijkmnpqrstuvwxyz23456789abcd"
MADE = {"account_id": 1, "server_id": 1, "account_key": "pra_x", "server_key": KEY}


def test_each_line_is_one_curl_with_the_key() -> None:
    lines = curl_lines("http://127.0.0.1:8080", KEY, "127.0.0.1", 2526)
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["curl", "-X", "POST"]
        assert f"Authorization: Bearer {KEY}" in words
    connect, test, send = (shlex.split(line) for line in lines)
    server = json.loads(connect[-1])["email_server"]
    assert (server["smtp_address"], server["smtp_port"]) == ("127.0.0.1", 2526)
    assert test[3] == "http://127.0.0.1:8080/api/v1/email_servers/1/test_connection"
    assert json.loads(send[-1])["to"] == RECIPIENT


def test_without_an_inbox_only_keys_are_shown() -> None:
    text = "\n".join(fresh_lines(MADE, [], "", "postroom", ""))
    assert KEY in text
    assert "curl" not in text


def test_the_way_to_the_mail_is_shown_as_it_was_started() -> None:
    curls = curl_lines("http://127.0.0.1:8080", KEY, "127.0.0.1", 2526)
    text = "\n".join(
        fresh_lines(MADE, curls, "127.0.0.1:2526", ".venv/run/bin/python -m postroom", " --data d")
    )
    assert "  .venv/run/bin/python -m postroom inbox list --data d" in text.splitlines()


@pytest.mark.parametrize("fresh", [True, False])
def test_a_bare_serve_says_how_an_account_is_made_where_there_is_none(
    fresh: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = Ready("http://127.0.0.1:8080", None, "127.0.0.1:2525", None, "./data", "", False, None, fresh)
    _tell(Terminal({"data": "./data"}, None, False), ready)
    assert ("postroom bootstrap --data ./data" in capsys.readouterr().out) is fresh
