"""The main job by three processes on PostgreSQL, one of them killed: nothing is lost, copies stay bounded."""

from __future__ import annotations

import http.client
import json
import os
import signal
import smtplib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import shared_databases
from tests.support.serve import Serve, serving, wait_for
from tests.support.sink import read_log, sink_process

SENDER = "shop@example.com"
MESSAGES = 36
SESSIONS = 6


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with shared_databases().fresh() as url:
        yield {"POSTROOM_DATABASE": url, "POSTROOM_DATABASE_MAY_FORGET": "true"}


def children(serve: Serve) -> list[int]:
    """The processes of a `serve`, without its supervisor."""
    listed = Path(f"/proc/{serve.process.pid}/task/{serve.process.pid}/children").read_text()
    return [int(word) for word in listed.split()]


def over_http(serve: Serve, key: str, recipient: str) -> str | None:
    """One message over a connection of its own; the recipient, or None where there was no yes."""
    connection = http.client.HTTPConnection(serve.url.removeprefix("http://"), timeout=20)
    body = json.dumps({"to": recipient, "subject": "Hello", "body": "text"})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/api/v1/transactionals.json", body, headers)
        return recipient if connection.getresponse().status == 201 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def over_smtp(serve: Serve, key: str, recipient: str) -> str | None:
    """The same by SMTP."""
    line = next(line for line in serve.lines if "send by SMTP on" in line)
    host, _, port = line.split(" on ")[1].split(",")[0].partition(":")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, recipient, "Hello"
    message.set_content("text")
    try:
        with smtplib.SMTP(host, int(port), timeout=20) as client:
            client.login(key, key)
            client.send_message(message)
    except (OSError, smtplib.SMTPException):
        return None
    return recipient


def prepare(serve: Serve, port: int) -> str:
    """A connection to the sink; a server key."""
    made = serve.ask("bootstrap", sender=SENDER)
    fields: dict[str, Any] = {"label": "sink", "host": "127.0.0.1", "port": port, "for_transactional": True}
    serve.ask("connection.create", fields=fields)
    return str(made["server_key"])


def test_a_child_killed_while_it_sends_loses_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    log = tmp_path / "sink.log"
    flags = ("--processes", "3", "--sessions-per-connection", str(SESSIONS), "--unknown-wait", "0.2s")
    with (
        sink_process(log, "--delay-ms", "100") as sink,
        serving(tmp_path / "data", *flags, environment=environment) as serve,
    ):
        key = prepare(serve, sink.port)
        victim = children(serve)[-1]
        with ThreadPoolExecutor(6) as threads:
            tries = [threads.submit(over_http, serve, key, f"h{n}@example.net") for n in range(MESSAGES)]
            tries += [threads.submit(over_smtp, serve, key, f"s{n}@example.net") for n in range(6)]
            wait_for(lambda: len(read_log(log)) > 10, "some to be sent")
            os.kill(victim, signal.SIGKILL)
        accepted = {one for one in (each.result() for each in tries) if one is not None}
        assert len(accepted) > MESSAGES / 2
        assert any(one.startswith("s") for one in accepted)
        wait_for(lambda: accepted <= {one.recipient for one in read_log(log)}, "all of them", 30)
        wait_for(lambda: victim not in children(serve) and len(children(serve)) == 3, "the next child")
        wait_for(lambda: "was started again" in serve.log.read_text(), "it to be ready")
        journals = tmp_path / "data" / "journals"
        wait_for(lambda: len(list(journals.glob("*.journal"))) == 3, "the dead one's journal to be replayed")
        wait_for(lambda: serve.ask("status")["unsettled_attempts"] == 0, "every outcome")
        received = [one.recipient for one in read_log(log)]
        assert len(received) - len(set(received)) <= SESSIONS, "more copies than open transactions"
    assert not list(journals.glob("*.journal")), "what was taken over is settled"


def test_stopping_lets_every_child_hear_out_what_is_past_its_dot(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    log = tmp_path / "sink.log"
    with sink_process(log, "--delay-ms", "800") as sink:
        with serving(tmp_path / "data", "--processes", "2", environment=environment) as serve:
            key = prepare(serve, sink.port)
            with ThreadPoolExecutor(4) as threads:
                assert all(threads.map(lambda n: over_http(serve, key, f"h{n}@example.net"), range(8)))
            wait_for(lambda: len(read_log(log)) == 8, "the dots")
        states = {
            one["state"]
            for message in serve.ask("message.list")["data"]
            for one in serve.ask("message.show", message=str(message["message_id"]))["deliveries"]
        }
        assert states == {"sent"}
    assert len(read_log(log)) == 8
