"""Spans around the delivery of a run, as an exporter gets them."""

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from schemas.errors import BrokerUnavailable, ConfigurationError, InvalidRecord
from streams.delivery import Backoff, Delivery
from streams.record import Effects, Message, Record
from streams.stage import Item, Stage
from topology.spans import Spans

QUICK = Backoff(first=0.001, most=0.002, tries=2)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode()), ("tracestate", b"a=b"))


class Echo(Stage[bytes]):
    name = "echo"

    def decode(self, record: Record) -> bytes:
        if record.value == b"bad":
            raise InvalidRecord("invalid", "bad is not good")
        return record.value or b""

    async def process(self, items: Sequence[Item[bytes]]) -> Effects:
        if any(item.event == b"wrong" for item in items):
            raise ConfigurationError("mend me")
        return Effects(messages=[Message("out", item.record.key, item.event) for item in items])


class Followed:
    """A delivery, what it produced, and the spans that have ended."""

    def __init__(self, share: float = 0.0, failures: int = 0) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._failures = failures
        self.produced: list[Message] = []
        tracing = Spans(provider, "echo", "in", share=share)
        self.delivery = Delivery(Echo("dead"), self._produce, QUICK, tracing)

    async def _produce(self, messages: Sequence[Message]) -> None:
        if self._failures:
            self._failures -= 1
            raise BrokerUnavailable("away")
        self.produced += messages

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(
            self._exporter.get_finished_spans(), key=lambda span: (span.attributes or {})["messaging.kafka.offset"]
        )


def record(offset: int, key: bytes, value: bytes = b"x", headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record("in", 0, offset, 1_000, key, value, headers)


async def test_only_what_a_sampled_record_causes_carries_the_trace() -> None:
    followed = Followed()
    await followed.delivery.deliver([record(0, b"a", headers=SAMPLED), record(1, b"b")])
    [span] = followed.spans
    [a, b] = followed.produced
    assert dict(a.headers)["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01".encode()
    assert dict(a.headers)["tracestate"] == b"a=b"
    assert b.headers == ()


@pytest.mark.parametrize(
    "value", [b"", b"00-zz-00f067aa0ba902b7-01", b"\xff", f"00-{'0' * 32}-00f067aa0ba902b7-01".encode()]
)
async def test_a_header_that_is_no_trace_is_none(value: bytes) -> None:
    followed = Followed()
    await followed.delivery.deliver([record(0, b"a", headers=(("traceparent", value),))])
    assert followed.spans == []
    assert followed.produced[0].headers == ()


async def test_of_records_with_one_key_the_last_one_carries_on_and_is_linked_to_those_before() -> None:
    followed = Followed(share=1.0)
    await followed.delivery.deliver([record(0, b"a"), record(1, b"b"), record(2, b"a")])
    first, other, last = followed.spans
    assert [link.context.span_id for link in last.links] == [first.context.span_id]
    assert (list(first.links), list(other.links)) == ([], [])
    assert {first.context.trace_id, other.context.trace_id, last.context.trace_id} != {first.context.trace_id}
    assert f"{last.context.span_id:016x}" in dict(followed.produced[0].headers)["traceparent"].decode()


async def test_a_dead_letter_carries_the_trace_and_is_the_error_of_its_span() -> None:
    followed = Followed()
    await followed.delivery.deliver([record(0, b"a", b"bad", SAMPLED)])
    [span] = followed.spans
    assert (span.status.is_ok, span.status.description) == (False, "bad is not good")
    assert (span.attributes or {})["error.type"] == "invalid"
    assert TRACE in dict(followed.produced[0].headers)["traceparent"].decode()


async def test_tries_that_fail_are_events_of_one_span_that_ends_well() -> None:
    followed = Followed(failures=3)
    await followed.delivery.deliver([record(0, b"a", headers=SAMPLED)])
    [span] = followed.spans
    assert [(event.attributes or {})["error.type"] for event in span.events] == ["BrokerUnavailable"] * 3
    assert span.status.is_unset


async def test_a_run_that_is_left_unfinished_ends_its_spans_with_the_reason() -> None:
    followed = Followed()
    with pytest.raises(ConfigurationError):
        await followed.delivery.deliver([record(0, b"a", b"wrong", SAMPLED)])
    [span] = followed.spans
    assert span.status.description == "mend me"
