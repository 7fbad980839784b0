"""Restricted retrieval, one engine after the other, over the same videos and queries; one line of JSON.

A query wants the 200 videos nearest to a vector that have an attribute (one of 50 %, 5 %, 0.5 % or 0.05 % of all), are
in a language (90 %), not too old (90 %), and not among 500 seen ones (of which 250 are the nearest). Every engine runs
in a process of its own, on one thread, one query at a time. Recall is against exact float32 scores. Where other work
runs beside this, go by the CPU times, which are on stderr.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.attributes import load_catalogue
from schemas.table import attribute_schema
from tests.benchmarks.retrieval_engines import BY_SELECTIVITY, ENGINES, LANGUAGE, OLDEST_MS, K, measure, vectors_of

ONE_THREAD = {
    name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LANCE_CPU_THREADS", "RAYON_NUM_THREADS")
}
CLUSTERS = 1_024
SEEN = 500
BATCH = 50_000


def videos(rows: int, dim: int) -> Iterator[pa.RecordBatch]:
    """Rows of the attribute table: clustered vectors, 15 attributes, all of them servable."""
    catalogue = load_catalogue()
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLUSTERS, dim)).astype(np.float32)
    rates = {attribute: 0.1 for attribute in catalogue.ids} | {a: float(s) for s, a in BY_SELECTIVITY.items()}
    rates |= {attribute: 0.0 for attribute in catalogue.policy_ids}
    schema = attribute_schema(catalogue, dim)
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        vectors = 0.7 * centres[rng.integers(CLUSTERS, size=count)] + rng.normal(size=(count, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        times = OLDEST_MS + rng.integers(-1_000_000, 9_000_000, count)
        columns = {
            "video_id": [f"v{row:010d}" for row in range(start, start + count)],
            "seq": times << 21,
            "status": ["final"] * count,
            "creator_id": [f"creator{number}" for number in rng.integers(rows // 10 + 1, size=count)],
            "language": np.where(rng.random(count) < 0.9, LANGUAGE, "pt"),
            "uploaded_at_ms": times,
            "received_at_ms": times,
            "stored_at_ms": times,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), dim),
        }
        for attribute, rate in rates.items():
            columns[f"p_{attribute}"] = rng.random(count).astype(np.float32)
            columns[f"label_{attribute}"] = rng.random(count) < rate
            columns[f"certified_{attribute}"] = np.ones(count, np.bool_)
        yield pa.RecordBatch.from_arrays(
            [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type) for f in schema],
            schema=schema,
        )


def write_data(folder: Path, rows: int, dim: int, queries: int) -> None:
    """Write the table, and queries with what they have seen and should find."""
    masks: dict[str, list[np.ndarray]] = {selectivity: [] for selectivity in BY_SELECTIVITY}
    parts: list[np.ndarray] = []
    with pa.OSFile(str(folder / "videos.arrow"), "wb") as file:
        writer = None
        for batch in videos(rows, dim):
            writer = writer or pa.ipc.new_file(file, batch.schema)
            writer.write_batch(batch)
            parts.append(vectors_of(batch))
            allowed = np.array(batch.column("language").to_pylist()) == LANGUAGE
            allowed &= batch.column("uploaded_at_ms").to_numpy() >= OLDEST_MS
            for selectivity, attribute in BY_SELECTIVITY.items():
                labels = batch.column(f"label_{attribute}").to_numpy(zero_copy_only=False)
                masks[selectivity].append(allowed & labels)
        assert writer is not None
        writer.close()
    vectors = np.concatenate(parts)
    rng = np.random.default_rng(2)
    picked = vectors[rng.integers(rows, size=queries)] + 0.05 * rng.normal(size=(queries, dim)).astype(np.float32)
    asked = (picked / np.linalg.norm(picked, axis=1, keepdims=True)).astype(np.float32)
    seen = np.empty((queries, SEEN), np.int64)
    truth = {s: np.full((queries, K), -1, np.int64) for s in BY_SELECTIVITY}
    whole = {selectivity: np.concatenate(mask) for selectivity, mask in masks.items()}
    for i, query in enumerate(asked):
        scores = vectors @ query
        seen[i] = rng.integers(rows, size=SEEN)
        seen[i, : SEEN // 2] = np.argpartition(-scores, SEEN // 2)[: SEEN // 2]
        for selectivity, mask in whole.items():
            left = mask.copy()
            left[seen[i]] = False
            rows_left = np.flatnonzero(left)
            best = rows_left[np.argsort(-scores[rows_left])[:K]]
            truth[selectivity][i, : len(best)] = best
    np.savez(folder / "queries.npz", queries=asked, seen=seen, **{f"truth_{s}": t for s, t in truth.items()})


def run_engine(name: str, folder: Path) -> dict[str, object]:
    """Measure one engine in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.retrieval", "--engine", name, "--data", str(folder)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, check=True, text=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    print(name, json.dumps(measured), file=sys.stderr)
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all engines, or in a process of its own the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.engine:
        print(json.dumps(measure(ENGINES[args.engine], args.data)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {args.rows} videos and {args.queries} queries", file=sys.stderr)
        write_data(Path(folder), args.rows, args.dim, args.queries)
        measured = {name: run_engine(name, Path(folder)) for name in args.engines}
    memory = measured["snapshot"]["memory_gb"] if "snapshot" in measured else None
    engines = {name: of["by_selectivity"] for name, of in measured.items()}
    print(json.dumps({"rows": args.rows, "dim": args.dim, "memory_gb": memory, "engines": engines}))


if __name__ == "__main__":
    main()
