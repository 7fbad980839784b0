"""A collector that takes traces as OpenTelemetry's protocol sends them over HTTP, and keeps them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as protocol
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    seconds: float
    key: str


@dataclass
class OtlpCollector:
    url: str = ""
    spans: list[Span] = field(default_factory=list)

    def named(self, name: str, trace_id: str) -> list[Span]:
        return [span for span in self.spans if (span.name, span.trace_id) == (name, trace_id)]


@asynccontextmanager
async def otlp_collector() -> AsyncIterator[OtlpCollector]:
    collector = OtlpCollector()

    async def traces(request: web.Request) -> web.Response:
        sent = protocol.ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            collector.spans += [_span(service, span) for scope in resource.scope_spans for span in scope.spans]
        answer = protocol.ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", traces)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()


def _span(service: str, span: Sent) -> Span:
    attributes = {one.key: one.value.string_value for one in span.attributes}
    return Span(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes["messaging.kafka.message.key"],
    )
