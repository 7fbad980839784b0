"""The `review` role: what the student is unsure of, by the LLM."""

from schemas.attributes import Catalogue
from streams.delivery import Backoff, Delivery
from streams.review import ReviewStage
from topology.agents import stage_app
from topology.annotator import make_annotator
from topology.media import make_clips
from topology.producer import ConfirmedProducer
from topology.roles.closing import closing
from topology.settings import Settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, REVIEW_REQUESTS
from topology.tracing import make_tracing
from topology.worker import RoleApp


def make(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    """Make the app: annotator, stage and delivery."""
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

    return RoleApp(app, closing(producer, tracing, stage.close))
