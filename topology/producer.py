"""Producing with a confirmation for every record, off the event loop."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.errors import BrokerUnavailable, VibestreamError
from streams.record import Handed, Message
from topology.kafka import client_config
from topology.settings import Settings

_MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class ConfirmedProducer:
    """An idempotent producer (acks=all) whose `produce` returns when the broker has acknowledged everything."""

    def __init__(self, settings: Settings, *, delivery_timeout_s: float = 30.0, linger_ms: float = 5.0) -> None:
        """What is handed over waits up to `linger_ms` for more; a `produce` waits for nothing."""
        self._broker = settings.broker
        self._timeout_s = delivery_timeout_s
        self._config = client_config(
            settings,
            enable_idempotence=True,
            acks="all",
            linger_ms=linger_ms,
            message_max_bytes=_MAX_MESSAGE_BYTES,
            delivery_timeout_ms=int(delivery_timeout_s * 1000),
            compression_type="lz4",
        )
        self._producer = Producer(self._config)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="produce")
        self._handing = Lock()

    async def produce(self, messages: Sequence[Message]) -> None:
        """Produce `messages` in order and wait for every acknowledgement, those of what was handed over before too.

        Raises:
            BrokerUnavailable: at least one was not acknowledged in time; some may have been.
            VibestreamError: one is too large to be sent, however often.

        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self.produce_now, messages)

    def produce_now(self, messages: Sequence[Message]) -> None:
        """Do the same in this thread."""
        failed: list[KafkaError] = []
        producer = self._producer

        def report(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                failed.append(error)

        try:
            for message in messages:
                _enqueue(producer, message, report)
            left = producer.flush(self._timeout_s + 5)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                producer.flush(self._timeout_s + 5)  # those before it are not to arrive between later ones
                raise self._too_large(messages) from error
            self._replace(producer)
            raise BrokerUnavailable(f"{self._broker} refused a record: {error.args[0].str()}") from error
        if any(error.code() == KafkaError.MSG_SIZE_TOO_LARGE for error in failed):
            raise self._too_large(messages)
        if left or failed:
            self._replace(producer)
            reason = failed[0].str() if failed else "no answer"
            raise BrokerUnavailable(
                f"{self._broker} did not acknowledge {max(left, len(failed))} of {len(messages)} records: {reason}"
            )

    def hand_over(self, messages: Sequence[Message]) -> list[Handed]:
        """Produce `messages` in order, soon; for use from any thread, beside one `produce` at most.

        An acknowledgement ends as `produce` does. What has not ended when that returns is not acknowledged.
        """
        handed = [Handed(message, Future()) for message in messages]
        with self._handing:  # by a producer that is replaced only after that
            for message, acknowledgement in handed:
                try:
                    _enqueue(self._producer, message, partial(self._report, message, acknowledgement))
                except KafkaException as error:
                    self._report(message, acknowledgement, error.args[0], None)
        return handed

    def _report(self, message: Message, acknowledgement: Future[None], error: KafkaError | None, _: Any) -> None:
        if error is None:
            acknowledgement.set_result(None)
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            acknowledgement.set_exception(self._too_large([message]))
        else:
            acknowledgement.set_exception(
                BrokerUnavailable(f"{self._broker} did not acknowledge a record of {message.topic}: {error.str()}")
            )

    def _too_large(self, messages: Sequence[Message]) -> VibestreamError:
        return VibestreamError(f"{self._broker} takes no record as large as one of these {len(messages)}")

    def _replace(self, failed: Producer) -> None:
        """Go on with a new producer: a fatal error ends an idempotent one, and after a time-out some brokers fence it.

        What the old one still holds must not arrive after what comes later.
        """
        with self._handing:
            failed.purge()
            failed.flush(0)
            if self._producer is failed:
                self._producer = Producer(self._config)

    def close(self) -> None:
        """Stop the thread; nothing is left to flush, since every `produce` has waited."""
        self._thread.shutdown()


def _enqueue(producer: Producer, message: Message, report: Any) -> None:
    while True:
        try:
            if message.headers or message.partition is not None:
                producer.produce(
                    message.topic, message.value, message.key,
                    partition=-1 if message.partition is None else message.partition,
                    headers=list(message.headers), on_delivery=report,
                )  # fmt: skip
            else:  # most records; an empty list of headers alone costs half as much as all the rest
                producer.produce(message.topic, message.value, message.key, on_delivery=report)
            return
        except BufferError:
            producer.poll(0.1)
