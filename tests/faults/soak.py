"""The soak: many events, many kills, and one line of arithmetic at the end.

`python -m tests.faults.soak --events 1000000 --kills 50` sends uploads, then watches of them, one event in a hundred
unreadable and one upload in twenty twice, while a role chosen at random is killed over and over, and other faults fall
in between. It prints one JSON line and exits 1 if anything was lost, doubled or left unaccounted.

The uploads are the first 8 % of the events: memory that the catalogue takes is there at 10 %, and what grows after it
is either the users' states or a leak.
"""

import argparse
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from schemas.events import WatchEvent
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.gemini_server import GeminiServer, gemini_in_thread
from tests.faults.verdict import accounted, dead_letters, kept_states, replayed_states, watches
from tests.faults.workers import Worker, Workers
from topology.broker import embedded_broker
from topology.console import progress
from topology.demo.content import load_uploads
from topology.demo.flow import Flow, Progress
from topology.producer import ConfirmedProducer
from topology.replay import send
from topology.settings import ROLES, Role, Settings, with_changes
from topology.topics import VIDEO_UPLOADS, WATCH_EVENTS, ensure_topics

_UPLOADS = 0.08
_USERS = 5_000
_WATCHES_PER_SESSION = 12
_FROZEN_S = 8.0
_POISON = b'{"schema_version": 1, "video'


def main() -> None:
    """Run the soak that the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="folder that keeps the workers' logs")
    options = parser.parse_args()
    verdict = soak(options.events, options.kills, random.Random(options.seed), options.logs)
    print(json.dumps(verdict))
    sys.exit(1 if verdict["lost"] or verdict["duplicates"] or verdict["unaccounted"] else 0)


def soak(events: int, kills: int, chance: random.Random, logs: Path | None = None) -> dict[str, Any]:
    """Return the verdict."""
    uploads = int(events * _UPLOADS)
    watched = events - uploads
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
            llm_state=str(folder / "llm.sqlite"),
            llm_usd_per_day=0,
        )
        ensure_topics(settings)
        workers = Workers(settings, logs or folder)
        stack.callback(workers.stop_all)
        for role in ROLES:
            workers.start(role)
        producer, flow = ConfirmedProducer(settings), Flow(settings)
        chaos = _Chaos(workers, gemini, kills, chance)
        with progress() as bars:
            task = bars.add_task("uploads and watches finished", total=events)

            def show(now: Progress) -> None:
                done = now.annotated + now.watched
                bars.update(task, completed=done)
                chaos.advance(done / events)

            send_in_background(producer, _uploads(settings, uploads, chance))
            flow.wait(uploads, 0, show, lambda: None)
            send_in_background(producer, _watches(settings, watched, uploads, chance))
            flow.wait(uploads, watched, show, lambda: None)
        chaos.done()
        result = accounted(settings)
        records = watches(settings, dead_letters(settings))
        kept, replayed = kept_states(settings, producer, records), replayed_states(settings, records)
        different = sum(kept.get(at) != state for at, state in replayed.items())
        return {
            "events": events,
            "kills": chaos.kills,
            "other_faults": dict(chaos.others),
            "lost": result.uploads.lost,
            "duplicates": result.store.duplicates,
            "unaccounted": result.store.missing + result.store.stale + different,
            "rss_ratio": max(chaos.rss_ratios().values()),
            "rss_ratios": chaos.rss_ratios(),
            "seconds": round(time.monotonic() - started),
        }


def send_in_background(producer: ConfirmedProducer, messages: Iterator[Message]) -> None:
    """Send as fast as the broker takes them."""
    threading.Thread(target=send, args=(producer, messages), daemon=True).start()


class _Chaos:
    """Kills a role at even distances, does something else to one after every third kill, and watches their memory."""

    def __init__(self, workers: Workers, gemini: GeminiServer, kills: int, chance: random.Random) -> None:
        self._workers = workers
        self._gemini = gemini
        self._planned = kills
        self._chance = chance
        self._frozen: tuple[float, Role, Worker] | None = None
        self._early: Counter[Role] = Counter()
        self._late: Counter[Role] = Counter()
        self.kills = 0
        self.others: Counter[str] = Counter()

    def advance(self, share: float) -> None:
        """Do what is due at this share of the events."""
        self._thaw()
        self._gemini.requests.clear()
        for role in ROLES:
            rss = max(map(_rss, self._workers.of(role)), default=0)
            for window, start in ((self._early, 0.08), (self._late, 0.9)):
                if start <= share < start + 0.1:
                    window[role] = max(window[role], rss)
        if share * self._planned > self.kills:
            self._kill()

    def _kill(self) -> None:
        role = self._chance.choice(ROLES)
        self._workers.kill(role)
        self._workers.start(role)
        self.kills += 1
        if self.kills % 3 == 0 and not self._frozen:
            other = self._chance.choice([self._freeze, self._restart, self._llm_down])
            self.others[other.__name__.strip("_")] += 1
            other(self._chance.choice(ROLES))

    def _freeze(self, role: Role) -> None:
        """Past the session time-out, while another takes over."""
        worker = self._workers.oldest(role)
        worker.send_signal(signal.SIGSTOP)
        self._frozen = (time.monotonic() + _FROZEN_S, role, worker)
        self._workers.start(role)

    def _restart(self, role: Role) -> None:
        worker = self._workers.oldest(role)
        worker.send_signal(signal.SIGTERM)
        self._workers.forget(role, worker)
        self._workers.start(role)

    def _llm_down(self, _: Role) -> None:
        self._gemini.script.extend(["overloaded", "drop", "rate_limit", "gateway", "html"] * 4)

    def _thaw(self) -> None:
        if self._frozen and self._frozen[0] < time.monotonic():
            _, role, worker = self._frozen
            self._frozen = None
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.send_signal(signal.SIGTERM)
                self._workers.forget(role, worker)

    def done(self) -> None:
        """Let whatever is frozen go."""
        while self._frozen:
            time.sleep(0.5)
            self._thaw()

    def rss_ratios(self) -> dict[Role, float]:
        """The growth of each role's memory, from 8-18 % of the events to the last 10 %."""
        return {role: round(self._late[role] / self._early[role], 3) for role in ROLES}


def _rss(worker: Worker) -> int:
    try:
        return int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def _uploads(settings: Settings, count: int, chance: random.Random) -> Iterator[Message]:
    demo, topic = [one.upload for one in load_uploads(now_ms())], settings.topic(VIDEO_UPLOADS)
    for position in range(count):
        number = chance.randrange(position + 1) if chance.random() < 0.05 else position
        upload = msgspec.structs.replace(
            demo[number % len(demo)], video_id=f"v{number}", creator_id=f"c{number % 5_000}"
        )
        yield Message(topic, upload.video_id.encode(), _POISON if chance.random() < 0.01 else encode(upload))


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
        value = _POISON if chance.random() < 0.01 else encode(event)
        yield Message(settings.topic(WATCH_EVENTS), event.user_id.encode(), value)


if __name__ == "__main__":
    main()
