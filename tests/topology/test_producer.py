"""Messages that are handed over, on a real broker and on one that is gone."""

import pytest

from schemas.errors import BrokerUnavailable, VibestreamError
from streams.record import Message
from tests.processes import wait_until
from tests.topology.test_runs import Copies
from topology.broker import free_port
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import ANNOTATIONS


def test_what_was_handed_over_comes_first_and_is_acknowledged_with_what_is_produced_next(
    settings: Settings, producer: ConfirmedProducer
) -> None:
    topic, copies = settings.topic(ANNOTATIONS), Copies(settings)
    handed = producer.hand_over([Message(topic, b"k", b"1"), Message(topic, b"k", b"2")])
    producer.produce_now([Message(topic, b"k", b"3")])
    assert [one.acknowledgement.result(0) for one in handed] == [None, None]
    producer.produce_now([])
    wait_until(lambda: copies.poll() == 3, 10, "all are there")
    assert list(copies.seen) == [b"1", b"2", b"3"]
    copies.close()


def test_what_is_too_large_is_told_from_what_was_sent_with_it(settings: Settings, producer: ConfirmedProducer) -> None:
    topic = settings.topic(ANNOTATIONS)
    large, small = producer.hand_over([Message(topic, b"k", bytes(5 << 20)), Message(topic, b"k", b"v")])
    producer.produce_now([])
    with pytest.raises(VibestreamError, match="as large"):
        large.acknowledgement.result(0)
    assert small.acknowledgement.result(0) is None


def test_what_a_broker_that_is_gone_was_handed_is_not_acknowledged(settings: Settings) -> None:
    gone = ConfirmedProducer(with_changes(settings, broker=f"kafka://127.0.0.1:{free_port()}"), delivery_timeout_s=1)
    topic = settings.topic(ANNOTATIONS)
    [(_, acknowledgement)] = gone.hand_over([Message(topic, b"k", b"v")])
    with pytest.raises(BrokerUnavailable):
        gone.produce_now([Message(topic, b"k", b"v")])
    with pytest.raises(BrokerUnavailable, match="did not acknowledge"):
        acknowledgement.result(0)
    gone.close()
