"""The composition root: which stage a role runs, made of what, and bound to which topic."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from models.annotator import Annotator
from models.bundle import default_bundle, load_bundle
from models.gemini import GeminiAnnotator
from models.local import LocalAnnotator
from models.student import Student
from schemas.attributes import Catalogue, load_catalogue
from streams.annotate import AnnotateStage
from streams.attribute_table import AttributeTable
from streams.candidates import SessionStage
from streams.delivery import Delivery
from streams.retrieve import RetrievalSettings
from streams.review import ReviewStage
from streams.snapshot import Snapshot
from streams.store import StoreStage
from streams.user_states import UserStates
from topology.agents import stage_app
from topology.changelog import Changelog
from topology.follow import AnnotationFollower
from topology.producer import ConfirmedProducer
from topology.settings import Role, Settings
from topology.topics import (
    ANNOTATIONS,
    DEAD_LETTERS,
    REVIEW_REQUESTS,
    SESSION_CANDIDATES,
    USER_STATES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from topology.worker import RoleApp

_DAY_MS = 86_400_000


def bundle_path(settings: Settings) -> Path:
    """Return the folder of the student bundle."""
    return Path(settings.bundle) if settings.bundle else default_bundle()


def student_dim(settings: Settings) -> int:
    """Return the dimension of the student's embeddings."""
    return load_bundle(bundle_path(settings)).manifest.dim


def open_table(settings: Settings, catalogue: Catalogue) -> AttributeTable:
    """Open the attribute table for the student's embeddings; create it if it is not there."""
    return AttributeTable.open(
        settings.store_uri,
        catalogue,
        student_dim(settings),
        storage_options=settings.storage_options,
        deadline_s=settings.store_deadline_s,
    )


def build(settings: Settings, role: Role) -> RoleApp:
    """Make the app of a role and all that it needs; call it in the event loop that will run it.

    Raises:
        ConfigurationError: catalogue, bundle, provider, LLM or table don't fit.
        Unavailable: broker or store don't answer.

    """
    return _BUILDERS[role](settings, load_catalogue(settings.catalogue_path), ConfirmedProducer(settings))


def _annotate(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    stage = AnnotateStage(
        Student.load(bundle_path(settings), catalogue, settings.provider),
        annotations=settings.topic(ANNOTATIONS),
        review_requests=settings.topic(REVIEW_REQUESTS),
        dead_letters=settings.topic(DEAD_LETTERS),
    )
    app = stage_app(settings, "annotate", settings.topic(VIDEO_UPLOADS), stage, Delivery(stage, producer.produce))

    return RoleApp(app, _closing(producer, stage.close))


def make_annotator(settings: Settings, catalogue: Catalogue) -> Annotator:
    """Return the annotator that the settings name."""
    if settings.llm == "gemini":
        return GeminiAnnotator(
            catalogue,
            api_key=settings.gemini_api_key,
            model=settings.gemini_model,
            base_url=settings.gemini_base_url or None,
        )
    return LocalAnnotator.load(catalogue)


def _review(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    stage = ReviewStage(
        make_annotator(settings, catalogue),
        catalogue,
        annotations=settings.topic(ANNOTATIONS),
        dead_letters=settings.topic(DEAD_LETTERS),
    )
    app = stage_app(settings, "review", settings.topic(REVIEW_REQUESTS), stage, Delivery(stage, producer.produce))

    return RoleApp(app, _closing(producer, stage.close))


def _store(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    stage = StoreStage(open_table(settings, catalogue), settings.topic(DEAD_LETTERS))
    app = stage_app(settings, "store", settings.topic(ANNOTATIONS), stage, Delivery(stage, producer.produce))

    return RoleApp(app, _closing(producer, stage.close))


def _session(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    changelog = Changelog(settings, settings.topic(USER_STATES), producer)

    async def recover(partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        return await asyncio.to_thread(changelog.read, partition)

    follower = AnnotationFollower(settings)  # notes its position before the table is read: nothing falls between
    snapshot = Snapshot(catalogue, student_dim(settings))
    table = AttributeTable.open_existing(
        settings.store_uri,
        catalogue,
        snapshot.dim,
        storage_options=settings.storage_options,
        deadline_s=settings.store_deadline_s,
    )
    if table is None:
        follower.rewind()  # the store has not begun: all there is lies in the topic
    else:
        snapshot.load(table.read(snapshot.columns))
    states = UserStates(recover)
    stage = SessionStage(
        snapshot,
        states,
        candidates=settings.topic(SESSION_CANDIDATES),
        user_states=settings.topic(USER_STATES),
        dead_letters=settings.topic(DEAD_LETTERS),
        settings=RetrievalSettings(max_age_ms=int(settings.max_age_days * _DAY_MS)),
    )
    delivery = Delivery(stage, producer.produce)
    app = stage_app(settings, "session", settings.topic(WATCH_EVENTS), stage, delivery, on_rebalance=states.forget)

    async def stop_following() -> None:
        await asyncio.to_thread(follower.close)

    return RoleApp(
        app, _closing(producer, stop_following, stage.close), start=lambda crash: follower.start(stage.follow, crash)
    )


def _closing(producer: ConfirmedProducer, *steps: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return what takes the steps in order and then closes the producer, whichever of them fails."""

    async def close() -> None:
        async with AsyncExitStack() as stack:
            stack.callback(producer.close)
            for step in reversed(steps):
                stack.push_async_callback(step)

    return close


_BUILDERS: dict[Role, Callable[[Settings, Catalogue, ConfirmedProducer], RoleApp]] = {
    "annotate": _annotate,
    "review": _review,
    "store": _store,
    "session": _session,
}
