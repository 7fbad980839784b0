import asyncio
import http.client
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jsonschema
import pytest
from confluent_kafka import Producer

from monitoring.scrape import scrape, total
from monitoring.serve import HttpServer
from schemas.annotation import Annotation
from schemas.candidates import SessionCandidates
from schemas.wire import Decoder, encode
from streams.candidates import SessionStage
from streams.clock import now_ms
from streams.policy import RetrievalSettings
from streams.record import Message, Record
from streams.retriever import Found, Request
from streams.serving import LatestLists
from streams.snapshot import Snapshot
from streams.user_states import UserStates
from streams.videos import Videos
from tests.fakes.engines import ENGINES, Engine
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, direction, watch
from tests.processes import Processes, wait_until
from topology.broker import free_port
from topology.kafka import client_config, read_topic
from topology.openapi import document
from topology.producer import ConfirmedProducer
from topology.serve_candidates import MAX_BODY_BYTES, CandidatesEndpoint, Partitioner, partition_of
from topology.settings import Settings, with_changes
from topology.topics import SESSION_CANDIDATES, WATCH_EVENTS

PARTITIONS = 4
MINE = partition_of(b"u", PARTITIONS, "crc32")
OTHERS = next(f"u{i}" for i in range(100) if partition_of(f"u{i}".encode(), PARTITIONS, "crc32") != MINE)
AGE_MS = 3 * 86_400_000
VIDEOS = [
    annotation(
        f"v{i}",
        {"calm": i % 2 == 0, "eerie": i % 3 == 0},
        vector=direction(i / 40),
        creator=f"c{i}",
        uploaded_at_ms=now_ms() - AGE_MS - i * 60_000,
        received_at_ms=now_ms(),
    )
    for i in range(60)
]


class Answer(NamedTuple):
    status: int
    body: Any
    headers: http.client.HTTPMessage


def send(port: int, method: str, path: str, body: bytes | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return Answer(answer.status, json.loads(content), answer.headers)


class Worker:
    """A session stage, its endpoint and a server, of which one partition is assigned."""

    def __init__(self, stage: SessionStage, endpoint: CandidatesEndpoint, server: HttpServer) -> None:
        self.stage = stage
        self.endpoint = endpoint
        self.server = server
        self.offset = 0

    async def get(self, path: str) -> Answer:
        return await asyncio.to_thread(send, self.server.port, "GET", path)

    async def post(self, request: dict[str, object] | bytes) -> Answer:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return await asyncio.to_thread(send, self.server.port, "POST", "/candidates", body)

    async def watch(self, video_id: str, session_id: str = "s") -> list[Message]:
        event = watch(video_id, event_id=f"e{self.offset}", session_id=session_id, watched_at_ms=now_ms())
        record = Record("watch-events", MINE, self.offset, now_ms(), b"u", encode(event))
        self.offset += 1
        effects = await self.stage.run([record])
        effects.confirm()
        return [message for message in effects.messages if message.topic == "lists"]


async def nothing(_: int) -> Iterable[tuple[bytes, bytes | None]]:
    return ()


@asynccontextmanager
async def a_worker(
    states: UserStates | None = None, sessions: int = 100, videos: Videos | None = None
) -> AsyncIterator[Worker]:
    states = states or UserStates(nothing)
    stage = SessionStage(
        videos or Snapshot(CATALOGUE, DIM),
        states,
        candidates="lists",
        user_states="states",
        dead_letters="dead",
        settings=RetrievalSettings(near_duplicate=1.0),
        latest=LatestLists(sessions),
    )
    endpoint = CandidatesEndpoint(stage, PARTITIONS, "crc32")
    server = HttpServer("127.0.0.1", 0, endpoint.routes)
    try:
        await stage.follow(VIDEOS)
        states.begin([MINE])
        endpoint.begin([MINE])
        yield Worker(stage, endpoint, server)
    finally:
        await endpoint.close()
        await stage.close()
        server.close()


@pytest.fixture(params=ENGINES)
async def worker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Worker]:
    async with a_worker(videos=Engine(request.param, tmp_path).add(*VIDEOS)) as made:
        await made.watch("v1", "before")
        yield made


def fits(answer: Answer, record: str) -> bool:
    components = json.loads(document())["components"]
    schema = {"$ref": f"#/components/schemas/{record}", "components": components}
    jsonschema.Draft202012Validator(schema).validate(answer.body)
    return True


def ids(answer: Answer) -> list[str]:
    return [candidate["video_id"] for candidate in answer.body["candidates"]]


async def test_the_last_list_of_a_session_is_what_its_topic_has(worker: Worker) -> None:
    assert (await worker.get("/sessions/s%2F1/candidates")).status == 404
    made = [message for i in range(5) for message in await worker.watch(f"v{i}", "s/1")]
    assert len(made) == 2
    answer = await worker.get(f"/sessions/{quote('s/1', safe='')}/candidates")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.body == json.loads(made[-1].value or b"")
    assert fits(answer, "SessionCandidates")


