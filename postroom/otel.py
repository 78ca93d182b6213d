"""Traces for OpenTelemetry: spans of what `tracing` tells, sent by OTLP over HTTP.

All spans of a message share one trace, whose id is made of the installation's and the message's: attempts
that come days later, after a restart, join it without anything being stored. Its root is `accept`; each
attempt has a span with `claim`, `deliver` (the phases of SMTP as events) and `settle` below it.

Imported only where the setting `otel_endpoint` is given, for the packages are an extra. What else
OpenTelemetry can be told (headers, sampler, service name) it reads from its own environment variables. The
library sends in a thread of its own and drops what an endpoint does not take; mail never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from hashlib import blake2b

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

import postroom
from postroom.logs import logger
from postroom.tracing import Received, Tried

log = logger("otel")
TRACES_PATH = "/v1/traces"
_CLOSE_S = 5.0
_MICRO = 1000  # nanoseconds, in which OpenTelemetry counts
Values = Mapping[str, str | int]


class OtelTraces:
    """Implements `tracing.Traces`."""

    def __init__(self, exporter: SpanExporter, instance: str) -> None:
        """instance: this installation's id; with a message's number it makes the trace's."""
        self._instance = instance
        own = {
            "service.name": "postroom",
            "service.version": postroom.__version__,
            "service.instance.id": instance,
        }
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource(own).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("postroom", postroom.__version__)

    def received(self, one: Received) -> None:
        """`accept`, the root of its message's trace."""
        self._ids.trace_id, self._ids.span_id = self._root(one.message_id)
        try:
            self._span(
                Context(),
                "accept",
                one.began_us,
                one.ended_us,
                {
                    **_whose(one.message_id, one.account_id, one.server_id, one.purpose),
                    "postroom.origin": one.origin,
                    "postroom.deliveries": one.deliveries,
                },
                SpanKind.SERVER,
            )
        finally:
            self._ids.trace_id = self._ids.span_id = None

    def tried(self, one: Tried) -> None:
        """`attempt`, with `claim`, `deliver` and `settle` below it."""
        marks = one.marks
        values: Values = {
            **_whose(one.message_id, one.account_id, one.server_id, one.purpose),
            "postroom.delivery": one.delivery_id,
            "postroom.attempt": one.attempt_id,
            "postroom.connection": one.connection_id,
            "postroom.result": one.result,
            "postroom.fault": one.fault,
            "postroom.phase": one.phase,
            "postroom.code": one.code,
            "postroom.signed": one.signed,
        }
        status = _status(one)
        attempt = self._tracer.start_span(
            "attempt",
            self._below_root(one.message_id),
            start_time=marks.claim_began_us * _MICRO,
            attributes=values,
        )
        below = trace.set_span_in_context(attempt, Context())
        self._span(below, "claim", marks.claim_began_us, marks.claimed_us)
        if marks.deliver_began_us:
            deliver = self._tracer.start_span(
                "deliver",
                below,
                SpanKind.CLIENT,
                start_time=marks.deliver_began_us * _MICRO,
                attributes={"postroom.connection": one.connection_id},
            )
            for name, at_us in marks.passed:
                deliver.add_event(name, timestamp=at_us * _MICRO)
            deliver.set_status(status)
            deliver.end(marks.ended_us * _MICRO)
        self._span(below, "settle", marks.ended_us, one.settled_us)
        attempt.set_status(status)
        attempt.end(one.settled_us * _MICRO)

    async def close(self) -> None:
        """Send what is left, within a few seconds: an endpoint that hangs holds nobody up."""
        # A daemon thread: asyncio's own would be waited for when the process ends.
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut, name="postroom-otel-end", daemon=True).start()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await done.wait()
        except TimeoutError:
            log.warning("traces were left behind: the endpoint took too long")

    def _root(self, message_id: int) -> tuple[int, int]:
        """The ids of a message's trace and of its `accept`."""
        digest = blake2b(f"{self._instance}:{message_id}".encode(), digest_size=24).digest()
        return int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:], "big") or 1

    def _below_root(self, message_id: int) -> Context:
        """As a child of `accept`, which may have ended long ago; sampled if that was."""
        trace_id, span_id = self._root(message_id)
        decision = self._provider.sampler.should_sample(None, trace_id, "accept").decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        root = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags))
        return trace.set_span_in_context(root, Context())

    def _span(
        self,
        context: Context,
        name: str,
        began_us: int,
        ended_us: int,
        values: Values | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        span = self._tracer.start_span(name, context, kind, values, start_time=began_us * _MICRO)
        span.end(ended_us * _MICRO)


def over_http(endpoint: str, instance: str) -> OtelTraces:
    """Traces to an OTLP endpoint, such as http://127.0.0.1:4318."""
    return OtelTraces(OTLPSpanExporter(endpoint + TRACES_PATH), instance)


class _Ids(RandomIdGenerator):
    """Random ids, but for the one span whose ids are set."""

    trace_id: int | None = None
    span_id: int | None = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.trace_id is None else self.trace_id

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self.span_id is None else self.span_id


def _whose(message_id: int, account_id: int, server_id: int, purpose: str) -> Values:
    return {
        "postroom.message": message_id,
        "postroom.account": account_id,
        "postroom.server": server_id,
        "postroom.purpose": purpose,
    }


def _status(one: Tried) -> Status:
    if one.result == "sent":
        return Status(StatusCode.OK)
    return Status(StatusCode.ERROR, f"{one.result} at {one.phase}" + (f", {one.code}" if one.code else ""))
