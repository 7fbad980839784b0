"""Every metric of vibestream. Base units; labels are bounded: never a user, session or video."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600,
)  # fmt: skip

CONSUMED = Counter("vibestream_consumed_records", "Records taken from a topic and confirmed", ["stage", "topic"])
PRODUCED = Counter("vibestream_produced_records", "Records acknowledged by the broker", ["stage", "topic"])
DEAD_LETTERED = Counter("vibestream_dead_lettered_records", "Records filed as dead letters", ["stage", "kind"])
RETRIES = Counter("vibestream_run_retries", "Runs tried again after a failure", ["stage", "error"])
STAGE_SECONDS = Histogram("vibestream_stage_seconds", "Decoding and processing one run", ["stage"], buckets=_SECONDS)
RUN_RECORDS = Histogram(
    "vibestream_run_records", "Records in a run", ["stage"], buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
)
ASSIGNED_PARTITIONS = Gauge("vibestream_assigned_partitions", "Partitions this worker reads", ["stage"])
QUEUED_RUNS = Gauge("vibestream_queued_runs", "Runs fetched and not yet confirmed", ["stage"])

ANNOTATED = Counter("vibestream_annotated_videos", "Annotations produced", ["source", "status"])
UPLOAD_TO_SEARCHABLE = Histogram(
    "vibestream_upload_to_searchable_seconds",
    "Upload in the broker to row in LanceDB, first annotation",
    buckets=_SECONDS,
)
STORED_ROWS = Counter("vibestream_stored_rows", "Rows upserted into LanceDB")
STORE_FRAGMENTS = Gauge("vibestream_store_fragments", "Fragments of the attribute table")

LLM_CALLS = Counter("vibestream_llm_calls", "Requests to the LLM", ["kind", "outcome"])
LLM_TOKENS = Counter("vibestream_llm_tokens", "Tokens billed by the LLM", ["kind", "direction"])
LLM_SECONDS = Histogram("vibestream_llm_seconds", "One request to the LLM", ["kind"], buckets=_SECONDS)

WATCH_TO_CANDIDATES = Histogram(
    "vibestream_watch_to_candidates_seconds", "Watch in the broker to acknowledged candidate list", buckets=_SECONDS
)
CANDIDATE_LISTS = Counter("vibestream_candidate_lists", "Candidate lists produced", ["fallback"])
CANDIDATES_REMOVED = Counter("vibestream_candidates_removed", "Candidates taken out by a filter", ["reason"])
SNAPSHOT_VIDEOS = Gauge("vibestream_snapshot_videos", "Videos in the in-process snapshot of the catalogue")
