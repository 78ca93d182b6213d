"""Traces: what spans a message leaves, sent to a real OTLP receiver on loopback, and what is not in them."""

from __future__ import annotations

import asyncio
import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

import postroom
from postroom import wiring
from postroom.config import ConfigError, load
from postroom.control.lock import SERVE
from postroom.control.operations import run
from postroom.otel import OtelTraces
from postroom.tracing import Marks, Received, Tried
from tests.support.engine import sink
from tests.support.serve import PATIENCE_S

S = 1_000_000
RECEIVED = Received(7, 1, 2, "broadcast", "transactional", 1, 10 * S, 11 * S)


def tried(result: str = "sent", **changes: Any) -> Tried:
    marks = Marks(12 * S, 13 * S, 14 * S, [("mail", 15 * S), ("data", 16 * S), ("dot", 17 * S)], 18 * S)
    values = {
        "message_id": 7,
        "delivery_id": 70,
        "attempt_id": 700,
        "account_id": 1,
        "server_id": 2,
        "connection_id": 3,
        "purpose": "transactional",
        "marks": marks,
        "settled_us": 19 * S,
        "result": result,
        "fault": "none",
        "phase": "done",
        "code": 250,
        "signed": "rsa ed25519",
    }
    return Tried(**{**values, **changes})


class Collected(SpanExporter):
    """Keeps what is exported."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to end."""


async def spans_of(*told: Received | Tried) -> dict[str, Any]:
    collected = Collected()
    traces = OtelTraces(collected, "instance")
    for one in told:
        if isinstance(one, Received):
            traces.received(one)
        else:
            traces.tried(one)
    await traces.close()
    return {span.name: span for span in collected.spans}


