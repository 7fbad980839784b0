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
STUDENT_VERSION = Gauge("vibestream_student_version", "Bundle in use; 0: none", ["slot"])
STUDENT_LOADS = Counter(
    "vibestream_student_loads", "Bundles that the registry named, loaded or refused", ["slot", "outcome"]
)
STUDENT_REFUSED = Gauge("vibestream_student_refused", "1 while the registry names a bundle that was refused", ["slot"])
SHADOW_VIDEOS = Counter("vibestream_shadow_videos", "Videos drawn for the shadow student", ["outcome"])
SHADOW_DISAGREEMENTS = Counter(
    "vibestream_shadow_disagreements",
    "The shadow says the opposite (label), or one is unsure (band)",
    ["attribute", "kind"],
)
SHADOW_DIFFERENCE = Counter("vibestream_shadow_difference", "Sum of |p - p of the shadow|", ["attribute"])
MEDIA_VIDEOS = Counter("vibestream_media_videos", "Videos with a media_uri: what came of looking at them", ["status"])
MEDIA_SECONDS = Histogram(
    "vibestream_media_seconds",
    "A step of looking at a video: fetch, decode; encode: of a run",
    ["step"],
    buckets=_SECONDS,
)
MEDIA_FRAMES = Counter("vibestream_media_frames", "Frames: encoded, or known by their hash", ["source"])
MEDIA_DECODERS_ENDED = Counter("vibestream_media_decoders_ended", "Decoder processes killed or crashed", ["why"])
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
LLM_LOOKUPS = Counter("vibestream_llm_lookups", "Questions: known, asked by another just now, or to ask", ["result"])
LLM_POSTPONED = Counter("vibestream_llm_postponed", "Questions that stay with the student's guess for now", ["why"])
LLM_DISBELIEVED = Counter("vibestream_llm_disbelieved", "Of the LLM's replies: ids and verdicts not believed", ["why"])
LLM_ALONE = Counter("vibestream_llm_alone", "Questions with a request of their own, and why", ["risk"])
LLM_USD = Counter("vibestream_llm_usd", "Money charged for the LLM, US dollars")
LLM_BUDGET_USED = Gauge("vibestream_llm_budget_used_ratio", "Spent and reserved, of the budget", ["window"])
LLM_BUDGET_ALARMS = Counter("vibestream_llm_budget_alarms", "The budget passed this percentage", ["window", "percent"])
LLM_PACE = Gauge("vibestream_llm_pace", "Expected corrections that a dollar must bring for the LLM to be asked")
LLM_PAUSED_UNTIL = Gauge("vibestream_llm_paused_until_seconds", "Nothing is asked before this time (epoch); 0: asking")
LLM_PAUSES = Counter("vibestream_llm_pauses", "Times that asking was stopped", ["cause"])
LLM_CONCURRENCY = Gauge("vibestream_llm_concurrency", "Requests that may be in flight now")

WATCH_TO_CANDIDATES = Histogram(
    "vibestream_watch_to_candidates_seconds", "Watch in the broker to acknowledged candidate list", buckets=_SECONDS
)
CANDIDATE_LISTS = Counter("vibestream_candidate_lists", "Candidate lists produced", ["fallback"])
CANDIDATES_REMOVED = Counter("vibestream_candidates_removed", "Candidates taken out by a filter", ["reason"])
HTTP_LISTS = Counter("vibestream_http_lists", "Answers to POST /candidates", ["status"])
HTTP_LIST_SECONDS = Histogram("vibestream_http_list_seconds", "Lists made for POST /candidates", buckets=_SECONDS)
SNAPSHOT_VIDEOS = Gauge("vibestream_snapshot_videos", "Videos in the in-process snapshot of the catalogue")
