"""The `store` stage: annotations into the attribute store."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from monitoring import metrics
from schemas.annotation import Annotation
from schemas.errors import InvalidRecord
from schemas.table import check_annotation
from schemas.wire import Decoder
from streams.attribute_store import AttributeStore
from streams.record import Effects, Record
from streams.shard_writer import ShardWriter
from streams.shards import shard_of
from streams.stage import Item, Stage, record_key


class StoreStage(Stage[Annotation]):
    """Upserts annotations, one merge per run and shard, all shards at once; takes over `store`."""

    name = "store"
    freshness = metrics.UPLOAD_TO_SEARCHABLE

    def __init__(self, store: AttributeStore, dead_letters: str, *, compact_every: int = 20) -> None:
        """`compact_every` is in merges: each leaves one fragment more until the table is compacted."""
        super().__init__(dead_letters)
        self._store = store
        self._decoder = Decoder(Annotation)
        self._writers = {shard: ShardWriter(table, compact_every) for shard, table in store.tables.items()}

    def decode(self, record: Record) -> Annotation:
        """Return the annotation, which the table can hold; see Stage."""
        if record.value is None:
            raise InvalidRecord("impossible", "no value; a removal is an annotation of status 'removed'")
        annotation = self._decoder.decode(record.value)
        key = record_key(record)
        if key != annotation.video_id:
            raise InvalidRecord("impossible", f"key {key!r} of an annotation of video {annotation.video_id!r}")
        check_annotation(annotation, self._store.catalogue, self._store.dim)
        return annotation

    async def process(self, items: Sequence[Item[Annotation]]) -> Effects:
        """Upsert; the effects are durable when this returns.

        Raises:
            StoreUnavailable: a shard could not be written; the same items may come again.

        """
        shards: defaultdict[int, list[Annotation]] = defaultdict(list)
        for item in items:
            shards[shard_of(item.event.video_id, self._store.shards)].append(item.event)
        writes = [self._writers[shard].write(annotations) for shard, annotations in shards.items()]
        for written in await asyncio.gather(*writes, return_exceptions=True):  # all are over before a try fails
            if isinstance(written, BaseException):
                raise written
            metrics.STORED_ROWS.inc(written)
        return Effects(visible_ms=[item.event.received_at_ms for item in items if item.event.first])

    async def close(self) -> None:
        """Finish the compactions under way and stop the threads.

        Raises:
            StoreUnavailable: a compaction failed.

        """
        closed = await asyncio.gather(*(writer.close() for writer in self._writers.values()), return_exceptions=True)
        for result in closed:
            if result is not None:
                raise result
