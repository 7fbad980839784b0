"""Viewers with a taste, and the watch events that they leave behind."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from random import Random

from msgspec import Struct

from schemas.events import WatchEvent
from topology.demo.content import DemoUpload

VIEWERS = 150
VISITS = 3
SLOT_MS = 3 * 3_600_000
SHORTEST, LONGEST = 5, 20


class Viewer(Struct, frozen=True):
    """A user and the moods they are in, one set per visit; the last one stays."""

    user_id: str
    tastes: tuple[frozenset[str], ...]

    def taste(self, visit: int) -> frozenset[str]:
        """Return the moods liked in this visit, counted from 0."""
        return self.tastes[min(visit, len(self.tastes) - 1)]

    def likes(self, shown: DemoUpload, visit: int) -> bool:
        """Whether the video has one of the moods liked in this visit."""
        return not self.taste(visit).isdisjoint(shown.moods)


def make_viewers(uploads: Sequence[DemoUpload], count: int, seed: int) -> list[Viewer]:
    """Return viewers who like one to three of the moods of `uploads`, frequent moods more often.

    Three in ten come back in another mood.
    """
    rng = Random(f"viewers-{seed}")
    moods = [mood for shown in uploads for mood in shown.moods]

    def taste() -> frozenset[str]:
        return frozenset(rng.choices(moods, k=rng.randint(1, 3)))

    return [
        Viewer(f"u{number:03}", (taste(), taste()) if rng.random() < 0.3 else (taste(),))
        for number in range(1, count + 1)
    ]


def watch_events(uploads: Sequence[DemoUpload], count: int, seed: int, now_ms: int) -> Iterator[WatchEvent]:
    """Yield exactly `count` watches in the order of their time, all within the nine hours before `now_ms`.

    A session has 5 to 20 watches (fewer only if `count` is below 5) and shows only what is uploaded when it begins.
    At most three visits per viewer: beyond about 5,600 watches there are more than 150 viewers.

    Args:
        uploads: oldest first, at least 20 of them older than nine hours.
        count: number of events.
        seed: the same seed gives the same viewers, ids and watches.
        now_ms: epoch milliseconds; no watch is later.

    Raises:
        ValueError: a session finds fewer videos than it has watches.

    """
    rng = Random(f"watches-{seed}")
    lengths = list(_session_lengths(rng, count))
    viewers = make_viewers(uploads, max(VIEWERS, -(-len(lengths) // VISITS)), seed)
    visits = -(-len(lengths) // len(viewers))
    uploaded_at = [shown.upload.uploaded_at_ms for shown in uploads]
    events: list[WatchEvent] = []
    for number, length in enumerate(lengths):
        visit, place = divmod(number, len(viewers))
        # A session takes at most 62 minutes, so one that begins in the first half of its slot ends within it.
        start_ms = now_ms - (visits - visit) * SLOT_MS + rng.randrange(SLOT_MS // 2)
        available = uploads[: bisect_right(uploaded_at, start_ms)]
        if len(available) < length:
            raise ValueError(
                f"{len(available)} videos are uploaded at {start_ms}, a session watches {length}; add older uploads"
            )
        session_id = f"{viewers[place].user_id}-{seed}-{visit + 1}"
        events.extend(_session(rng, viewers[place], visit, session_id, available, length, start_ms))
    events.sort(key=lambda event: event.watched_at_ms)
    yield from events


def _session_lengths(rng: Random, count: int) -> Iterator[int]:
    while count > 0:
        length = rng.randint(SHORTEST, LONGEST)
        if count - length < SHORTEST:
            length = count if count <= LONGEST else count - SHORTEST
        yield length
        count -= length


def _session(
    rng: Random,
    viewer: Viewer,
    visit: int,
    session_id: str,
    available: Sequence[DemoUpload],
    length: int,
    start_ms: int,
) -> Iterator[WatchEvent]:
    def draw(shown: DemoUpload) -> float:
        # Weighted sampling without replacement (Efraimidis and Spirakis, 2006): the feed already leans to the taste.
        return rng.random() ** (1 / (2.5 if viewer.likes(shown, visit) else 1.0))

    clock_ms = start_ms
    for position, shown in enumerate(sorted(available, key=draw, reverse=True)[:length], start=1):
        liking = viewer.likes(shown, visit)
        duration_ms = shown.upload.duration_ms or 30_000
        watch_ms = _watch_ms(rng, liking, duration_ms)
        clock_ms += watch_ms + rng.randint(300, 2_500)
        satisfied = liking and watch_ms >= 0.8 * duration_ms
        yield WatchEvent(
            schema_version=1,
            event_id=f"{session_id}-{position:02}",
            user_id=viewer.user_id,
            session_id=session_id,
            video_id=shown.upload.video_id,
            watched_at_ms=clock_ms,
            watch_ms=watch_ms,
            duration_ms=duration_ms,
            liked=rng.random() < (0.20 if satisfied else 0.01),
            shared=rng.random() < (0.05 if satisfied else 0.002),
            followed=rng.random() < (0.03 if satisfied else 0.001),
            commented=rng.random() < (0.04 if satisfied else 0.004),
            disliked=not liking and rng.random() < 0.015,
        )


def _watch_ms(rng: Random, liking: bool, duration_ms: int) -> int:
    """How long one looks: longer videos are finished less often, liked or not."""
    if liking and rng.random() < 0.85:
        return round(duration_ms * min(1.0, 1.08 * rng.betavariate(6.0, 1.0 + duration_ms / 90_000)))
    if rng.random() < 0.65:
        return min(duration_ms, rng.randint(400, 4_000))
    return round(duration_ms * rng.betavariate(1.5, 1.5 + duration_ms / 90_000))
