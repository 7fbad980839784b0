from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.errors import BrokerUnavailable
from tests.processes import wait_until
from topology.broker import free_port
from topology.kafka import client_config
from topology.settings import Settings, with_changes
from topology.topics import TOPICS, USER_STATES, WATCH_EVENTS, ensure_topics


def test_topics_are_created_once_with_the_asked_partitions(broker: str) -> None:
    settings = Settings(broker=broker, topic_prefix=f"{uuid4().hex[:12]}.", partitions=3)
    created = ensure_topics(settings)
    assert created == [settings.topic(spec.name) for spec in TOPICS]
    assert ensure_topics(settings) == []
    found = AdminClient(client_config(settings)).list_topics(timeout=10).topics
    assert {len(found[name].partitions) for name in created} == {3}


def test_the_changelog_gets_as_many_partitions_as_its_events(broker: str) -> None:
    settings = Settings(broker=broker, topic_prefix=f"{uuid4().hex[:12]}.", partitions=2)
    events, states = settings.topic(WATCH_EVENTS), settings.topic(USER_STATES)
    admin = AdminClient(client_config(settings))
    admin.create_topics([NewTopic(events, num_partitions=5)])[events].result()
    wait_until(lambda: events in admin.list_topics(timeout=10).topics, 10, "the topic is shown")
    ensure_topics(settings)
    assert len(admin.list_topics(timeout=10).topics[states].partitions) == 5


def test_all_of_several_that_ensure_the_topics_at_once_succeed(broker: str) -> None:
    settings = Settings(broker=broker, topic_prefix=f"{uuid4().hex[:12]}.", partitions=2)
    with ThreadPoolExecutor(6) as pool:
        created = [name for names in pool.map(ensure_topics, [settings] * 6) for name in names]
    assert set(created) == {settings.topic(spec.name) for spec in TOPICS}
    found = AdminClient(client_config(settings)).list_topics(timeout=10).topics
    assert {len(found[name].partitions) for name in created} == {2}


def test_a_broker_that_is_not_there_is_named() -> None:
    settings = with_changes(Settings(), broker=f"kafka://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailable, match=settings.broker):
        ensure_topics(settings)
