"""What remembering users costs: applying a watch, the bytes of a user, and how soon a killed worker has them back.

Every user has watched 500 videos with ids of 11 characters, so the states are as large as they get. They lie in the
changelog of a real broker. A session worker recovers them, is killed, and another is started at that moment; it serves
again when there is a list for a user of every partition whose quotas only the recovered state can have.
"""

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from models.satisfaction import satisfaction
from schemas.attributes import load_catalogue
from schemas.candidates import SessionCandidates
from schemas.events import WatchEvent
from schemas.user_state import Affinity, UserState, decode_state, encode_state, watched_ids
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from streams.user_states import UserStates
from streams.videos import VideoView
from streams.watch import SEEN_VIDEOS, apply
from tests.benchmarks.brokers import add_broker_option, broker
from tests.processes import Processes, wait_until
from topology.bundle import student_dim
from topology.changelog import Changelog
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import SESSION_CANDIDATES, USER_STATES, WATCH_EVENTS, ensure_topics

_WATCHED = SEEN_VIDEOS + 50
_START_MS = now_ms() - _WATCHED * 60_000  # what was watched long ago has faded
_BATCH = 2_000
_DEADLINE_S = 300.0


def watch(user: str, number: int) -> WatchEvent:
    return WatchEvent(
        schema_version=1,
        event_id=f"{user}-{number}",
        user_id=user,
        session_id=f"{user}-{number // 20}",
        video_id=f"{number:011d}",
        watched_at_ms=_START_MS + number * 60_000,
        watch_ms=8_000 + number % 9_000,
        duration_ms=17_000,
    )


def views(count: int) -> list[VideoView]:
    """Videos of one taste: a cosine of about 0.4 to what they have in common, as their mean then has for a length."""
    rng, catalogue, dim = np.random.default_rng(0), load_catalogue(), student_dim(Settings())
    common = rng.standard_normal(dim)
    common /= np.linalg.norm(common)
    vectors = rng.standard_normal((count, dim)) * (0.9 / dim**0.5) + 0.4 * common
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        VideoView(dict(zip(catalogue.ids, rng.random(len(catalogue.ids)).tolist(), strict=True)), vector)
        for vector in vectors.astype(np.float32)
    ]


def full_state(videos: list[VideoView]) -> UserState:
    state = None
    for number in range(_WATCHED):
        state = apply(state, watch("user", number), number, videos[number % len(videos)], satisfaction)
    assert state is not None
    return state


def apply_us(videos: list[VideoView], state: UserState, tries: int = 5_000) -> float:
    """The median from bytes to bytes: decode, apply a watch, encode."""
    value, taken = encode_state(state), list[float]()
    for number in range(1_000, 1_000 + tries):
        event, video = watch("user", number), videos[number % len(videos)]
        started = time.perf_counter()
        encode_state(apply(decode_state(value), event, number, video, satisfaction))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


