"""Which satisfaction the settings name, and the watches that one is fitted from."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from models.duration_quantiles import load_duration_percentile
from models.satisfaction import Satisfaction, satisfaction
from topology.kafka import read_topic
from topology.replay import read_events
from topology.settings import Settings
from topology.topics import WATCH_EVENTS


def labeler(settings: Settings) -> Satisfaction:
    """Return the satisfaction that the settings name.

    Raises:
        ConfigurationError: its table can't be read.

    """
    return load_duration_percentile(Path(settings.labeler)) if settings.labeler else satisfaction


def watches(settings: Settings, sources: Iterable[str]) -> Iterator[bytes]:
    """Yield the watch events of files, and of the topic where a source is called watch-events.

    Raises:
        BrokerUnavailable: the broker does not answer or falls silent.
        ConfigurationError: a file can't be read.

    """
    for source in sources:
        if source == WATCH_EVENTS:
            yield from (record.value for record in read_topic(settings, WATCH_EVENTS) if record.value is not None)
        else:
            yield from read_events(Path(source))
