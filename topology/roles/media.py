"""The `media` role: videos that the student looks at."""

from functools import partial

from models.student import Student
from schemas.attributes import Catalogue
from streams.delivery import Delivery
from streams.media import MediaStage
from streams.students import LiveStudent
from topology.agents import stage_app
from topology.bundle import bundle_path
from topology.media import load_for, make_looker
from topology.producer import ConfirmedProducer
from topology.roles.closing import closing
from topology.roles.following import following
from topology.settings import Settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, MEDIA_REQUESTS, REVIEW_REQUESTS
from topology.tracing import make_tracing
from topology.worker import RoleApp


def make(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    """Make the app: student, looker, stage and delivery."""
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
    return following(settings, app, live, load, partial(closing, producer, tracing), stage.close, 0.0)