async def test_sessions_not_seen_for_long_are_forgotten() -> None:
    async with a_worker(sessions=2) as worker:
        for session in ("a", "b"):
            await worker.watch("v1", session)
        assert (await worker.get("/sessions/a/candidates")).status == 200
        await worker.watch("v1", "c")
        assert [(await worker.get(f"/sessions/{s}/candidates")).status for s in "abc"] == [200, 404, 200]


async def test_a_list_of_a_partition_that_was_taken_away_is_no_longer_the_last(worker: Worker) -> None:
    await worker.watch("v1", "s")
    worker.endpoint.forget([MINE])
    answer = await worker.get("/sessions/s/candidates")
    assert answer.status == 404
    assert fits(answer, "Refusal")
    assert (await worker.post({"user_id": "u"})).status == 421


async def test_a_list_for_a_user_leaves_out_what_was_watched_and_is_made_again_alike(worker: Worker) -> None:
    for video in ("v2", "v4", "v6"):
        await worker.watch(video)
    first, second = await worker.post({"user_id": "u", "k": 20}), await worker.post({"user_id": "u", "k": 20})
    assert first.status == 200
    assert fits(first, "CandidateList")
    assert len(ids(first)) == 20
    assert not {"v1", "v2", "v4", "v6"} & set(ids(first))
    assert first.body | {"made_at_ms": 0} == second.body | {"made_at_ms": 0}


async def test_asking_changes_nothing_that_is_remembered(worker: Worker) -> None:
    assert len(await worker.watch("v2")) == 1
    for _ in range(5):
        await worker.post({"user_id": "u"})
    due = [len(await worker.watch(f"v{i}")) for i in (3, 4, 5)]
    assert due == [0, 0, 1]


async def test_attributes_that_are_asked_for_share_the_restricted_lane(worker: Worker) -> None:
    answer = await worker.post({"attributes": ["eerie"], "k": 20})
    assert answer.status == 200
    assert answer.body["quotas"] == {"eerie": 12}
    both = await worker.post({"attributes": ["eerie", "calm"], "user_id": "u", "k": 20})
    assert both.body["quotas"] == {"eerie": 6, "calm": 6}


async def test_a_list_keeps_to_language_age_and_what_is_excluded(worker: Worker) -> None:
    asked = {"attributes": ["calm"], "k": 60}
    excluded = await worker.post({**asked, "exclude": ["v0", "v8"]})
    assert set(ids(excluded)) == {f"v{i}" for i in range(60)} - {"v0", "v8"}
    between = VIDEOS[29].uploaded_at_ms - 30_000
    young = await worker.post({**asked, "max_age_ms": now_ms() - between})
    assert set(ids(young)) <= {f"v{i}" for i in range(30)}
    assert young.body["removed"]["too_old"] == 30
    assert ids(await worker.post({**asked, "language": "pt"})) == []
    assert len(ids(await worker.post({**asked, "language": "en"}))) == 60


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (b"{ no json", 400, "JSON"),
        (b"", 400, "Input data"),
        (b"\x1f\x8b compressed", 400, "JSON"),
        ({}, 400, "user_id, attributes or both"),
        ({"user_id": 5}, 400, "Expected `str"),
        ({"user_id": "u", "k": 0}, 400, ">= 1"),
        ({"user_id": "u", "k": 201}, 400, "<= 200"),
        ({"user_id": "u", "limit": 5}, 400, "unknown field `limit`"),
        ({"user_id": "u", "max_age_ms": 10**15}, 400, "this worker serves up to"),
        ({"user_id": "u", "exclude": ["v"] * 501}, 400, "<= 500"),
        ({"attributes": ["hostile"]}, 400, "there are calm, eerie, funny"),
        ({"attributes": ["sad"]}, 400, "attributes sad"),
        (b" " * (MAX_BODY_BYTES + 1), 413, str(MAX_BODY_BYTES)),
        ({"user_id": OTHERS}, 421, "another worker"),
    ],
)
async def test_what_can_not_be_answered_is_refused_with_a_reason(
    worker: Worker, request_: dict[str, object] | bytes, status: int, reason: str
) -> None:
    answer = await worker.post(request_)
    assert answer.status == status
    assert reason in answer.body["reason"]
    assert fits(answer, "Refusal")


async def test_a_user_of_another_partition_is_sent_to_it(worker: Worker) -> None:
    answer = await worker.post({"user_id": OTHERS})
    assert answer.body["partition"] == partition_of(OTHERS.encode(), PARTITIONS, "crc32")
    owned = await worker.get("/partitions")
    assert owned.body == {"partitions": [MINE], "of": PARTITIONS, "partitioner": "crc32"}
    assert fits(owned, "OwnedPartitions")