async def test_a_message_is_one_trace_from_accept_to_settle() -> None:
    spans = await spans_of(RECEIVED, tried())
    assert set(spans) == {"accept", "attempt", "claim", "deliver", "settle"}
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert spans["accept"].parent is None
    assert spans["attempt"].parent.span_id == spans["accept"].context.span_id
    for name in ("claim", "deliver", "settle"):
        assert spans[name].parent.span_id == spans["attempt"].context.span_id
    times = {name: (span.start_time // 10**9, span.end_time // 10**9) for name, span in spans.items()}
    assert times == {
        "accept": (10, 11),
        "attempt": (12, 19),
        "claim": (12, 13),
        "deliver": (14, 18),
        "settle": (18, 19),
    }
    events = [(one.name, one.timestamp // 10**9) for one in spans["deliver"].events]
    assert events == [("mail", 15), ("data", 16), ("dot", 17)]
    assert spans["deliver"].status.status_code is StatusCode.OK
    assert spans["attempt"].attributes["postroom.connection"] == 3
    assert spans["attempt"].attributes["postroom.signed"] == "rsa ed25519"
    assert spans["accept"].resource.attributes["service.name"] == "postroom"
    assert spans["accept"].resource.attributes["service.instance.id"] == "instance"


async def test_an_attempt_after_a_restart_joins_the_trace_of_its_message() -> None:
    first = await spans_of(RECEIVED)
    later = await spans_of(tried("bounced", phase="rcpt", code=550))
    other = await spans_of(tried(message_id=8))
    assert later["attempt"].context.trace_id == first["accept"].context.trace_id
    assert later["attempt"].parent.span_id == first["accept"].context.span_id
    assert other["attempt"].context.trace_id != first["accept"].context.trace_id
    assert later["attempt"].status.status_code is StatusCode.ERROR
    assert later["attempt"].status.description == "bounced at rcpt, 550"


async def test_what_was_given_back_before_it_was_tried_has_no_delivery() -> None:
    spans = await spans_of(tried("returned", marks=Marks(12 * S, 13 * S, ended_us=14 * S)))
    assert set(spans) == {"attempt", "claim", "settle"}


async def test_a_sampler_that_drops_the_accept_drops_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    collected = Collected()
    traces = OtelTraces(collected, "instance")
    for number in range(100):
        traces.received(Received(number, 1, 2, "smtp", "broadcast", 1, S, S))
        traces.tried(tried(message_id=number))
    await traces.close()
    seen = {
        name: {one.attributes["postroom.message"] for one in collected.spans if one.name == name}
        for name in ("accept", "attempt")
    }
    assert seen["accept"] == seen["attempt"]
    assert 20 < len(seen["accept"]) < 80


class Receiver(http.server.BaseHTTPRequestHandler):
    """An OTLP/HTTP endpoint."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Handler", (Receiver,), {"bodies": bodies}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def test_a_real_message_is_told_to_a_real_endpoint_without_an_address_or_a_subject(
    tmp_path: Path, receiver: tuple[str, list[bytes]]
) -> None:
    url, bodies = receiver
    settings = load({"data": str(tmp_path / "data"), "otel_endpoint": url}, {})
    room = await wiring.open_post_room(settings, role=SERVE)
    try:
        async with sink(tmp_path) as peer:
            await run(room.desk, "bootstrap", {"sender": "canary-sender@example.org"})
            await run(
                room.desk,
                "connection.create",
                {
                    "fields": {
                        "host": "127.0.0.1",
                        "port": peer.port,
                        "label": "canary-label",
                        "security": "never",
                        "for_transactional": True,
                    }
                },
            )
            await room.dispatcher.start()
            sent: Any = await run(
                room.desk,
                "message.send",
                {"to": ["canary-to@example.net"], "subject": "canary-subject", "text": "canary-text"},
            )
            await until(lambda: room.ctx.tally.attempts["sent", 1])
            await room.dispatcher.stop()
    finally:
        await room.close()
    spans: dict[str, Any] = {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                spans |= {span.name: span for span in scope.spans}
    assert set(spans) == {"accept", "attempt", "claim", "deliver", "settle"}
    assert len({span.trace_id for span in spans.values()}) == 1
    assert [one.name for one in spans["deliver"].events] == ["mail", "data", "dot"]
    values = {one.key: one.value for one in spans["accept"].attributes}
    assert values["postroom.message"].int_value == sent["message_id"]
    assert b"canary" not in b"".join(bodies)
    assert b"example" not in b"".join(bodies)


class Hanging(Collected):
    """Takes as long as it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def shutdown(self) -> None:
        self.let.wait(PATIENCE_S)


def test_an_endpoint_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.otel._CLOSE_S", 0.05)
    hanging = Hanging()

    async def close() -> None:
        traces = OtelTraces(hanging, "instance")
        traces.received(RECEIVED)
        async with asyncio.timeout(5):
            await traces.close()

    asyncio.run(close())
    assert not hanging.let.is_set()
    hanging.let.set()  # its thread ends after the loop has: nothing is printed of that
    for thread in threading.enumerate():
        if thread.name == "postroom-otel-end":
            thread.join(PATIENCE_S)


async def test_a_command_makes_no_traces_and_serve_without_the_packages_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load({"data": str(tmp_path / "data"), "otel_endpoint": "http://127.0.0.1:1"}, {})
    monkeypatch.setitem(sys.modules, "postroom.otel", None)
    monkeypatch.delattr(postroom, "otel", raising=False)
    async with wiring.opened(settings) as room:
        assert room.ctx.traces is None
    with pytest.raises(ConfigError, match=r"pip install 'postroom\[otel\]'"):
        await wiring.open_post_room(settings, role=SERVE)
    async with wiring.opened(load({"data": str(tmp_path / "data")}, {}), role=SERVE) as room:
        assert room.ctx.traces is None


def test_without_the_setting_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, postroom.serving.process; foreign = ('opentelemetry', 'requests', 'google.protobuf'); "
        "print([one for one in sys.modules if one.startswith(foreign)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
