"""`serve` on a disk that fills up, gets room again, or cannot be written at all."""

from __future__ import annotations

import smtplib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from email.policy import SMTP
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ask
from tests.e2e.test_submission import letter, smtp_port
from tests.support.serve import Serve, postroom, serving, wait_for
from tests.support.sink import read_log, sink_process
from tests.support.small_disk import SmallDisk, small_disk

MAIL = {"subject": "Hello", "body": "x" * 2000}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


def send(serve: Serve, key: str, recipient: str) -> tuple[int, Any]:
    return ask(serve.url + "/api/v1/transactionals.json", key, {**MAIL, "to": recipient})


def accepted(serve: Serve, key: str, recipient: str) -> bool:
    return send(serve, key, recipient)[0] == 201


def test_a_full_disk_refuses_what_is_new_loses_nothing_and_heals_by_itself(
    tmp_path: Path, disk: SmallDisk
) -> None:
    log = tmp_path / "sink.log"
    with (
        sink_process(log, "--delay-ms", "20") as sink,
        serving(disk.folder / "data", "--inbox", "127.0.0.1:0") as serve,
    ):
        made = serve.ask("bootstrap", sender="shop@example.com")
        key = made["server_key"]
        fields = {"label": "sink", "host": "127.0.0.1", "port": sink.port, "for_transactional": True}
        serve.ask("connection.create", server=made["server_id"], fields=fields)
        yes: list[str] = []
        for number in range(40):
            person = f"before{number}@example.net"
            if send(serve, key, person)[0] == 201:
                yes.append(person)
        assert len(yes) == 40
        disk.fill()  # while they are on their way
        refused = {send(serve, key, f"during{number}@example.net")[0] for number in range(30)}
        assert refused == {503}
        assert retry_after(serve, key) >= 1
        assert ask(serve.url + "/api/v1/whoami", key)[0] == 200
        assert smtp_reply(serve, smtp_port(serve), key) == (452, b"4.3.1")
        assert smtp_reply(serve, smtp_port(serve, "test inbox"), key) == (452, b"4.3.1")
        told = len(serve.log.read_text().splitlines())
        assert told < 40, serve.log.read_text()

        disk.empty()
        for number in range(10):
            person = f"after{number}@example.net"
            wait_for(partial(accepted, serve, key, person), "a yes once there is room")
            yes.append(person)
        assert smtp_reply(serve, smtp_port(serve), key)[0] == 250
        yes.append("ann@example.net")
        wait_for(lambda: len(read_log(log)) >= len(yes), "everything at the sink", 30.0)
        wait_for(lambda: _settled(serve, len(yes)), "every outcome written")
    assert Counter(one.recipient for one in read_log(log)) == Counter(yes)
    assert "can be written again" in serve.log.read_text()


def _settled(serve: Serve, count: int) -> bool:
    shown = [serve.ask("message.show", message=str(n))["deliveries"][0]["state"] for n in range(1, count + 1)]
    return set(shown) == {"sent"}


def retry_after(serve: Serve, key: str) -> int:
    request = urllib.request.Request(
        serve.url + "/api/v1/transactionals.json",
        data=b'{"to": "a@example.net", "subject": "s", "body": "b"}',
        headers={"Authorization": f"Bearer {key}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value as answer:
        assert answer.code == 503
        assert b"Server error" in answer.read()
        return int(answer.headers["Retry-After"])


def smtp_reply(serve: Serve, port: int, key: str) -> tuple[int, bytes]:
    """The code and enhanced code of the reply to a message."""
    with smtplib.SMTP("localhost", port, timeout=10) as client:
        client.login(key, key)
        client.mail("shop@example.com")
        client.rcpt("ann@example.net")
        code, text = client.data(letter("shop@example.com").as_bytes(policy=SMTP))
        return code, text.split(b" ")[0]


def test_a_start_on_a_full_disk_says_so(disk: SmallDisk) -> None:
    disk.fill()
    done = postroom("serve", "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0", data=disk.folder / "data")
    assert done.returncode == 4, done.stderr
    assert "No space left" in done.stderr or "full" in done.stderr
    assert "Traceback" not in done.stderr
    disk.empty()
    with serving(disk.folder / "data") as serve:
        assert serve.ask("account.list") is not None


def test_a_start_on_a_read_only_disk_says_so(disk: SmallDisk) -> None:
    data = disk.folder / "data"
    with serving(data) as serve:
        serve.ask("bootstrap", sender="shop@example.com")
    disk.read_only(True)
    for command in (
        ("serve", "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0"),
        ("account", "create", "Another"),
    ):
        done = postroom(*command, data=data)
        assert done.returncode == 4, (command, done.stderr)
        assert "ead-only" in done.stderr or "readonly" in done.stderr
        assert "Traceback" not in done.stderr
    disk.read_only(False)
    with serving(data) as serve:
        assert serve.ask("account.list")["data"]