async def test_while_users_are_recovered_callers_are_asked_to_come_again() -> None:
    recovered = asyncio.Event()

    async def recover(_: int) -> Iterable[tuple[bytes, bytes | None]]:
        await recovered.wait()
        return ()

    states = UserStates(recover)
    async with a_worker(states) as worker:
        answer = await worker.post({"user_id": "u"})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await worker.post({"attributes": ["calm"]})).status == 200
        recovered.set()
        await states.ensure(MINE)
        assert (await worker.post({"user_id": "u"})).status == 200


class _BlockedSnapshot(Snapshot):
    """Holds the stage's thread as a large run of watches does; notes for whom it searches."""

    entered = threading.Event()
    free = threading.Event()
    users: list[str]

    def apply(self, annotations: Iterable[Annotation]) -> None:
        self.entered.set()
        assert self.free.wait(20)

    def search(self, requests: Sequence[Request], oldest_ms: int) -> Iterator[tuple[int, Found]]:
        self.users += [request.user for request in requests]
        return super().search(requests, oldest_ms)


async def test_a_full_queue_refuses_and_watches_wait_for_one_list_at_most() -> None:
    snapshot, states = _BlockedSnapshot(CATALOGUE, DIM), UserStates(nothing)
    snapshot.users = []
    stage = SessionStage(snapshot, states, candidates="l", user_states="s", dead_letters="d")
    endpoint = CandidatesEndpoint(stage, PARTITIONS, "crc32")
    server = HttpServer("127.0.0.1", 0, endpoint.routes)
    callers = ThreadPoolExecutor(40)

    async def ask() -> int:
        answer = callers.submit(send, server.port, "POST", "/candidates", b'{"attributes": ["calm"]}')
        return (await asyncio.wrap_future(answer)).status

    try:
        await states.ensure(MINE)
        busy = asyncio.create_task(stage.follow([]))
        await asyncio.to_thread(_BlockedSnapshot.entered.wait, 20)
        asked = [asyncio.create_task(ask()) for _ in range(40)]
        refused = 0
        for done in asyncio.as_completed(asked):
            assert await done == 503
            refused += 1
            if refused == 24:
                break
        snapshot.users.clear()
        run = asyncio.create_task(stage.run([Record("w", MINE, 0, NOW_MS, b"u", encode(watch(watched_at_ms=NOW_MS)))]))
        for _ in range(20):  # turns of the event loop, until the run waits for the thread
            await asyncio.sleep(0)
        _BlockedSnapshot.free.set()
        await busy
        assert [await task for task in asked].count(200) == 16
        await run
        assert len(snapshot.users) == 17
        assert snapshot.users.index("u") <= 1
    finally:
        _BlockedSnapshot.free.set()
        callers.shutdown()
        await endpoint.close()
        await stage.close()
        server.close()


async def test_a_worker_that_stops_refuses(worker: Worker) -> None:
    await worker.endpoint.close()
    assert (await worker.post({"user_id": "u"})).status == 503


@pytest.mark.parametrize(("partitioner", "librdkafka"), [("crc32", "consistent"), ("murmur2", "murmur2")])
def test_a_users_partition_is_where_producers_put_the_key(
    settings: Settings, partitioner: Partitioner, librdkafka: str
) -> None:
    placed: dict[bytes, int] = {}
    producer = Producer(client_config(settings, partitioner=librdkafka))
    for key in (f"user-{i}é".encode() for i in range(50)):
        producer.produce(
            settings.topic(WATCH_EVENTS), b"", key, on_delivery=lambda _, m: placed.update({m.key(): m.partition()})
        )
    producer.flush(20)
    assert placed == {key: partition_of(key, settings.partitions, partitioner) for key in placed}
    assert (len(placed), len(set(placed.values()))) == (50, settings.partitions)


def test_a_worker_answers_by_http_what_it_puts_on_the_topic(
    settings: Settings, processes: Processes, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "session.log"
    worker = processes.start(
        with_changes(settings, metrics_port=port), "-m", "topology.cli", "worker", "session", log=log
    )

    def reads() -> bool:
        assert worker.poll() is None, log.read_text()
        try:
            return total(scrape(port), "vibestream_assigned_partitions") == settings.partitions
        except OSError:
            return False

    wait_until(reads, 120, "the worker reads its partitions")
    producer = ConfirmedProducer(settings)
    event = watch("v", user_id="someone", session_id="tonight", watched_at_ms=now_ms())
    producer.produce_now([Message(settings.topic(WATCH_EVENTS), b"someone", encode(event))])
    producer.close()
    wait_until(lambda: send(port, "GET", "/sessions/tonight/candidates").status == 200, 30, "a list")
    [record] = read_topic(settings, SESSION_CANDIDATES)
    made = Decoder(SessionCandidates).decode(record.value or b"")
    assert send(port, "GET", "/sessions/tonight/candidates").body == json.loads(encode(made))
    assert send(port, "POST", "/candidates", b'{"user_id": "someone"}').body["removed"] == made.removed
