"""The writer of one shard: merges and compactions in a thread of its own."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from monitoring import metrics
from schemas.annotation import Annotation
from schemas.errors import StoreUnavailable
from schemas.table import to_table
from streams.attribute_table import AttributeTable
from streams.clock import now_ms

log = logging.getLogger(__name__)
_MEASURE_S = 1.0  # it takes a millisecond, a twentieth of a merge


class ShardWriter:
    """Upserts annotations into `table`, which it takes over, and compacts it every so many merges."""

    def __init__(self, table: AttributeTable, compact_every: int) -> None:
        self._table = table
        self._compact_every = compact_every
        self._merges = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=table.name)
        self._compaction: asyncio.Future[None] | None = None
        self._measured_s = 0.0
        self._measuring: asyncio.TimerHandle | None = None
        metrics.STORE_COMPACTION_SECONDS.labels(table.name)  # its rate begins with the first one

    async def write(self, annotations: Sequence[Annotation]) -> int:
        """Upsert; the rows are durable when this returns. Return how many changed.

        Raises:
            StoreUnavailable: the upsert, or the compaction after an earlier one, failed; the same annotations may come
                again.

        """
        await self._compacted()
        loop = asyncio.get_running_loop()
        changed = await loop.run_in_executor(self._thread, self._upsert, annotations)
        self._merges += 1
        if self._measuring is None:
            self._measuring = loop.call_at(self._measured_s + _MEASURE_S, self._measure_now, loop)
        # Nobody waits for either but the next write, so this run's offsets are committed meanwhile.
        if self._merges % self._compact_every == 0:
            self._compaction = loop.run_in_executor(self._thread, self._compact)
        elif self._table.index_is_behind:
            self._compaction = loop.run_in_executor(self._thread, self._table.index)
        return changed

    async def close(self) -> None:
        """Finish the compaction under way and stop the thread.

        Raises:
            StoreUnavailable: the compaction failed.

        """
        try:
            await self._compacted()
        finally:
            if self._measuring is not None:
                self._measuring.cancel()
                self._measure_now(asyncio.get_running_loop())
            self._thread.shutdown()

    def _upsert(self, annotations: Sequence[Annotation]) -> int:
        table = self._table
        started = time.perf_counter()
        changed = table.upsert(to_table(annotations, table.catalogue, table.dim, now_ms()))
        metrics.STORE_MERGE_SECONDS.labels(table.name).observe(time.perf_counter() - started)
        return changed

    def _measure_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._measuring = None
        self._measured_s = loop.time()
        loop.run_in_executor(self._thread, self._measure)

    def _measure(self) -> None:
        table = self._table
        try:
            size = table.size()
        except StoreUnavailable as error:  # a write says so, too, and is tried again
            log.warning("size of table %s: %s", table.name, error)
            return
        metrics.STORE_FRAGMENTS.labels(table.name).set(size.fragments)
        metrics.STORE_VERSION.labels(table.name).set(table.written_version)
        metrics.STORE_TABLE_ROWS.labels(table.name).set(size.rows)
        metrics.STORE_TABLE_BYTES.labels(table.name).set(size.bytes)

    def _compact(self) -> None:
        started = time.perf_counter()
        self._table.compact()
        metrics.STORE_COMPACTION_SECONDS.labels(self._table.name).observe(time.perf_counter() - started)

    async def _compacted(self) -> None:
        compaction, self._compaction = self._compaction, None
        if compaction is not None:
            await compaction
