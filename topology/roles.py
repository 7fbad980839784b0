"""The composition root: which stage a role runs, made of what, and bound to which topic."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from faust import App

from models.annotator import Annotator
from models.bundle import default_bundle, load_manifest
from models.local import LocalAnnotator
from models.registry import Registry
from models.student import Student
from monitoring import metrics
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import ConfigurationError, StoreUnavailable
from streams.annotate import AnnotateStage
from streams.attribute_store import AttributeStore
from streams.candidates import SessionStage
from streams.database import Database
from streams.delivery import Backoff, Delivery
from streams.media import MediaStage
from streams.retrieve import RetrievalSettings
from streams.review import ReviewStage
from streams.serving import LatestLists
from streams.shards import table_names
from streams.snapshot import Snapshot
from streams.store import StoreStage
from streams.students import LiveStudent, RegistryFollower
from streams.table_retriever import TableRetriever
from streams.tracing import Tracing
from streams.user_states import UserStates
from streams.videos import Videos
from topology.agents import stage_app
from topology.changelog import Changelog
from topology.follow import AnnotationFollower
from topology.kafka import count_partitions
from topology.labelers import labeler
from topology.llm import make_llm
from topology.media import load_for, make_clips, make_looker, makes_text
from topology.producer import ConfirmedProducer
from topology.serve_candidates import CandidatesEndpoint
from topology.settings import Role, Settings
from topology.shards import assign_whole_shards, check_divides
from topology.topics import (
    ANNOTATIONS,
    DEAD_LETTERS,
    MEDIA_REQUESTS,
    REVIEW_REQUESTS,
    SESSION_CANDIDATES,
    TOPIC_OF,
    USER_STATES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from topology.tracing import make_tracing
from topology.worker import RoleApp

_DAY_MS = 86_400_000
_REACH_S = 5.0


def bundle_path(settings: Settings) -> Path:
    """Return the folder of the student bundle: the registry's current one, the one that is set, or the one that ships.

    Raises:
        ConfigurationError: registry and bundle are both set, or nobody was promoted in the registry.

    """
    if settings.students and settings.bundle:
        raise ConfigurationError(
            f"VIBESTREAM_STUDENTS={settings.students} and VIBESTREAM_BUNDLE={settings.bundle} are both set; keep one"
        )
    if settings.students:
        registry = Registry(Path(settings.students))
        return registry.path(registry.current())
    return Path(settings.bundle) if settings.bundle else default_bundle()


def student_dim(settings: Settings) -> int:
    """Return the dimension of the student's embeddings."""
    return load_manifest(bundle_path(settings)).dim


def database(settings: Settings, uri: str = "") -> Database:
    """Return the database of the store, or the one at `uri`."""
    return Database(
        uri or settings.store_uri, storage_options=settings.storage_options, deadline_s=settings.store_deadline_s
    )


def open_table(settings: Settings, catalogue: Catalogue) -> AttributeStore:
    """Open the attribute table, all shards of it, for the student's embeddings; create it if it is not there."""
    return AttributeStore.open(database(settings), catalogue, student_dim(settings), settings.store_shards)


def build(settings: Settings, role: Role) -> RoleApp:
    """Make the app of a role and all that it needs; call it in the event loop that will run it.

    Raises:
        ConfigurationError: catalogue, bundle, provider, LLM or table don't fit.
        Unavailable: broker or store don't answer.

    """
    count_partitions(settings, TOPIC_OF[role])  # Faust would end with a traceback, or wait for the topic without a word
    metrics.WORKER.labels(role).set(1)
    return _BUILDERS[role](settings, load_catalogue(settings.catalogue_path), ConfirmedProducer(settings))


