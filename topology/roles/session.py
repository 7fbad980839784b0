"""The `session` role: watch events to candidate lists."""

import asyncio
from collections.abc import Iterable, Sequence

from schemas.attributes import Catalogue
from streams.attribute_store import AttributeStore
from streams.candidates import SessionStage
from streams.delivery import Delivery
from streams.retrieve import RetrievalSettings
from streams.serving import LatestLists
from streams.snapshot import Snapshot
from streams.table_retriever import TableRetriever
from streams.user_states import UserStates
from streams.videos import Videos
from topology.agents import stage_app
from topology.attribute_store import database, open_table, reaching
from topology.bundle import student_dim
from topology.changelog import Changelog
from topology.follow import AnnotationFollower
from topology.kafka import count_partitions
from topology.labelers import labeler
from topology.producer import ConfirmedProducer
from topology.roles.closing import closing
from topology.serve_candidates import CandidatesEndpoint
from topology.settings import Settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, SESSION_CANDIDATES, USER_STATES, WATCH_EVENTS
from topology.tracing import make_tracing
from topology.worker import RoleApp

_DAY_MS = 86_400_000


def make(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    """Make the app: videos, user states, stage, delivery and endpoint."""
    tracing = make_tracing(settings, "session", WATCH_EVENTS, entrance=True)
    following = make_tracing(settings, "session", ANNOTATIONS)
    changelog = Changelog(settings, settings.topic(USER_STATES), producer)

    async def recover(partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        return await asyncio.to_thread(changelog.read, partition)

    # It notes its position before the table is read: nothing falls between.
    follower = AnnotationFollower(settings, following)
    states = UserStates(recover)
    stage = SessionStage(
        _videos(settings, catalogue, follower),
        states,
        candidates=settings.topic(SESSION_CANDIDATES),
        user_states=settings.topic(USER_STATES),
        dead_letters=settings.topic(DEAD_LETTERS),
        settings=RetrievalSettings(max_age_ms=int(settings.max_age_days * _DAY_MS)),
        satisfaction=labeler(settings),
        latest=LatestLists(settings.http_sessions),
    )
    endpoint = CandidatesEndpoint(stage, count_partitions(settings, WATCH_EVENTS), settings.watch_partitioner)
    delivery = Delivery(stage, producer.produce, tracing=tracing, hand_over=producer.hand_over)

    def forget(partitions: Sequence[int]) -> None:
        states.forget(partitions)
        endpoint.forget(partitions)

    def begin(partitions: Sequence[int]) -> None:
        states.begin(partitions)
        endpoint.begin(partitions)

    app = stage_app(
        settings, "session", settings.topic(WATCH_EVENTS), stage, delivery,
        on_rebalance=forget, on_assigned=begin,
    )  # fmt: skip

    async def stop_following() -> None:
        states.close()
        await asyncio.to_thread(follower.close)
        await asyncio.to_thread(following.close)

    return RoleApp(
        app,
        closing(producer, tracing, stop_following, endpoint.close, stage.close),
        start=lambda crash: follower.start(stage.follow, crash),
        routes=endpoint.routes,
        reach_store=reaching(settings),
    )


def _videos(settings: Settings, catalogue: Catalogue, follower: AnnotationFollower) -> Videos:
    if settings.retriever == "lancedb":
        return TableRetriever(open_table(settings, catalogue))
    snapshot = Snapshot(catalogue, student_dim(settings))
    table = AttributeStore.open_existing(database(settings), catalogue, snapshot.dim, settings.store_shards)
    if table.missing:
        follower.rewind()  # the store has not begun: what is not in the table lies in the topic
    snapshot.load(table.read(snapshot.columns))
    return snapshot
