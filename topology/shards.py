"""Shards of the store and partitions of the annotations: one worker writes a shard."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import faust
from faust.assignor.partition_assignor import PartitionAssignor

from schemas.errors import ConfigurationError
from topology.kafka import make_consumer, partitions_of
from topology.settings import Settings
from topology.topics import ANNOTATIONS


def check_divides(settings: Settings) -> None:
    """Check that every partition of annotations lies in one shard.

    Raises:
        ConfigurationError: it does not, so every worker would write every shard.
        BrokerUnavailable: the broker does not answer, or the topic is not there.

    """
    if settings.store_shards == 1:
        return
    topic = settings.topic(ANNOTATIONS)
    consumer = make_consumer(settings, settings.group("store"))
    try:
        partitions = len(partitions_of(consumer, settings, topic))
    finally:
        consumer.close()
    if partitions % settings.store_shards:
        raise ConfigurationError(
            f"VIBESTREAM_STORE_SHARDS={settings.store_shards} does not divide the {partitions} partitions of {topic};"
            f" choose one of {', '.join(str(n) for n in range(1, partitions + 1) if partitions % n == 0)}"
        )


def assign_whole_shards(app: faust.App, shards: int) -> None:
    """Let the group of `app`, not started yet, divide its partitions among its workers by whole shards."""
    if shards == 1:
        return

    class WholeShards(PartitionAssignor):
        """Faust's assignor, which hands out partitions one by one, corrected before anybody hears of it."""

        def _global_table_standby_assignments(self, assignments: Any, partitions_by_topic: Mapping[str, int]) -> Any:
            for topic, partitions in partitions_by_topic.items():
                for worker, whole in whole_shards(sorted(assignments), partitions, shards).items():
                    assignments[worker].actives[topic] = whole
            return super()._global_table_standby_assignments(assignments, partitions_by_topic)

    settings: Any = app.conf
    settings.PartitionAssignor = WholeShards


def whole_shards(workers: list[str], partitions: int, shards: int) -> dict[str, list[int]]:
    """Return each worker's partitions: shards in turn, and of each shard all partitions."""
    assigned: defaultdict[str, list[int]] = defaultdict(list, {worker: [] for worker in workers})
    for partition in range(partitions):
        assigned[workers[partition % shards % len(workers)]].append(partition)
    return dict(assigned)
