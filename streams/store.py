"""The `store` stage: annotations into the attribute table."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from monitoring import metrics
from schemas.annotation import Annotation
from schemas.errors import InvalidRecord
from schemas.table import check_annotation, to_table
from schemas.wire import Decoder
from streams.attribute_table import AttributeTable
from streams.clock import now_ms
from streams.record import Effects, Record
from streams.stage import Item, Stage, record_key


class StoreStage(Stage[Annotation]):
    """Upserts annotations, one merge per run, in a thread of its own; takes over `table`."""

    name = "store"
    freshness = metrics.UPLOAD_TO_SEARCHABLE

    def __init__(self, table: AttributeTable, dead_letters: str, *, compact_every: int = 50) -> None:
        """`compact_every` is in runs: each leaves one fragment more until the table is compacted."""
        super().__init__(dead_letters)
        self._table = table
        self._compact_every = compact_every
        self._merges = 0
        self._decoder = Decoder(Annotation)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        self._compaction: asyncio.Future[None] | None = None

    def decode(self, record: Record) -> Annotation:
        """Return the annotation, which the table can hold; see Stage."""
        if record.value is None:
            raise InvalidRecord("impossible", "no value; a removal is an annotation of status 'removed'")
        annotation = self._decoder.decode(record.value)
        key = record_key(record)
        if key != annotation.video_id:
            raise InvalidRecord("impossible", f"key {key!r} of an annotation of video {annotation.video_id!r}")
        check_annotation(annotation, self._table.catalogue, self._table.dim)
        return annotation

    async def process(self, items: Sequence[Item[Annotation]]) -> Effects:
        """Upsert; the effects are durable when this returns.

        Raises:
            StoreUnavailable: the upsert, or the compaction after an earlier one, failed; the same items may come again.

        """
        await self._compacted()
        annotations = [item.event for item in items]
        loop = asyncio.get_running_loop()
        changed, fragments = await loop.run_in_executor(self._thread, self._upsert, annotations)
        metrics.STORED_ROWS.inc(changed)
        metrics.STORE_FRAGMENTS.set(fragments)
        self._merges += 1
        if self._merges % self._compact_every == 0:
            # Nobody waits for it but the next run, so this run's offsets are committed meanwhile.
            self._compaction = loop.run_in_executor(self._thread, self._table.compact)
        return Effects(visible_ms=[a.received_at_ms for a in annotations if _first(a)])

    async def close(self) -> None:
        """Finish the compaction under way and stop the thread.

        Raises:
            StoreUnavailable: the compaction failed.

        """
        try:
            await self._compacted()
        finally:
            self._thread.shutdown()

    def _upsert(self, annotations: Sequence[Annotation]) -> tuple[int, int]:
        table = self._table
        changed = table.upsert(to_table(annotations, table.catalogue, table.dim, now_ms()))
        return changed, table.fragments()

    async def _compacted(self) -> None:
        compaction, self._compaction = self._compaction, None
        if compaction is not None:
            await compaction


def _first(annotation: Annotation) -> bool:
    """Tell whether this annotation is a video's first: the LLM's comes after the student's."""
    return annotation.source == "student" and annotation.status != "removed"
