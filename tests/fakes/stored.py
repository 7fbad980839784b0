"""A store with videos in it, as the settings of a worker say."""

from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.table import to_table
from streams.attribute_store import AttributeStore
from topology.attribute_store import open_table
from topology.settings import Settings


def fill(settings: Settings, count: int, first: int = 0) -> AttributeStore:
    """Upsert `count` videos and return the store."""
    store = open_table(settings, load_catalogue())
    videos = [
        Annotation(schema_version=1, video_id=f"v{i}", status="final", received_at_ms=5, annotated_at_ms=5)
        for i in range(first, first + count)
    ]
    store.upsert(to_table(videos, store.catalogue, store.dim, 5))
    return store
