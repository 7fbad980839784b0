"""Replaying a file of events into a topic at a rate."""

import gzip
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ConfigurationError
from streams.record import Message
from topology.producer import ConfirmedProducer
from topology.settings import Settings
from topology.topics import TOPICS

_BATCH = 2_000
_TICK_S = 0.05
_KEY_FIELDS = {spec.name: spec.key for spec in TOPICS}


def read_events(path: Path) -> Iterator[bytes]:
    """Yield the events of a JSONL file (one JSON object a line) or of a Parquet file (one row each); .gz too.

    Lines are passed on as they are: whether an event is valid is for the stages to say.

    Raises:
        ConfigurationError: the file can't be read, or is of neither kind.

    """
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            with _opened(path) as file:
                for batch in pq.ParquetFile(file).iter_batches(_BATCH):
                    for row in batch.to_pylist():
                        yield msgspec.json.encode({field: value for field, value in row.items() if value is not None})
        elif name.endswith((".jsonl", ".ndjson", ".json")):
            with _opened(path) as file:
                for line in file:
                    if line.strip():
                        yield line.rstrip(b"\r\n")
        else:
            raise ConfigurationError(
                f"{path}: can't tell the format; name it .jsonl or .parquet, with .gz if compressed"
            )
    except (OSError, EOFError, pa.ArrowException) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def message(settings: Settings, topic: str, event: bytes) -> Message:
    """Return the event as a message of a topic, keyed by the topic's key field; without that, the stage refuses it."""
    try:
        fields = msgspec.json.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = None
    key: Any = fields.get(_KEY_FIELDS[topic]) if isinstance(fields, dict) else None
    return Message(settings.topic(topic), key.encode() if isinstance(key, str) else b"", event)


def send(
    producer: ConfirmedProducer,
    messages: Iterable[Message],
    rate: float | None = None,
    on_sent: Callable[[int], None] = lambda _: None,
) -> int:
    """Produce `messages`, at most `rate` a second, and return how many; each is acknowledged before it is counted.

    Raises:
        BrokerUnavailable: the broker stopped acknowledging; what `on_sent` was told is there.

    """
    sent, started, batch = 0, time.monotonic(), list[Message]()
    limit = _BATCH if rate is None else max(1, min(_BATCH, round(rate * _TICK_S)))

    def flush() -> None:
        nonlocal sent
        if rate is not None:
            time.sleep(max(0.0, started + sent / rate - time.monotonic()))
        producer.produce_now(batch)
        sent += len(batch)
        on_sent(len(batch))
        batch.clear()

    for one in messages:
        batch.append(one)
        if len(batch) >= limit:
            flush()
    if batch:
        flush()
    return sent
