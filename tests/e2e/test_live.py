"""Commands beside a running `serve`: what they report as done is in force there at that moment."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from postroom.cli import exits
from postroom.config import Settings
from postroom.inbound.inbox_folder import list_mails, read_mail
from tests.e2e.conftest import ask
from tests.support.serve import Serve, answer, postroom, serving, start_serve, wait_for


@pytest.fixture(scope="module")
def keys(live: Serve) -> dict[str, Any]:
    made: dict[str, Any] = live.answer("bootstrap", "--sender", "Shop <shop@example.com>")
    return made


@pytest.fixture(scope="module")
def connection(live: Serve, keys: dict[str, Any]) -> int:
    host, _, port = _inbox_of(live).rpartition(":")
    made = live.answer("connection", "create", "--host", host, "--port", port, "--server", "1")
    number: int = made["connection_id"]
    return number


def _inbox_of(serve: Serve) -> str:
    found = re.search(r"inbox takes SMTP on (\S+:\d+)", serve.text)
    assert found is not None
    return found[1]


def servers_with(live: Serve, key: str) -> int:
    """The status a request with this key gets."""
    return ask(f"{live.url}/api/v1/email_servers", key)[0]


def test_bootstrap_while_it_runs(live: Serve, keys: dict[str, Any]) -> None:
    assert list(keys) == ["account_id", "server_id", "account_key", "server_key"]
    assert servers_with(live, keys["server_key"]) == 200
    again = live.ask("bootstrap")
    assert (again["account_id"], again["server_id"]) == (keys["account_id"], keys["server_id"])
    assert servers_with(live, again["server_key"]) == 200
    assert servers_with(live, keys["server_key"]) == 200


def test_bootstrap_before_it_runs(tmp_path: Path) -> None:
    before = answer("bootstrap", data=tmp_path / "data")
    with serving(tmp_path / "data", "--first-run") as serve:
        assert "prs_" not in serve.text
        assert servers_with(serve, before["server_key"]) == 200


def test_a_new_key_works_at_once_and_a_revoked_one_no_more(live: Serve, keys: dict[str, Any]) -> None:
    made = live.answer("key", "create", "--label", "app", "--server", str(keys["server_id"]))
    assert servers_with(live, made["key"]) == 200
    live.answer("key", "revoke", str(made["key_id"]))
    assert servers_with(live, made["key"]) == 401


def test_trust_is_in_force_when_it_returns(live: Serve, keys: dict[str, Any]) -> None:
    send = ("message", "send", "--to", "a@example.net", "--text", "x", "--from", "me@new.example")
    assert postroom(*send, data=live.data).returncode == exits.REFUSED
    live.answer("identity", "trust", "new.example", "--server", str(keys["server_id"]))
    assert live.answer(*send)["message_id"] > 0


def test_a_message_goes_out_and_explain_says_how(live: Serve, connection: int) -> None:
    assert live.answer("connection", "test", str(connection))["passed"] is True
    sent = live.answer(
        "message", "send", "--to", "Ann <ann@example.net>", "--subject", "By hand", "--text", "hello"
    )
    number = str(sent["message_id"])

    def mail() -> Any:
        return [one for one in list_mails(live.data / "inbox") if one.subject == "By hand"]

    found = wait_for(mail, "the mail at the inbox")[0]
    assert b"From: Shop <shop@example.com>" in read_mail(live.data / "inbox", found.number)

    def settled() -> bool:
        shown = live.ask("message.show", message=number)
        return bool(shown["deliveries"][0]["state"] == "sent")

    wait_for(settled, "the delivery to be settled")
    told = live.answer("explain", number)
    attempt = told["deliveries"][0]["attempts"][0]
    assert (attempt["connection_id"], attempt["result"]) == (connection, "sent")


def test_a_test_that_fails_says_so(live: Serve, keys: dict[str, Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = str(taken.getsockname()[1])
        fields = {"label": "x", "host": "127.0.0.1", "port": port, "for_broadcast": True, "enabled": False}
        made = live.ask("connection.create", fields=fields)
        done = postroom("connection", "test", str(made["connection_id"]), "--json", data=live.data)
    live.ask("connection.delete", connection=made["connection_id"])
    assert done.returncode == exits.REFUSED
    assert json.loads(done.stdout)["phase"] == "connect"


@pytest.mark.parametrize("arguments", [("identity", "list"), ("message", "list"), ("config",)], ids=" ".join)
def test_json_is_one_document_over_the_socket_too(
    live: Serve, keys: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    assert isinstance(live.answer(*arguments), dict)


def test_errors_cross_the_socket_as_they_are(live: Serve, keys: dict[str, Any]) -> None:
    done = postroom("message", "show", "nothing", "--json", data=live.data)
    assert done.returncode == exits.NOT_FOUND
    assert json.loads(done.stdout) == {
        "error": {"kind": "not_found", "text": "message not found", "what": "message"}
    }


def test_a_second_serve_on_the_folder_refuses_and_names_the_first(live: Serve) -> None:
    """Z4."""
    done = postroom("serve", "--http", "127.0.0.1:0", data=live.data)
    assert done.returncode == exits.UNAVAILABLE
    assert f"process {live.process.pid} (serve)" in done.stderr
    assert done.stdout == ""


def test_a_taken_port_is_replaced_by_a_free_one_for_who_tries_it_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as inbox:
        taken = [f"127.0.0.1:{one.getsockname()[1]}" for one in (http, inbox)]
        with serving(tmp_path / "data", "--first-run", "--inbox", taken[1], http=taken[0]) as serve:
            assert serve.url != f"http://{taken[0]}"
            assert f"{taken[0]} was taken" in serve.text
            assert f"{taken[1]} was taken" in serve.text
            assert ask(f"{serve.url}/readyz", "")[0] == 200


def test_a_taken_port_nobody_asked_for_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    default = Settings().smtp
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # another program has it, which will do as well
            held.enter_context(socket.create_server((default.host, default.port)))
        with serving(tmp_path / "data", smtp=None) as serve:
            assert f"{default} was taken, so SMTP is taken on port" in serve.text


def test_config_shows_what_the_running_one_is_set_to(live: Serve) -> None:
    shown = answer("config", data=live.data, environment={"POSTROOM_DRAIN": "7s"})
    found = {one["name"]: one["value"] for one in shown["settings"]}
    assert (found["drain"], found["http"]) == ("30s", "127.0.0.1:0")


def test_doctor_is_content_with_a_folder_that_is_served(live: Serve, connection: int) -> None:
    done = postroom("doctor", "--json", data=live.data)
    document = json.loads(done.stdout)
    bad = [one for one in document["checks"] if one["level"] != "ok"]
    assert (done.returncode, bad, document["serving"]) == (0, [], True)
    assert live.url.removeprefix("http://") in done.stdout


def test_settings_nobody_knows_stop_it(tmp_path: Path) -> None:
    done = postroom("serve", data=tmp_path / "data", environment={"POSTROOM_INBOX_KEPT": "5"})
    assert done.returncode == exits.USAGE
    assert "POSTROOM_INBOX_KEPT" in done.stderr
    assert "inbox_keep" in done.stderr
    file = tmp_path / "postroom.toml"
    file.write_text("inbox_kept = 5\n")
    done = postroom("serve", "--config", str(file), data=tmp_path / "data")
    assert done.returncode == exits.USAGE
    assert "inbox_keep" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_killed_one_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    data = tmp_path.joinpath(*["a-folder-so-deep-that-its-path-is-too-long-for-a-socket"] * 2)
    data.parent.mkdir(parents=True)
    serve = start_serve(data)
    made = serve.answer("bootstrap")
    serve.stop(9)
    again = answer("bootstrap", data=data)
    with serving(data) as serve:
        for one in (made, again):
            assert servers_with(serve, one["server_key"]) == 200
        assert serve.ask("account.list")["data"][0]["name"] == "default"
    assert not os.path.exists(data / "control.path")
