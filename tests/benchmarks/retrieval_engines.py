"""The engines that the retrieval benchmark measures, each loaded from the same file and asked the same way."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import duckdb
import faiss
import lancedb
import numpy as np
import pyarrow as pa

from schemas.attributes import load_catalogue
from streams.retriever import Lane, Request
from streams.snapshot import Snapshot

K = 200
LANGUAGE = "en"
OLDEST_MS = 1_750_000_000_000
BY_SELECTIVITY = {"0.5": "uplifting", "0.05": "funny", "0.005": "heartwarming", "0.0005": "admiring"}


class Engine(Protocol):
    """Holds the catalogue; `memory_gb` where it was measured. Histories name videos by id, so all look ids up."""

    memory_gb: float | None

    def search(self, query: np.ndarray, attribute: str, seen: tuple[str, ...]) -> list[int]:
        """Return the rows of the videos found, at most K."""
        ...


def batches(folder: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(folder / "videos.arrow")) as file:
        reader = pa.ipc.open_file(file)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)


def vectors_of(batch: pa.RecordBatch) -> np.ndarray:
    """Float32, normalised again after float16: what all engines but LanceDB, which holds float16, are given."""
    column = batch.column("vector")
    vectors = column.flatten().to_numpy().reshape(len(batch), -1).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows_by_id(batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
    ids = (video_id for batch in batches for video_id in batch.column("video_id").to_pylist())
    return {video_id: row for row, video_id in enumerate(ids)}


def resident_gb() -> float:
    """Return the resident memory of this process (VmRSS), after what is free has been given back."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    pages = int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


class SnapshotEngine:
    """The memory is that of the process with the videos in it, less that with everything imported and compiled."""

    def __init__(self, folder: Path) -> None:
        first = next(batches(folder))
        dim = first.schema.field("vector").type.list_size
        warm = Snapshot(load_catalogue(), dim)
        warm.load([first.slice(0, 100).select(list(warm.columns))])
        list(warm.search([Request(np.ones(dim, np.float32), [Lane(1)])], 0))
        del warm, first
        before = resident_gb()
        self._snapshot = Snapshot(load_catalogue(), dim)
        self._snapshot.load(batch.select(list(self._snapshot.columns)) for batch in batches(folder))
        self.memory_gb: float | None = resident_gb() - before

    def search(self, query: np.ndarray, attribute: str, seen: tuple[str, ...]) -> list[int]:
        request = Request(query, [Lane(K, attribute)], self._snapshot.rows(seen), (LANGUAGE,))
        [(_, found)] = self._snapshot.search([request], OLDEST_MS)
        return found.rows.tolist()


