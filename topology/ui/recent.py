"""What the topics said lately, within bounded memory; whatever is older lies in the store and in the topics."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import TypeVar

from msgspec import Struct

from schemas.annotation import Annotation
from schemas.candidates import SessionCandidates
from schemas.errors import InvalidRecord
from schemas.events import VideoUpload
from schemas.user_state import UserState, decode_state
from schemas.wire import Decoder
from streams.recent import keep
from streams.record import Record
from topology.topics import (
    ANNOTATIONS,
    DEAD_LETTERS,
    REVIEW_REQUESTS,
    SESSION_CANDIDATES,
    USER_STATES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from topology.ui.timeline import Counts, Latencies

VIDEOS, SESSIONS, USERS, _WATCHES = 5_000, 1_000, 2_000, 20_000
_HISTORY = 6
_Value = TypeVar("_Value")


class _Watch(Struct):
    event_id: str


class Recent:
    """Everything the page shows of the flow; one thread adds, any thread reads.

    Kept are the latest 5,000 videos (text, and up to six annotations each), the last list of 1,000 sessions and the
    state of 2,000 users; rates and latencies of three minutes.
    """

    def __init__(self) -> None:
        self.counts = {
            name: Counts()
            for name in (VIDEO_UPLOADS, ANNOTATIONS, REVIEW_REQUESTS, WATCH_EVENTS, SESSION_CANDIDATES, DEAD_LETTERS)
        }
        self.annotated = Latencies()
        self.listed = Latencies()
        self.statuses: Counter[str] = Counter()
        self._uploads: OrderedDict[str, bytes] = OrderedDict()
        self._annotations: OrderedDict[str, tuple[Annotation, ...]] = OrderedDict()
        self._lists: OrderedDict[str, bytes] = OrderedDict()
        self._states: OrderedDict[str, bytes] = OrderedDict()
        self._watched: OrderedDict[str, int] = OrderedDict()
        self._decode_upload = Decoder(VideoUpload).decode
        self._decode_annotation = Decoder(Annotation).decode
        self._decode_watch = Decoder(_Watch).decode
        self._decode_list = Decoder(SessionCandidates).decode
        self._lock = Lock()
        self._add: dict[str, Callable[[Record, bytes], None]] = {
            VIDEO_UPLOADS: self._add_upload,
            ANNOTATIONS: self._add_annotation,
            WATCH_EVENTS: self._add_watch,
            SESSION_CANDIDATES: self._add_list,
            USER_STATES: self._add_state,
        }

    def add(self, name: str, records: Iterable[Record]) -> None:
        """Take in records of the topic `name` (without a prefix); what can't be decoded is counted and no more."""
        count, add = self.counts.get(name), self._add.get(name)
        with self._lock:
            for record in records:
                if count is not None:
                    count.add(record.timestamp_ms)
                if add is not None and record.value is not None:
                    try:
                        add(record, record.value)
                    except InvalidRecord:
                        continue  # the stage that reads it files it as a dead letter

    def upload(self, video_id: str) -> VideoUpload | None:
        """Return the text of a video, if it came lately."""
        with self._lock:
            value = self._uploads.get(video_id)
        return None if value is None else self._decode_upload(value)

    def annotations(self, video_id: str) -> tuple[Annotation, ...]:
        """Return what was said of a video lately, oldest first."""
        with self._lock:
            return self._annotations.get(video_id, ())

    def latest(self, count: int, words: str = "") -> list[tuple[Annotation, VideoUpload | None]]:
        """Return the videos annotated last, newest first; with `words`, those with all of them in id or text."""
        wanted = words.casefold().split()
        with self._lock:
            videos = [(history[-1], self._uploads.get(name)) for name, history in reversed(self._annotations.items())]
        found: list[tuple[Annotation, VideoUpload | None]] = []
        for annotation, value in videos:
            upload = None if value is None else self._decode_upload(value)
            text = annotation.video_id if upload is None else f"{annotation.video_id} {_text(upload)}"
            if all(word in text.casefold() for word in wanted):
                found.append((annotation, upload))
                if len(found) == count:
                    break
        return found

    def sessions(self, count: int, words: str = "") -> list[SessionCandidates]:
        """Return the lists made last, newest first; with `words`, those whose session or user has it in its id."""
        with self._lock:
            values = list(reversed(self._lists.values()))
        found: list[SessionCandidates] = []
        for value in values:
            made = self._decode_list(value)
            if words.strip() in f"{made.session_id} {made.user_id}":
                found.append(made)
                if len(found) == count:
                    break
        return found

    def session(self, session_id: str) -> SessionCandidates | None:
        """Return the last list of a session, if it was made lately."""
        with self._lock:
            value = self._lists.get(session_id)
        return None if value is None else self._decode_list(value)

    def state(self, user_id: str) -> UserState | None:
        """Return a user's state, if it changed lately."""
        with self._lock:
            value = self._states.get(user_id)
        return None if value is None else decode_state(value)

    def _add_upload(self, _: Record, value: bytes) -> None:
        keep(self._uploads, self._decode_upload(value).video_id, value, VIDEOS)

    def _add_annotation(self, record: Record, value: bytes) -> None:
        annotation = self._decode_annotation(value)
        history = self._annotations.get(annotation.video_id, ())
        if not history and annotation.status != "removed":
            self.annotated.add(record.timestamp_ms, record.timestamp_ms - annotation.received_at_ms)
        self.statuses[annotation.status if annotation.status != "final" else f"final by {annotation.source}"] += 1
        kept = sorted((*history, annotation), key=lambda one: one.seq)[-_HISTORY:]
        keep(self._annotations, annotation.video_id, tuple(kept), VIDEOS)

    def _add_watch(self, record: Record, value: bytes) -> None:
        keep(self._watched, self._decode_watch(value).event_id, record.timestamp_ms, _WATCHES)

    def _add_list(self, record: Record, value: bytes) -> None:
        made = self._decode_list(value)
        watched = self._watched.get(made.event_id)
        if watched is not None:
            self.listed.add(record.timestamp_ms, record.timestamp_ms - watched)
        keep(self._lists, made.session_id, value, SESSIONS)

    def _add_state(self, _: Record, value: bytes) -> None:
        keep(self._states, decode_state(value).user_id, value, USERS)


def _text(upload: VideoUpload) -> str:
    return " ".join((upload.title, upload.description, *upload.hashtags, upload.creator_id))
