"""One span per traced record and stage, from the hand-over of its run until all effects are durable.

Names are those of OpenTelemetry's conventions for messaging. The trace travels in the header `traceparent` (W3C Trace
Context), so a record that nobody traces costs a look at its headers, and one without headers nothing.
"""

import logging
import re
from collections.abc import Sequence
from random import random
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.errors import InvalidRecord
from streams.record import Headers, Message, Record
from streams.tracing import Tracing

_W3C = TraceContextTextMapPropagator()
_NAMES = ("traceparent", "tracestate")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})")
_NOT_SAMPLED = Context()
_CLOSE_S = 2.0
_Place = tuple[int, int]


def provider(endpoint: str, service: str) -> TracerProvider:
    """Return what sends spans to the collector at `endpoint` (OTLP over HTTP), in a thread of its own.

    Who is sampled is decided here before a span is made. What can't be sent is dropped, so a collector that is away
    costs nothing but its spans.
    """
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # one line for a batch lost, none for each try
    made = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource.create({"service.name": service, "service.namespace": "vibestream"}),
        shutdown_on_exit=False,
    )
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return made


class Spans(Tracing):
    """Follows the records whose producer sampled them, and a share of those that come without a trace."""

    on = True

    def __init__(self, provider: TracerProvider, stage: str, topic: str, *, share: float) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("vibestream")
        self._name = f"{stage} {topic}"
        self._common = {
            "messaging.system": "kafka",
            "messaging.operation.name": stage,
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
        }
        self._share = share
        self._open: dict[_Place, Span] = {}

    def begin(self, records: Sequence[Record]) -> None:
        """Start a span for each record that is to be followed, linked to the earlier ones of its key in the run."""
        before: dict[bytes | None, list[Link]] = {}
        for record in records:
            parent = _parent(record.headers) if record.headers else None
            if parent is _NOT_SAMPLED or (parent is None and random() >= self._share):
                continue
            links = before.setdefault(record.key, [])
            span = self._tracer.start_span(
                self._name,
                parent or Context(),
                SpanKind.CONSUMER,
                {
                    **self._common,
                    "messaging.destination.partition.id": str(record.partition),
                    "messaging.kafka.offset": record.offset,
                    "messaging.kafka.message.key": (record.key or b"").decode(errors="replace"),
                    "messaging.batch.message_count": len(records),
                },
                list(links),
            )
            links.append(Link(span.get_span_context()))
            self._open[_place(record)] = span

    def carried(self, messages: Sequence[Message], records: Sequence[Record]) -> Sequence[Message]:
        """See Tracing; of several records with one key, the last one is the cause."""
        causes = {record.key: span for record, span in self._followed(records)}
        if not causes:
            return messages
        return [_carrying(message, causes.get(message.cause or message.key)) for message in messages]

    def tried_again(self, records: Sequence[Record], error: Exception) -> None:
        """Note it as an event; the span goes on."""
        for _, span in self._followed(records):
            span.add_event("try failed", {"error.type": type(error).__name__, "error.message": str(error)})

    def refused(self, record: Record, error: InvalidRecord) -> None:
        """Note it as the span's error."""
        span = self._open.get(_place(record))
        if span is not None:
            span.set_attribute("error.type", error.kind)
            span.set_status(Status(StatusCode.ERROR, str(error)))

    def end(self, records: Sequence[Record], error: BaseException | None = None) -> None:
        """End the spans."""
        for record, span in self._followed(records):
            if error is not None:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR, str(error)))
            span.end()
            del self._open[_place(record)]

    def close(self) -> None:
        """Send what has ended, if the collector takes it in time."""
        # The library waits up to 30 s for a collector that is away, longer than a worker may take to end.
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    def _followed(self, records: Sequence[Record]) -> list[tuple[Record, Span]]:
        if not self._open:
            return []
        places = ((record, self._open.get(_place(record))) for record in records)
        return [(record, span) for record, span in places if span is not None]


def _place(record: Record) -> _Place:
    return record.partition, record.offset


def _parent(headers: Headers) -> Context | None:
    carrier = {name: value for name, value in headers if name in _NAMES and value}
    found = _TRACEPARENT.match(carrier.get("traceparent", b""))
    if found is None:
        return None
    if not int(found[1], 16) & TraceFlags.SAMPLED:
        return _NOT_SAMPLED  # most records of a busy topic: told apart without the library's 4 µs
    context = _W3C.extract({name: value.decode("latin-1") for name, value in carrier.items()}, Context())
    return context if get_current_span(context).get_span_context().is_valid else None


def _carrying(message: Message, span: Span | None) -> Message:
    if span is None:
        return message
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    own = [(name, value) for name, value in message.headers if name not in _NAMES]
    return message._replace(headers=(*own, *((name, value.encode()) for name, value in carrier.items())))