class LanceEngine:
    """IVF_SQ over cosine, bitmap indexes on labels and language; all probes that a thin result needs, twice refined."""

    memory_gb: float | None = None

    def __init__(self, folder: Path) -> None:
        self._database = lancedb.connect(str(folder / "lancedb"))
        schema = next(batches(folder)).schema
        self._table = self._database.create_table(
            "videos", data=pa.RecordBatchReader.from_batches(schema, batches(folder))
        )
        partitions = max(1, int(self._table.count_rows() ** 0.5) // 2)
        self._table.create_index(
            metric="cosine", vector_column_name="vector", index_type="IVF_SQ", num_partitions=partitions
        )
        for column in ("language", *(f"label_{attribute}" for attribute in BY_SELECTIVITY.values())):
            self._table.create_scalar_index(column, index_type="BITMAP")
        self._table.create_scalar_index("uploaded_at_ms")

    def search(self, query: np.ndarray, attribute: str, seen: tuple[str, ...]) -> list[int]:
        where = f"label_{attribute} = true AND language = '{LANGUAGE}' AND uploaded_at_ms >= {OLDEST_MS}"
        found: Any = self._table.search(query, vector_column_name="vector").where(where, prefilter=True)
        # The seen are dropped afterwards: that is faster than NOT IN, and as exact with so many more fetched.
        found = found.minimum_nprobes(20).maximum_nprobes(0).refine_factor(2).limit(K + len(seen))
        ids = found.select(["video_id", "_distance"]).to_arrow().column("video_id").to_pylist()
        known = set(seen)
        return [int(video_id[1:]) for video_id in ids if video_id not in known][:K]


class FaissEngine:
    """A flat index over float32 and a bitmap of what may be found; the bitmaps of the filters are made beforehand."""

    memory_gb: float | None = None

    def __init__(self, folder: Path) -> None:
        faiss.omp_set_num_threads(1)
        parts = list(batches(folder))
        self._index = faiss.IndexFlatIP(parts[0].schema.field("vector").type.list_size)
        masks: dict[str, list[np.ndarray]] = {attribute: [] for attribute in BY_SELECTIVITY.values()}
        for batch in parts:
            self._index.add(vectors_of(batch))
            allowed = np.array(batch.column("language").to_pylist()) == LANGUAGE
            allowed &= batch.column("uploaded_at_ms").to_numpy() >= OLDEST_MS
            for attribute, made in masks.items():
                made.append(allowed & batch.column(f"label_{attribute}").to_numpy(zero_copy_only=False))
        self._rows = rows_by_id(parts)
        self._bits = {a: np.packbits(np.concatenate(made), bitorder="little") for a, made in masks.items()}

    def search(self, query: np.ndarray, attribute: str, seen: tuple[str, ...]) -> list[int]:
        bits = self._bits[attribute].copy()
        rows = np.array([self._rows[video_id] for video_id in seen])
        np.bitwise_and.at(bits, rows >> 3, ~(1 << (rows & 7)).astype(np.uint8))
        selector = faiss.IDSelectorBitmap(bits)
        _, rows = self._index.search(query[np.newaxis], K, params=faiss.SearchParameters(sel=selector))
        return [row for row in rows[0].tolist() if row >= 0]


class DuckEngine:
    """array_inner_product over a table in memory, one thread."""

    memory_gb: float | None = None

    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect(config={"threads": 1})
        self._rows = rows_by_id(batches(folder))
        start = 0
        for batch in batches(folder):
            vectors = vectors_of(batch)
            dim = vectors.shape[1]
            columns = {
                "row": pa.array(np.arange(start, start + len(batch))),
                "language": batch.column("language"),
                "uploaded_at_ms": batch.column("uploaded_at_ms"),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
            } | {attribute: batch.column(f"label_{attribute}") for attribute in BY_SELECTIVITY.values()}
            self._connection.register("part", pa.table(columns))
            into = "create table videos as" if start == 0 else "insert into videos"
            self._connection.execute(f"{into} select * from part")
            self._connection.unregister("part")
            start += len(batch)
        self._dim = dim

    def search(self, query: np.ndarray, attribute: str, seen: tuple[str, ...]) -> list[int]:
        found = self._connection.execute(
            f"select row from videos where {attribute} and language = ? and uploaded_at_ms >= ?"
            " and row not in (select unnest(?))"
            f" order by array_inner_product(vector, ?::float[{self._dim}]) desc limit {K}",
            [LANGUAGE, OLDEST_MS, [self._rows[video_id] for video_id in seen], query.tolist()],
        )
        return [row for (row,) in found.fetchall()]


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "snapshot": SnapshotEngine,
    "lancedb": LanceEngine,
    "faiss": FaissEngine,
    "duckdb": DuckEngine,
}


def measure(make: Callable[[Path], Engine], folder: Path) -> dict[str, object]:
    """Return p50 and p99 of a query's wall time, and mean recall, by selectivity."""
    data = np.load(folder / "queries.npz")
    engine = make(folder)
    viewers = [tuple(f"v{row:010d}" for row in rows.tolist()) for rows in data["seen"]]
    by_selectivity: dict[str, dict[str, float]] = {}
    for selectivity, attribute in BY_SELECTIVITY.items():
        times: list[float] = []
        cpu: list[float] = []
        recalls: list[float] = []
        for warm in (True, False):
            asked = zip(data["queries"], viewers, data[f"truth_{selectivity}"], strict=True)
            for i, (query, seen, truth) in enumerate(asked):
                if warm and i == 5:
                    break
                started, cpu_started = time.perf_counter(), time.process_time()
                rows = engine.search(query, attribute, seen)
                took, cpu_took = time.perf_counter() - started, time.process_time() - cpu_started
                if not warm:
                    times.append(1e3 * took)
                    cpu.append(1e3 * cpu_took)
                    wanted = set(truth[truth >= 0].tolist())
                    recalls.append(len(wanted & set(rows)) / len(wanted))
        p50, p99 = np.percentile(times, [50, 99])
        of_cpu = np.percentile(cpu, [50, 99]).round(3).tolist()
        print(f"{selectivity}: CPU ms p50 and p99 {of_cpu}", file=sys.stderr)
        by_selectivity[selectivity] = {
            "p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "recall": round(float(np.mean(recalls)), 5),
        }  # fmt: skip
    return {"memory_gb": engine.memory_gb and round(engine.memory_gb, 3), "by_selectivity": by_selectivity}