def _annotate(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    live = LiveStudent(Student.load(bundle_path(settings), catalogue, settings.provider))
    stage = AnnotateStage(
        live,
        annotations=settings.topic(ANNOTATIONS),
        review_requests=settings.topic(REVIEW_REQUESTS),
        dead_letters=settings.topic(DEAD_LETTERS),
        media_requests=settings.topic(MEDIA_REQUESTS) if settings.media_allow.strip() else None,
        makes_text=makes_text(settings),
    )
    tracing = make_tracing(settings, "annotate", VIDEO_UPLOADS, entrance=True)
    delivery = Delivery(stage, producer.produce, tracing=tracing)
    app = stage_app(settings, "annotate", settings.topic(VIDEO_UPLOADS), stage, delivery)
    load = partial(Student.load, catalogue=catalogue, provider=settings.provider)
    closing = partial(_closing, producer, tracing)
    return _following(settings, app, live, load, closing, stage.close, settings.shadow_share)


def _media(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    student = Student.load(bundle_path(settings), catalogue, settings.provider)
    live, looker = LiveStudent(student), make_looker(settings, student)
    stage = MediaStage(
        live,
        looker,
        annotations=settings.topic(ANNOTATIONS),
        review_requests=settings.topic(REVIEW_REQUESTS),
        dead_letters=settings.topic(DEAD_LETTERS),
    )
    tracing = make_tracing(settings, "media", MEDIA_REQUESTS)
    delivery = Delivery(stage, producer.produce, tracing=tracing)
    app = stage_app(settings, "media", settings.topic(MEDIA_REQUESTS), stage, delivery)
    load = partial(load_for, looker, catalogue=catalogue, settings=settings)
    return _following(settings, app, live, load, partial(_closing, producer, tracing), stage.close, 0.0)


def _following(
    settings: Settings,
    app: App,
    live: LiveStudent,
    load: Callable[[Path], Student],
    closing: Callable[..., Callable[[], Awaitable[None]]],
    close: Callable[[], Awaitable[None]],
    shadow_share: float,
) -> RoleApp:
    """Return the role's app; its student follows the registry, if the settings name one."""
    if not settings.students:
        return RoleApp(app, closing(close))
    follower = RegistryFollower(live, Registry(Path(settings.students)), load, shadow_share=shadow_share)
    return RoleApp(app, closing(follower.close, close), start=lambda _: follower.start())


def make_annotator(settings: Settings, catalogue: Catalogue, *, patient: bool = True) -> Annotator:
    """Return the annotator that the settings name; one that is not `patient` raises at the first failure."""
    if settings.llm == "gemini":
        return make_llm(settings, catalogue, patient=patient)
    return LocalAnnotator.load(catalogue)


def _review(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    stage = ReviewStage(
        make_annotator(settings, catalogue),
        catalogue,
        annotations=settings.topic(ANNOTATIONS),
        dead_letters=settings.topic(DEAD_LETTERS),
        clips=make_clips(settings),
    )
    # The annotator waits by itself for a service that is away, and knows for how long.
    tracing = make_tracing(settings, "review", REVIEW_REQUESTS)
    delivery = Delivery(stage, producer.produce, Backoff(most=0.5), tracing)
    app = stage_app(settings, "review", settings.topic(REVIEW_REQUESTS), stage, delivery)

    return RoleApp(app, _closing(producer, tracing, stage.close))


def _store(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    check_divides(settings)
    table = open_table(settings, catalogue)
    stage = StoreStage(table, settings.topic(DEAD_LETTERS))
    tracing = make_tracing(settings, "store", ANNOTATIONS)
    delivery = Delivery(stage, producer.produce, tracing=tracing)
    app = stage_app(settings, "store", settings.topic(ANNOTATIONS), stage, delivery)
    assign_whole_shards(app, settings.store_shards)

    return RoleApp(app, _closing(producer, tracing, stage.close), reach_store=_reach(settings))


def _session(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
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
    delivery = Delivery(stage, producer.produce, tracing=tracing)

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
        _closing(producer, tracing, stop_following, endpoint.close, stage.close),
        start=lambda crash: follower.start(stage.follow, crash),
        routes=endpoint.routes,
        reach_store=_reach(settings),
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


def _reach(settings: Settings) -> Callable[[], None]:
    """Return what asks, on a connection of its own and with little patience, whether the tables of now are still there.

    It raises StoreUnavailable.
    """
    patience_s = min(settings.store_deadline_s, _REACH_S)
    store = Database(settings.store_uri, storage_options=settings.storage_options, deadline_s=patience_s)
    names = store.tables() & set(table_names(settings.store_shards))

    def reach() -> None:
        missing = names - store.tables()
        if missing:
            raise StoreUnavailable(f"no table {', '.join(sorted(missing))} at {settings.store_uri}")

    return reach


def _closing(
    producer: ConfirmedProducer, tracing: Tracing, *steps: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return what takes the steps in order and then closes tracing and producer, whichever of them fails."""

    async def close() -> None:
        async with AsyncExitStack() as stack:
            # In a thread: cut off from the broker it waits for what is under way, longer than a worker may take to end.
            stack.push_async_callback(asyncio.to_thread, producer.close)
            stack.push_async_callback(asyncio.to_thread, tracing.close)
            for step in reversed(steps):
                stack.push_async_callback(step)

    return close


_BUILDERS: dict[Role, Callable[[Settings, Catalogue, ConfirmedProducer], RoleApp]] = {
    "annotate": _annotate,
    "media": _media,
    "review": _review,
    "store": _store,
    "session": _session,
}
