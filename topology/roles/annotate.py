"""The `annotate` role: uploads to annotations, by the student."""

from functools import partial

from models.student import Student
from schemas.attributes import Catalogue
from streams.annotate import AnnotateStage
from streams.delivery import Delivery
from streams.students import LiveStudent
from topology.agents import stage_app
from topology.bundle import bundle_path
from topology.extractors import makes_text
from topology.producer import ConfirmedProducer
from topology.roles.closing import closing
from topology.roles.following import following
from topology.settings import Settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, MEDIA_REQUESTS, REVIEW_REQUESTS, VIDEO_UPLOADS
from topology.tracing import make_tracing
from topology.worker import RoleApp


def make(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    """Make the app: student, stage and delivery."""
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
    return following(settings, app, live, load, partial(closing, producer, tracing), stage.close, settings.shadow_share)
