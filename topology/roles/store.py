"""The `store` role: annotations to rows."""

from schemas.attributes import Catalogue
from streams.delivery import Delivery
from streams.store import StoreStage
from topology.agents import stage_app
from topology.attribute_store import open_table, reaching
from topology.producer import ConfirmedProducer
from topology.roles.closing import closing
from topology.settings import Settings
from topology.shards import assign_whole_shards, check_divides
from topology.topics import ANNOTATIONS, DEAD_LETTERS
from topology.tracing import make_tracing
from topology.worker import RoleApp


def make(settings: Settings, catalogue: Catalogue, producer: ConfirmedProducer) -> RoleApp:
    """Make the app: table, stage and delivery."""
    check_divides(settings)
    table = open_table(settings, catalogue)
    stage = StoreStage(table, settings.topic(DEAD_LETTERS))
    tracing = make_tracing(settings, "store", ANNOTATIONS)
    delivery = Delivery(stage, producer.produce, tracing=tracing)
    app = stage_app(settings, "store", settings.topic(ANNOTATIONS), stage, delivery)
    assign_whole_shards(app, settings.store_shards)

    return RoleApp(app, closing(producer, tracing, stage.close), reach_store=reaching(settings))
