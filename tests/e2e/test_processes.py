"""`serve` of several processes on PostgreSQL: they share sockets and work, and none of them is needed."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import shared_databases
from tests.support.serve import Serve, answer, postroom, serving, start_serve, wait_for

FRONT = ("--role", "http,smtp,inbound")
BACK = ("--role", "deliver,housekeeping")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with shared_databases().fresh() as url:
        yield {"POSTROOM_DATABASE": url, "POSTROOM_DATABASE_MAY_FORGET": "true"}


def children(serve: Serve) -> set[int]:
    """The processes of a `serve`, without its supervisor."""
    listed = Path(f"/proc/{serve.process.pid}/task/{serve.process.pid}/children").read_text()
    return {int(word) for word in listed.split()}


def operations(serve: Serve) -> int:
    """How many requests for /metrics and its like were answered so far, by all processes."""
    with urllib.request.urlopen(f"{serve.url}/metrics", timeout=10) as response:
        found = re.findall(
            r'^postroom_http_requests_total\{code="200",dialect="operations"\} (\S+)$|'
            r'^postroom_http_requests_total\{dialect="operations",code="200"\} (\S+)$',
            response.read().decode(),
            re.MULTILINE,
        )
    return int(float("".join(found[0])))


def is_ready(serve: Serve) -> bool:
    with urllib.request.urlopen(f"{serve.url}/readyz", timeout=10) as response:
        return bool(json.loads(response.read())["status"] == "ok")


def test_a_dead_child_is_replaced_and_another_answers_commands(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    flags = (*FRONT, "--processes", "2", "--first-run")
    with serving(tmp_path / "data", *flags, environment=environment) as serve:
        assert "(2 processes)" in serve.text
        assert "server key" in serve.text
        first = children(serve)
        holder = json.loads((serve.data / "lock").read_text())["pid"]
        assert len(first) == 2
        assert holder in first
        assert {os.getpgid(pid) for pid in first} == {serve.process.pid}
        os.kill(holder, signal.SIGKILL)
        wait_for(lambda: len(children(serve) - {holder}) == 2, "the next child")
        wait_for(lambda: "was started again" in serve.log.read_text(), "it to be ready")
        assert json.loads((serve.data / "lock").read_text())["pid"] != holder
        assert serve.ask("account.list")["data"][0]["name"] == "default"
        assert is_ready(serve)
        counted = [operations(serve) for _ in range(9)]
        assert counted == list(range(counted[0], counted[0] + 9)), "each answer, whichever process gave it"
        shown = serve.ask("status")
        assert len(shown["processes"]) == 2
        assert set(shown["listening"]) == {"http", "smtp"}


def test_children_end_when_their_supervisor_is_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    serve = start_serve(tmp_path / "data", *FRONT, "--processes", "2", environment=environment)
    left = children(serve)
    os.kill(serve.process.pid, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "the children to end")
    serve.stop()


def test_a_second_signal_ends_a_child_that_hangs(tmp_path: Path, environment: dict[str, str]) -> None:
    serve = start_serve(tmp_path / "data", *FRONT, "--processes", "2", environment=environment)
    hung = min(children(serve))
    os.kill(hung, signal.SIGSTOP)
    os.kill(serve.process.pid, signal.SIGTERM)
    wait_for(lambda: len(children(serve)) == 1, "the other child to drain")
    assert serve.process.poll() is None
    assert serve.stop() == 0
    assert not Path(f"/proc/{hung}").exists()


def test_two_services_with_other_roles_share_a_data_folder(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data = tmp_path / "data"
    with serving(data, *FRONT, "--inbox", "127.0.0.1:0", "--first-run", environment=environment) as front:
        inbox = next(line for line in front.lines if "test inbox takes SMTP" in line).split(" on ")[1]
        port = int(inbox.split(";")[0].rpartition(":")[2])
        fields = {"label": "inbox", "host": "127.0.0.1", "port": port, "for_transactional": True}
        front.ask("connection.create", fields=fields)
        front.ask("identity.trust", value="shop@example.com")
        sent = front.ask("message.send", to=["a@example.net"], text="hello", sender="shop@example.com")
        shown = front.ask("message.show", message=str(sent["message_id"]))
        assert shown["deliveries"][0]["state"] == "ready"
        monitor = ("--operations", "127.0.0.1:0")
        with serving(data, *BACK, *monitor, environment=environment, smtp=None, http=None) as back:
            assert "deliver, housekeeping" in back.text
            assert is_ready(back)  # on the address for operations
            assert len(front.ask("status")["processes"]) == 2
            wait_for(lambda: list((data / "inbox").glob("*.eml")), "the mail in the inbox")


def test_doctor_asks_the_server(tmp_path: Path, environment: dict[str, str]) -> None:
    data = tmp_path / "data"
    answer("bootstrap", data=data, environment=environment)
    ring = (data / "keys.ring").read_text().replace("\n", ";")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    given = {**environment, "POSTROOM_KEY_RING": ring}
    done = postroom("doctor", "--json", data=elsewhere, environment=given)
    found = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert found["durability"]["level"] == "broken"  # the tests' own server
    assert found["clock of the database"]["level"] == "ok"
    assert found["key file"]["text"].startswith("given by key_ring")
    assert "server 1" in found
    assert not (elsewhere / "keys.ring").exists()


def test_a_child_that_cannot_start_ends_serve_with_its_reason(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    nowhere = {**environment, "POSTROOM_DATABASE": "postgresql://postroom@127.0.0.1:1/none"}
    flags = ("--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0", "--processes", "2")
    done = postroom("serve", *flags, data=tmp_path / "data", environment=nowhere)
    assert done.returncode == 4
    assert "the database cannot be reached" in done.stderr
