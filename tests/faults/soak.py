"""The soak: many events, many kills, and one line of arithmetic at the end.

`python -m tests.faults.soak --events 1000000 --kills 50` sends a fifth of the events as uploads and the rest as watches
of them, while a role chosen at random is killed, or frozen and replaced, over and over. It prints one JSON line and
exits 1 if anything was lost, doubled or left unaccounted.
"""

import argparse
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from schemas.events import WatchEvent
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.gemini_server import gemini_in_thread
from tests.faults.verdict import accounted, kept_states, replayed_states
from tests.faults.workers import Worker, Workers
from topology.broker import embedded_broker
from topology.console import progress
from topology.demo.content import load_uploads
from topology.demo.flow import Flow, Progress
from topology.producer import ConfirmedProducer
from topology.replay import send
from topology.settings import ROLES, Role, Settings, with_changes
from topology.topics import VIDEO_UPLOADS, WATCH_EVENTS, ensure_topics

_USERS = 20_000
_WATCHES_PER_SESSION = 12


def main() -> None:
    """Run the soak that the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    verdict = soak(options.events, options.kills, random.Random(options.seed))
    print(json.dumps(verdict))
    sys.exit(1 if verdict["lost"] or verdict["duplicates"] or verdict["unaccounted"] else 0)


def soak(events: int, kills: int, chance: random.Random) -> dict[str, float]:
    """Return the verdict."""
    uploads, watches = events // 5, events - events // 5
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="vibestream-soak-")))
        gemini = stack.enter_context(gemini_in_thread())
        settings = with_changes(
            Settings(),
            broker=stack.enter_context(embedded_broker()),
            store_uri=str(folder / "lancedb"),
            session_timeout_s=6,
            llm="gemini",
            gemini_api_key="key",
            gemini_base_url=gemini.url,
        )
        ensure_topics(settings)
        workers = Workers(settings, folder)
        stack.callback(workers.stop_all)
        for role in ROLES:
            workers.start(role)
        producer, flow = ConfirmedProducer(settings), Flow(settings)
        chaos = _Chaos(workers, kills, chance)
        with progress() as bars:
            task = bars.add_task("uploads and watches finished", total=events)

            def show(now: Progress) -> None:
                done = now.annotated + now.watched
                bars.update(task, completed=done)
                chaos.advance(done / events)

            send_in_background(producer, _uploads(settings, uploads))
            flow.wait(uploads, 0, show, lambda: None)
            send_in_background(producer, _watches(settings, watches, uploads, chance))
            flow.wait(uploads, watches, show, lambda: None)
        chaos.done()
        result = accounted(settings)
        kept, replayed = kept_states(settings, producer), replayed_states(settings)
        different = sum(kept.get(at) != state for at, state in replayed.items())
        return {
            "events": events,
            "kills": chaos.kills,
            "lost": result.uploads.lost,
            "duplicates": result.store.duplicates,
            "unaccounted": result.store.missing + result.store.stale + different,
            "rss_ratio": round(chaos.rss_ratio(), 3),
            "seconds": round(time.monotonic() - started),
        }


def send_in_background(producer: ConfirmedProducer, messages: Iterator[Message]) -> None:
    """Send as fast as the broker takes them."""
    threading.Thread(target=send, args=(producer, messages), daemon=True).start()


class _Chaos:
    """Does one thing to one role at even distances, and watches the memory of all."""

    def __init__(self, workers: Workers, kills: int, chance: random.Random) -> None:
        self._workers = workers
        self._planned = kills
        self._chance = chance
        self._frozen: list[tuple[float, Role, Worker]] = []
        self._early: dict[Role, int] = {}
        self._late: dict[Role, int] = {}
        self.kills = 0

    def advance(self, share: float) -> None:
        """Do what is due at this share of the events."""
        self._thaw()
        memory = {role: max(map(_rss, self._workers.of(role)), default=0) for role in ROLES}
        if share < 0.1:
            self._early = {role: max(memory[role], self._early.get(role, 0)) for role in ROLES}
        self._late = memory
        if share * self._planned > self.kills:
            self._strike()

    def _strike(self) -> None:
        role = self._chance.choice(ROLES)
        self.kills += 1
        if self._chance.random() < 0.2 and not self._frozen:
            worker = self._workers.oldest(role)
            worker.send_signal(signal.SIGSTOP)
            self._frozen.append((time.monotonic() + 8, role, worker))
        else:
            self._workers.kill(role)
        self._workers.start(role)

    def _thaw(self) -> None:
        for due in [frozen for frozen in self._frozen if frozen[0] < time.monotonic()]:
            self._frozen.remove(due)
            _, role, worker = due
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.send_signal(signal.SIGTERM)
                self._workers.forget(role, worker)

    def done(self) -> None:
        """Let whatever is frozen go."""
        while self._frozen:
            time.sleep(0.5)
            self._thaw()

    def rss_ratio(self) -> float:
        """The largest growth of a role's memory since a tenth of the events."""
        return max(self._late[role] / self._early[role] for role in ROLES if self._early.get(role))


def _rss(worker: Worker) -> int:
    try:
        return int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def _uploads(settings: Settings, count: int) -> Iterator[Message]:
    demo = [one.upload for one in load_uploads(now_ms())]
    for number in range(count):
        upload = msgspec.structs.replace(
            demo[number % len(demo)], video_id=f"v{number}", creator_id=f"c{number % 5_000}"
        )
        yield Message(settings.topic(VIDEO_UPLOADS), upload.video_id.encode(), encode(upload))


def _watches(settings: Settings, count: int, uploads: int, chance: random.Random) -> Iterator[Message]:
    for number in range(count):
        user, turn = number % _USERS, number // _USERS
        event = WatchEvent(
            schema_version=1,
            event_id=f"e{number}",
            user_id=f"u{user}",
            session_id=f"u{user}-{turn // _WATCHES_PER_SESSION}",
            video_id=f"v{chance.randrange(uploads)}",
            watched_at_ms=now_ms(),
            watch_ms=chance.randrange(60_000),
            duration_ms=30_000,
            liked=chance.random() < 0.05,
        )
        yield Message(settings.topic(WATCH_EVENTS), event.user_id.encode(), encode(event))


if __name__ == "__main__":
    main()
