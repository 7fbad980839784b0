"""The half of the pipeline that ends in the store, as processes, and the account of what it was sent."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

from msgspec.structs import replace

from tests.faults.load import ids, upload_messages, videos
from tests.faults.outcomes import Outcome
from tests.faults.verdict import accounted
from tests.faults.workers import Workers
from tests.processes import wait_until
from topology.demo.content import DemoUpload
from topology.kafka import Committed, read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Role, Settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, VIDEO_UPLOADS, ensure_topics

ROLES: tuple[Role, ...] = ("annotate", "store")
_PART = 10
_PACE_S = 0.1
_DRAIN_S = 90.0


class Storing:
    """Takes one fault after the other; the account is over everything since the beginning."""

    def __init__(self, settings: Settings, folder: Path, report: list[Outcome]) -> None:
        self.settings = settings
        self.workers = Workers(settings, folder)
        self._folder = folder
        self._report = report
        self._producer = ConfirmedProducer(settings)
        self._annotated = Committed(settings, "annotate", VIDEO_UPLOADS)
        self._stored = Committed(settings, "store", ANNOTATIONS)
        self._sent = 0
        self._videos = frozenset[str]()

    def suffer(self, name: str, fault: Callable[[], None]) -> None:
        """Send uploads until the fault is over and some more, and account for all when they have gone all the way."""
        made = videos(name, 560)
        over = Event()
        stored = self._stored.count()
        sender = Thread(target=self._send, args=(made, over))
        sender.start()
        try:
            wait_until(lambda: self._stored.count() > stored, 60, "the first uploads are stored")
            fault()
        finally:
            ended = time.monotonic()
            over.set()
            sender.join()
        self._drain()
        self._account(name, time.monotonic() - ended)

    def tries(self) -> float:
        """How often the store worker has tried a run again."""
        return self.workers.metric(self.workers.oldest("store"), "vibestream_run_retries_total")

    def refuses(self, role: Role) -> str:
        """Start a worker, which must end at once with exit code 2; return all that it said."""
        log = self._folder / f"{role}.log"
        before = log.stat().st_size
        worker = self.workers.start(role)
        code = worker.wait(60)
        self.workers.forget(role, worker)
        assert code == 2, f"{role} ended with {code}:\n{self.workers.log(role)}"
        return log.read_bytes()[before:].decode()

    def log(self, role: Role) -> str:
        return (self._folder / f"{role}.log").read_text()

    def _send(self, made: Sequence[DemoUpload], over: Event) -> None:
        for start in range(0, len(made), _PART):
            part = made[start : start + _PART]
            sent = [*part, *map(_edited, part[: _PART // 5])]
            self._producer.produce_now(upload_messages(self.settings, sent))
            self._sent += len(sent)
            self._videos |= ids(part)
            if over.wait(_PACE_S) and start > len(made) // 4:
                return

    def _drain(self) -> None:
        def drained(count: Callable[[], int], wanted: int) -> bool:
            self.workers.check()
            return count() >= wanted

        wait_until(lambda: drained(self._annotated.count, self._sent), _DRAIN_S, "every upload is annotated")
        annotations = sum(1 for _ in read_topic(self.settings, ANNOTATIONS))
        wait_until(lambda: drained(self._stored.count, annotations), _DRAIN_S, "every annotation is stored")

    def _account(self, name: str, recovery_s: float) -> None:
        counted = accounted(self.settings)
        self._report.append(Outcome(name, 1, self._sent, counted.uploads.lost, counted.store.duplicates, recovery_s))
        assert (counted.uploads.records, counted.store.rows) == (self._sent, len(self._videos))
        assert not list(read_topic(self.settings, DEAD_LETTERS))

    def close(self) -> None:
        self.workers.stop_all()
        self._producer.close()
        self._annotated.close()
        self._stored.close()


def _edited(one: DemoUpload) -> DemoUpload:
    """The same video with newer content, whose annotation has a higher seq."""
    return DemoUpload(replace(one.upload, uploaded_at_ms=one.upload.uploaded_at_ms + 1), one.moods)


@contextmanager
def storing(settings: Settings, folder: Path, report: list[Outcome]) -> Iterator[Storing]:
    """Run one annotate and one store worker on topics of their own."""
    ensure_topics(settings)
    with ExitStack() as stack:
        made = Storing(settings, folder, report)
        stack.callback(made.close)
        for role in ROLES:
            made.workers.start(role)
        for role in ROLES:
            made.workers.wait_until_reading(role)
        yield made