def write_states(
    settings: Settings, producer: ConfirmedProducer, users: int, state: UserState, videos: Sequence[str]
) -> float:
    """Fill the changelog with states that differ wherever users' do, watchers of some of `videos` each.

    Returns the mean bytes of a value.
    """
    rng, normal, written, batch = random.Random(0), np.random.default_rng(0), 0, list[Message]()
    length = np.linalg.norm(np.frombuffer(state.taste, "<f2").astype(np.float64))
    for number in range(users):
        user, share = f"user-{number:07d}", rng.random()
        value = encode_state(
            replace(
                state,
                applied=0,
                user_id=user,
                affinities={
                    name: Affinity(a.n, a.s * share, a.session_n, a.session_s * share)
                    for name, a in state.affinities.items()
                },
                taste=(length * _direction(normal, len(state.taste) // 2)).astype("<f2").tobytes(),
                watched=watched_ids(rng.sample(videos, SEEN_VIDEOS)),
            )
        )
        written += len(value)
        partition = number % settings.partitions
        batch.append(Message(settings.topic(USER_STATES), f"{user}\0bench".encode(), value, partition=partition))
        if len(batch) == _BATCH:
            producer.produce_now(batch)
            batch.clear()
            print(f"{number + 1} states written", end="\r", file=sys.stderr)
    producer.produce_now(batch)
    return written / users


def _direction(rng: np.random.Generator, dim: int) -> npt.NDArray[np.float64]:
    vector = rng.standard_normal(dim)
    return vector / np.linalg.norm(vector)


def recovery_s(settings: Settings, producer: ConfirmedProducer, users: int) -> float:
    """The seconds that a worker with all partitions takes from their assignment to the states."""
    changelog = Changelog(settings, settings.topic(USER_STATES), producer)

    async def recover(partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        return changelog.read(partition)

    async def all_partitions() -> float:
        started, states = time.monotonic(), UserStates(recover)
        await asyncio.gather(*(states.ensure(partition) for partition in range(settings.partitions)))
        taken = time.monotonic() - started
        missing = [n for n in range(users) if states.get(n % settings.partitions, f"user-{n:07d}") is None]
        assert not missing, f"{len(missing)} users were not recovered"
        return taken

    return asyncio.run(all_partitions())


class Service:
    """A session worker, and whether it answers with what it should remember."""

    def __init__(self, settings: Settings, producer: ConfirmedProducer, processes: Processes, log: Path) -> None:
        self._settings, self._producer, self._processes, self._log = settings, producer, processes, log
        self._number = 1_000
        # The states say that offset 0 was applied.
        self._watch("nobody")

    def start(self) -> None:
        self.worker = self._processes.start(self._settings, "-m", "topology.cli", "worker", "session", log=self._log)

    def kill(self) -> None:
        self.worker.send_signal(signal.SIGKILL)
        self.worker.wait()

    def serves_s(self, since: float) -> float:
        """Watch as one user of every partition; return the seconds from `since` until all have their lists."""
        events = self._watch("user")
        decoder, wanted = Decoder(SessionCandidates), {event.event_id for event in events}

        def served() -> bool:
            assert self.worker.poll() is None, self._log.read_text()[-3_000:]
            lists = [decoder.decode(record.value or b"") for record in read_topic(self._settings, SESSION_CANDIDATES)]
            return wanted <= {made.event_id for made in lists if len(made.quotas) > 1}

        wait_until(served, _DEADLINE_S, "a list from the recovered state for a user of every partition")
        return time.monotonic() - since

    def _watch(self, name: str) -> list[WatchEvent]:
        self._number += 20
        partitions = range(self._settings.partitions)
        events = [watch(f"{name}-{partition:07d}", self._number) for partition in partitions]
        topic = self._settings.topic(WATCH_EVENTS)
        self._producer.produce_now(
            [
                Message(topic, event.user_id.encode(), encode(event), partition=partition)
                for partition, event in zip(partitions, events, strict=True)
            ]
        )
        return events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    add_broker_option(parser)
    options = parser.parse_args()
    videos = views(50)
    state = full_state(videos)
    result: dict[str, object] = {"users": options.users, "apply_us_p50": round(apply_us(videos, state), 1)}
    print(result, file=sys.stderr)
    processes = Processes()
    with TemporaryDirectory() as folder, broker(options.broker) as running:
        settings = with_changes(Settings(), broker=running.url, store_uri=f"{folder}/lancedb")
        ensure_topics(settings)
        producer = ConfirmedProducer(settings, delivery_timeout_s=120)
        try:
            watched = [f"{random.Random(at).randrange(10**11):011d}" for at in range(50_000)]
            result["bytes_per_user"] = round(write_states(settings, producer, options.users, state, watched))
            result["recovery_s"] = round(recovery_s(settings, producer, options.users), 1)
            print(result, file=sys.stderr)
            service = Service(settings, producer, processes, Path(folder) / "session.log")
            started = time.monotonic()
            service.start()
            result["first_start_s"] = round(service.serves_s(started), 1)
            killed = time.monotonic()
            service.kill()
            service.start()
            result["serves_again_s"] = round(service.serves_s(killed), 1)
            result |= {"session_timeout_s": settings.session_timeout_s, "broker": options.broker}
            print("".join(line for line in service_log(folder) if "user states" in line), file=sys.stderr)
        finally:
            processes.stop_all()
            producer.close()
    print(json.dumps(result))


def service_log(folder: str) -> list[str]:
    return (Path(folder) / "session.log").read_text().splitlines(keepends=True)


if __name__ == "__main__":
    main()
