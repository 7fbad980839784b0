"""How far the events have come: counted in the topics and in what each role has committed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from schemas.errors import BrokerUnavailable, VibestreamError
from topology.kafka import Committed, make_consumer, partitions_of
from topology.settings import Settings
from topology.topics import ANNOTATIONS, REVIEW_REQUESTS, VIDEO_UPLOADS, WATCH_EVENTS

_STALLED_S = 120.0


@dataclass(frozen=True)
class Progress:
    """Records finished by each role, of how many there are so far."""

    annotated: int
    reviewed: int
    review_requests: int
    stored: int
    annotations: int
    watched: int

    def drained(self, uploads: int, watches: int) -> bool:
        """Whether so many uploads and watches have gone all the way."""
        return (
            self.annotated >= uploads
            and self.watched >= watches
            and self.reviewed >= self.review_requests
            and self.stored >= self.annotations
        )


class Flow:
    """Counts the records of a fresh set of topics. Made before the first event is sent."""

    def __init__(self, settings: Settings) -> None:
        self._annotated = Committed(settings, "annotate", VIDEO_UPLOADS)
        self._reviewed = Committed(settings, "review", REVIEW_REQUESTS)
        self._stored = Committed(settings, "store", ANNOTATIONS)
        self._watched = Committed(settings, "session", WATCH_EVENTS)
        self._annotations, self._requests = settings.topic(ANNOTATIONS), settings.topic(REVIEW_REQUESTS)
        self._tail = make_consumer(settings, "flow")
        self._counts = {self._annotations: 0, self._requests: 0}
        self._tail.assign(
            [
                TopicPartition(topic, partition, OFFSET_BEGINNING)
                for topic in self._counts
                for partition in partitions_of(self._tail, settings, topic)
            ]
        )

    def progress(self) -> Progress:
        """Return how far everything is now."""
        # In the order of the flow: what a role has committed, it has produced before.
        annotated = self._annotated.count()
        self._count()
        requests = self._counts[self._requests]
        reviewed = self._reviewed.count()
        self._count()
        annotations = self._counts[self._annotations]
        return Progress(annotated, reviewed, requests, self._stored.count(), annotations, self._watched.count())

    def wait(
        self, uploads: int, watches: int, on_progress: Callable[[Progress], None], check: Callable[[], None]
    ) -> None:
        """Return when so many uploads and watches have gone all the way; `check` raises if a worker is gone.

        Raises:
            VibestreamError: nothing has moved for two minutes, or the broker has not answered for so long.

        """
        last, moved = None, time.monotonic()
        while True:
            try:
                now = self.progress()
            except BrokerUnavailable as error:
                now, reason = last, str(error)
            else:
                reason = str(now)
                on_progress(now)
                if now.drained(uploads, watches):
                    return
            if now != last:
                last, moved = now, time.monotonic()
            elif time.monotonic() - moved > _STALLED_S:
                raise VibestreamError(
                    f"nothing moved for {_STALLED_S:.0f} s with {uploads} uploads and {watches} watches: {reason}"
                )
            check()
            time.sleep(0.2)

    def _count(self) -> None:
        while batch := self._tail.consume(10_000, timeout=0.2):
            for message in batch:
                if message.error() is None:
                    self._counts[message.topic() or ""] += 1

    def close(self) -> None:
        """Close the connections."""
        self._tail.close()
        for role in (self._annotated, self._reviewed, self._stored, self._watched):
            role.close()
