"""Both engines of retrieval behind one way to fill them."""

from collections.abc import Sequence
from pathlib import Path

from schemas.annotation import Annotation
from schemas.table import to_table
from streams.attribute_store import AttributeStore
from streams.database import Database
from streams.snapshot import Snapshot
from streams.table_retriever import TableRetriever
from streams.table_search import TableSettings
from streams.videos import Videos
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS

ENGINES = ("snapshot", "lancedb")
AT_ONCE = TableSettings(refresh_s=0.0, count_s=0.0)


class Engine:
    """An engine, and the store that it reads if it reads one."""

    def __init__(self, name: str, folder: Path, *, settings: TableSettings = AT_ONCE, shards: int = 2) -> None:
        self.store: AttributeStore | None = None
        if name == "snapshot":
            self.videos: Videos = Snapshot(CATALOGUE, DIM)
        else:
            self.store = AttributeStore.open(Database(str(folder)), CATALOGUE, DIM, shards)
            self.videos = TableRetriever(self.store, settings)

    def add(self, *annotations: Annotation) -> Videos:
        """Have the engine know these annotations, as it would from store and topic."""
        if self.store is not None and annotations:
            self.store.upsert(to_table(annotations, self.store.catalogue, DIM, NOW_MS))
        return self.apply(annotations)

    def apply(self, annotations: Sequence[Annotation]) -> Videos:
        """Have it know them from the topic alone."""
        self.videos.apply(annotations)
        return self.videos
