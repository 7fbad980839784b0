"""What is sent while a fault lasts, and what has to come of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from schemas.errors import ErrorKind
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message
from topology.demo.content import DemoUpload, load_uploads
from topology.demo.viewers import watch_events
from topology.settings import Settings
from topology.topics import VIDEO_UPLOADS, WATCH_EVENTS

Letters = Counter[tuple[str, ErrorKind]]
"""Dead letters by the topic of their record (without prefix) and kind."""


@dataclass(frozen=True)
class Load:
    """Records to send; `videos` become annotated and `letters` dead letters. `shown` are watched afterwards."""

    uploads: Sequence[Message] = ()
    watches: Sequence[Message] = ()
    others: Sequence[Message] = ()
    videos: frozenset[str] = frozenset()
    letters: Letters = field(default_factory=Letters)
    shown: Sequence[DemoUpload] = ()

    def parts(self, count: int) -> list[list[Message]]:
        """Everything in `count` parts, each with its share of uploads, watches and others, in their order."""
        kinds = (self.uploads, self.watches, self.others)
        return [
            [message for kind in kinds for message in kind[len(kind) * n // count : len(kind) * (n + 1) // count]]
            for n in range(count)
        ]


def videos(name: str, count: int) -> list[DemoUpload]:
    """Uploads of the demo under ids of a scenario's own, oldest first; at most 560.

    Their texts are its own too, or the LLM would have answered all of them in the scenario before.
    """
    demo = load_uploads(now_ms())
    chosen = [demo[len(demo) * n // count] for n in range(count)]
    return [_of_its_own(name, one) for one in chosen]


def _of_its_own(name: str, one: DemoUpload) -> DemoUpload:
    upload = one.upload
    made = replace(upload, video_id=f"{name}-{upload.video_id}", title=f"{upload.title} ({name})")
    return DemoUpload(made, one.moods)


def ids(uploads: Sequence[DemoUpload]) -> frozenset[str]:
    return frozenset(one.upload.video_id for one in uploads)


def upload_messages(settings: Settings, uploads: Sequence[DemoUpload]) -> list[Message]:
    return [Message(settings.topic(VIDEO_UPLOADS), one.upload.video_id.encode(), encode(one.upload)) for one in uploads]


def watch_messages(settings: Settings, uploads: Sequence[DemoUpload], count: int, seed: int) -> list[Message]:
    """Watches of `uploads`, which users of the same names watch in every scenario."""
    return [
        Message(settings.topic(WATCH_EVENTS), event.user_id.encode(), encode(event))
        for event in watch_events(uploads, count, seed, now_ms())
    ]


def plain(settings: Settings, name: str, watched: Sequence[DemoUpload], uploads: int = 200, watches: int = 600) -> Load:
    """New uploads, of which a tenth comes twice and out of order, and watches of videos that are there already."""
    chance = Random(name)
    made = videos(name, uploads)
    messages = upload_messages(settings, made)
    for again in chance.sample(messages, len(messages) // 10):
        messages.insert(chance.randrange(len(messages)), again)
    return Load(
        uploads=messages,
        watches=watch_messages(settings, watched, watches, chance.randrange(1_000_000)),
        videos=ids(made),
        shown=made,
    )
