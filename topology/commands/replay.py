"""Send a file of events to a topic."""

import argparse
from pathlib import Path

from topology.commands.parsing import Commands, positive
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    replay = commands.add_parser("replay", help="send a file of events to a topic")
    replay.add_argument("file", type=Path, help="JSONL or Parquet, .gz too")
    replay.add_argument("topic", choices=["video-uploads", "watch-events"])
    replay.add_argument("--rate", type=positive, help="events a second (default: as fast as the broker takes them)")
    replay.set_defaults(command=_replay)


def _replay(options: argparse.Namespace, settings: Settings) -> int:
    from topology.console import progress
    from topology.kafka import make_consumer, partitions_of
    from topology.producer import ConfirmedProducer
    from topology.replay import message, read_events, send

    partitions_of(make_consumer(settings, "replay"), settings, settings.topic(options.topic))
    producer = ConfirmedProducer(settings)
    with progress() as bars:
        task = bars.add_task(f"{options.file.name} → {options.topic}", total=None)
        messages = (message(settings, options.topic, event) for event in read_events(options.file))
        sent = send(producer, messages, options.rate, lambda count: bars.advance(task, count))
    producer.close()
    print(f"{sent} events sent to {settings.topic(options.topic)}")
    return 0
