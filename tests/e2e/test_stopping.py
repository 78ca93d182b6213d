"""How `serve` ends: what is on its way gets its time, a second signal ends it at once, nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.serve import Serve, start_serve, wait_for
from tests.support.sink import read_log, sink_process


def begin(serve: Serve, port: int, recipient: str) -> str:
    """Send one message through a sink at `port`; the message's number."""
    serve.ask("bootstrap", sender="shop@example.com")
    fields = {"label": "sink", "host": "127.0.0.1", "port": port, "for_transactional": True}
    serve.ask("connection.create", fields=fields)
    return str(serve.ask("message.send", to=[recipient], text="hello")["message_id"])


def delivery(serve: Serve, message: str) -> Any:
    return serve.ask("message.show", message=message)["deliveries"][0]


def test_what_is_past_its_dot_is_heard_out(tmp_path: Path) -> None:
    log = tmp_path / "sink.log"
    with sink_process(log, "--delay-ms", "800") as sink:
        serve = start_serve(tmp_path / "data")
        message = begin(serve, sink.port, "slow@example.net")
        wait_for(lambda: read_log(log), "the dot")
        assert serve.stop() == 0
    assert delivery(serve, message)["state"] == "sent"
    assert len(read_log(log)) == 1


def test_a_short_drain_leaves_the_outcome_unknown_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "sink.log"
    with sink_process(log) as sink:
        serve = start_serve(tmp_path / "data", "--drain", "0.2s")
        message = begin(serve, sink.port, "hang+dot@example.net")
        wait_for(lambda: read_log(log), "the dot")
        began = time.monotonic()
        assert serve.stop() == 0
        assert time.monotonic() - began < 25
    assert delivery(serve, message)["state"] == "unknown"


def test_it_answers_while_it_drains_and_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    log = tmp_path / "sink.log"
    with sink_process(log) as sink:
        serve = start_serve(tmp_path / "data", "--drain", "10m")
        message = begin(serve, sink.port, "hang+dot@example.net")
        wait_for(lambda: read_log(log), "the dot")
        os.killpg(serve.process.pid, signal.SIGTERM)
        wait_for(lambda: "stopping" in serve.log.read_text(), "the first signal to be seen")
        assert serve.ask("account.list")["data"][0]["name"] == "default"
        assert serve.process.poll() is None
        began = time.monotonic()
        serve.stop()
        assert time.monotonic() - began < 25
        again = start_serve(tmp_path / "data", "--drain", "0s")
        assert delivery(again, message)["state"] == "unknown"
        assert again.stop() == 0
    assert len(read_log(log)) == 1
