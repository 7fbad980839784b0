"""The topics: names, keys, clean-up; and their creation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.errors import BrokerUnavailable, ConfigurationError
from topology.kafka import client_config
from topology.refusal import check_access
from topology.settings import Role, Settings

VIDEO_UPLOADS = "video-uploads"
WATCH_EVENTS = "watch-events"
ANNOTATIONS = "annotations"
REVIEW_REQUESTS = "review-requests"
MEDIA_REQUESTS = "media-requests"
SESSION_CANDIDATES = "session-candidates"
USER_STATES = "user-states"
DEAD_LETTERS = "dead-letters"

TOPIC_OF: dict[Role, str] = {
    "annotate": VIDEO_UPLOADS,
    "review": REVIEW_REQUESTS,
    "store": ANNOTATIONS,
    "session": WATCH_EVENTS,
    "media": MEDIA_REQUESTS,
}
"""The topic that a role's group reads."""

_TIMEOUT_S = 10.0
# A dead letter carries its original in base64, so it may be a third larger than the largest record.
_DEAD_LETTER_BYTES = 4 * 1024 * 1024
# What came first is decided by the broker's clock; a producer's may be years off.
_BROKER_TIME = (("message.timestamp.type", "LogAppendTime"),)
# With Kafka's own values, gigabytes of superseded states may lie uncompacted, and a worker's start reads all of them.
_SOON_COMPACTED = (("segment.bytes", str(64 * 1024 * 1024)), ("min.cleanable.dirty.ratio", "0.2"))


@dataclass(frozen=True)
class TopicSpec:
    """One topic: its key, its clean-up policy and what more its configuration says."""

    name: str
    key: str
    cleanup: str = "delete"
    config: tuple[tuple[str, str], ...] = ()


TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(VIDEO_UPLOADS, "video_id", config=_BROKER_TIME),
    TopicSpec(WATCH_EVENTS, "user_id", config=_BROKER_TIME),
    TopicSpec(ANNOTATIONS, "video_id", "compact"),
    TopicSpec(REVIEW_REQUESTS, "video_id"),
    TopicSpec(MEDIA_REQUESTS, "video_id"),
    TopicSpec(SESSION_CANDIDATES, "session_id"),
    TopicSpec(USER_STATES, "user_id", "compact", _SOON_COMPACTED),
    TopicSpec(DEAD_LETTERS, "topic/partition/offset", config=(("max.message.bytes", str(_DEAD_LETTER_BYTES)),)),
)


def ensure_topics(settings: Settings) -> Sequence[str]:
    """Create the topics that are missing; return their names.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ConfigurationError: it refused these settings or a topic, or user-states and watch-events differ in partitions.

    """
    check_access(settings)
    admin = AdminClient(client_config(settings, socket_timeout_ms=int(_TIMEOUT_S * 1000)))
    existing = _partitions(admin, settings)
    missing = [spec for spec in TOPICS if settings.topic(spec.name) not in existing]
    # A changelog lies in the partition of its events, so it has as many.
    like_events = existing.get(settings.topic(WATCH_EVENTS), settings.partitions)
    wanted = [
        NewTopic(
            settings.topic(spec.name),
            num_partitions=like_events if spec.name == USER_STATES else settings.partitions,
            replication_factor=settings.replication,
            config={"cleanup.policy": spec.cleanup, **dict(spec.config)},
        )
        for spec in missing
    ]
    if wanted:
        for name, future in admin.create_topics(wanted, request_timeout=_TIMEOUT_S).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise ConfigurationError(f"topic {name} can't be created: {error.args[0].str()}") from error
    now = _when_all_are_there(admin, settings)
    events, states = now.get(settings.topic(WATCH_EVENTS)), now.get(settings.topic(USER_STATES))
    if events != states:
        raise ConfigurationError(
            f"{settings.topic(WATCH_EVENTS)} has {events} partitions and {settings.topic(USER_STATES)} {states}; "
            "they must be equal: add partitions to the smaller one while no session worker runs"
        )
    return [settings.topic(spec.name) for spec in missing]


def _when_all_are_there(admin: AdminClient, settings: Settings) -> dict[str, int]:
    # A created topic is known to the controller; the broker that we ask hears of it a little later.
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        found = _partitions(admin, settings)
        missing = [settings.topic(spec.name) for spec in TOPICS if settings.topic(spec.name) not in found]
        if not missing:
            return found
        if time.monotonic() > deadline:
            raise BrokerUnavailable(
                f"{settings.broker} does not show {', '.join(missing)} {_TIMEOUT_S:.0f} s after it made them"
            )
        time.sleep(0.02)


def _partitions(admin: AdminClient, settings: Settings) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise BrokerUnavailable(
            f"no Kafka broker answers at {settings.broker}: {error.args[0].str()}; "
            "start one or set VIBESTREAM_BROKER=kafka://host:port"
        ) from error
    return {name: len(topic.partitions) for name, topic in topics.items()}
