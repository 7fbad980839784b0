"""Every metric of vibestream. Base units; labels are bounded: never a user, session or video."""

from monitoring.item_histogram import ItemHistogram
from monitoring.matrix_counter import MatrixCounter
from monitoring.series import Counter, Gauge, Histogram

_SECONDS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600,
)  # fmt: skip

# Of the OpenTelemetry semantic conventions for generative AI.
_OPERATION_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

WORKER = Gauge("vibestream_worker", "1 in a worker that runs this role", ["role"])
READY = Gauge("vibestream_ready", "1 while /readyz answers 200")
ALIVE = Gauge("vibestream_alive", "1 while /livez answers 200")

CONSUMED = Counter("vibestream_consumed_records", "Records taken from a topic and confirmed", ["stage", "topic"])
PRODUCED = Counter("vibestream_produced_records", "Records acknowledged by the broker", ["stage", "topic"])
DEAD_LETTERED = Counter("vibestream_dead_lettered_records", "Records filed as dead letters", ["stage", "kind"])
RETRIES = Counter("vibestream_run_retries", "Runs tried again after a failure", ["stage", "error"])
RUN_SECONDS = Histogram(
    "vibestream_run_seconds", "One run, from its hand-over until all its effects are acknowledged", ["stage"],
    buckets=_SECONDS,
)  # fmt: skip
STAGE_SECONDS = Histogram("vibestream_stage_seconds", "Decoding and processing one run", ["stage"], buckets=_SECONDS)
RUN_RECORDS = Histogram(
    "vibestream_run_records", "Records in a run", ["stage"], buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
)
RUN_LIMIT = Gauge(
    "vibestream_run_limit_records", "Records that a run has at most; those in a run by it: how full", ["stage"]
)
QUEUE_WAIT = ItemHistogram(
    "vibestream_queue_wait_seconds", "Per record, from the broker's timestamp to the hand-over of its run", ["stage"],
    buckets=_SECONDS,
)  # fmt: skip
ASSIGNED_PARTITIONS = Gauge("vibestream_assigned_partitions", "Partitions this worker reads", ["stage"])
QUEUED_RUNS = Gauge("vibestream_queued_runs", "Runs fetched and not yet confirmed", ["stage"])

ANNOTATED = Counter("vibestream_annotated_videos", "Annotations produced", ["source", "status"])
UNGUARANTEED = Counter(
    "vibestream_unguaranteed_videos", "Annotations that the LLM should have decided and did not; no quality is claimed"
)
UPLOAD_TO_ANNOTATED = ItemHistogram(
    "vibestream_upload_to_annotated_seconds", "Upload in the broker to the student's annotation, acknowledged",
    buckets=_SECONDS,
)  # fmt: skip
UPLOAD_TO_REVIEWED = ItemHistogram(
    "vibestream_upload_to_reviewed_seconds", "Upload in the broker to the LLM's annotation, acknowledged",
    buckets=_SECONDS,
)  # fmt: skip
DECISIONS = MatrixCounter(
    "vibestream_student_decisions", "What the student decides: accept, reject, or uncertain (the LLM is asked)",
    ("attribute", "band"), columns=("reject", "uncertain", "accept"),
)  # fmt: skip
BAND_REFERENCE = Gauge(
    "vibestream_student_band_reference_ratio",
    "Share of this band where the bundle was measured: what drift is held against",
    ["attribute", "band"],
)  # fmt: skip
CERTIFIED = Gauge("vibestream_student_certified", "1 where the attribute's band is certified", ["attribute"])
VERDICTS = Counter(
    "vibestream_review_verdicts", "The LLM agreed with the student's guess, overturned it, or left it unclear",
    ["attribute", "verdict"],
)  # fmt: skip
VERDICTS_PRESENT = Counter("vibestream_review_present", "Clear verdicts that the attribute is there", ["attribute"])
VERDICTS_PREDICTED = Counter(
    "vibestream_review_predicted", "Sum of the student's p over clear verdicts: calibrated, it equals those present",
    ["attribute"],
)  # fmt: skip
STUDENT_PROVIDER = Gauge(
    "vibestream_student_provider", "1 for what the student runs on, and what was wanted", ["wanted", "provider"]
)
STUDENT_SECONDS = Histogram("vibestream_student_seconds", "Scoring the texts of one run", buckets=_SECONDS)
STUDENT_TEXTS = Counter("vibestream_student_texts", "Texts scored")
STUDENT_BATCHES = Counter("vibestream_student_batches", "Calls of the model")
STUDENT_BATCH_LIMIT = Gauge("vibestream_student_batch_limit_texts", "Texts that one call of the model takes at most")
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
    "A step of looking at a video: fetch, decode, text that is on_screen or heard; encode: of a run",
    ["step"],
    buckets=_SECONDS,
)
MEDIA_FRAMES = Counter("vibestream_media_frames", "Frames: encoded, or known by their hash", ["source"])
MEDIA_TEXTS = Counter("vibestream_media_texts", "Videos of which text was to be made", ["kind", "outcome"])
MEDIA_DECODERS_ENDED = Counter("vibestream_media_decoders_ended", "Decoder processes killed or crashed", ["why"])
UPLOAD_TO_SEARCHABLE = ItemHistogram(
    "vibestream_upload_to_searchable_seconds", "Upload in the broker to row in LanceDB, first annotation",
    buckets=_SECONDS,
)  # fmt: skip
STORED_ROWS = Counter("vibestream_stored_rows", "Rows upserted into LanceDB")
STORE_MERGE_SECONDS = Histogram(
    "vibestream_store_merge_seconds", "One upsert of one table", ["table"], buckets=_SECONDS
)
STORE_COMPACTION_SECONDS = Histogram(
    "vibestream_store_compaction_seconds", "One compaction of one table", ["table"], buckets=_SECONDS
)
STORE_FRAGMENTS = Gauge("vibestream_store_fragments", "Fragments of an attribute table", ["table"])
STORE_VERSION = Gauge(
    "vibestream_store_version", "Newest version of an attribute table; every merge adds one", ["table"]
)
STORE_TABLE_ROWS = Gauge("vibestream_store_rows", "Rows of an attribute table", ["table"])
STORE_TABLE_BYTES = Gauge("vibestream_store_bytes", "Size of an attribute table's newest version", ["table"])

LLM_CALLS = Counter("vibestream_llm_calls", "Requests to the LLM", ["kind", "outcome"])
LLM_TOKENS = Counter("vibestream_llm_tokens", "Tokens billed by the LLM", ["kind", "direction"])
LLM_SECONDS = Histogram("vibestream_llm_seconds", "One request to the LLM", ["kind"], buckets=_SECONDS)
GEN_AI_SECONDS = Histogram(
    "gen_ai_client_operation_duration_seconds", "The same by the names of OpenTelemetry",
    ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"], buckets=_OPERATION_SECONDS,
)  # fmt: skip
GEN_AI_TOKENS = Histogram(
    "gen_ai_client_token_usage", "Tokens of one request by the names of OpenTelemetry",
    ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"], buckets=_TOKENS,
)  # fmt: skip
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

WATCH_TO_CANDIDATES = ItemHistogram(
    "vibestream_watch_to_candidates_seconds", "Watch in the broker to acknowledged candidate list", buckets=_SECONDS
)
CANDIDATE_LISTS = Counter("vibestream_candidate_lists", "Candidate lists produced", ["fallback"])
CANDIDATES = Counter(
    "vibestream_candidates",
    "Candidates in lists, by lane; uncertain: of an attribute that is only probable or not certified",
    ["lane", "certainty"],
)  # fmt: skip
CANDIDATES_REMOVED = Counter("vibestream_candidates_removed", "Candidates taken out by a filter", ["reason"])
HTTP_LISTS = Counter("vibestream_http_lists", "Answers to POST /candidates", ["status"])
HTTP_LIST_SECONDS = Histogram("vibestream_http_list_seconds", "Lists made for POST /candidates", buckets=_SECONDS)
SNAPSHOT_VIDEOS = Gauge("vibestream_snapshot_videos", "Videos in the in-process snapshot of the catalogue")
SNAPSHOT_AS_OF = Gauge(
    "vibestream_snapshot_as_of_timestamp_seconds", "What was annotated before this time (epoch) is in the snapshot"
)

# Of the lag exporter, a process of its own.
LAG_RECORDS = Gauge(
    "vibestream_group_lag_records", "Records that a group has not committed", ["group", "topic", "partition"]
)
LAG_SECONDS = Gauge(
    "vibestream_group_lag_seconds", "Age of the oldest record that a group has not committed; 0: none waits",
    ["group", "topic", "partition"],
)  # fmt: skip
COMMITTED_OFFSET = Gauge(
    "vibestream_group_committed_offset", "Next offset that a group will read; its beginning, before the first commit",
    ["group", "topic", "partition"],
)  # fmt: skip
END_OFFSET = Gauge("vibestream_topic_end_offset", "Offset that the next record gets", ["topic", "partition"])
EXPIRED = Counter(
    "vibestream_group_expired_records", "Records that the topic's retention deleted before the group read them",
    ["group", "topic", "partition"],
)  # fmt: skip
LAG_AS_OF = Gauge("vibestream_lag_as_of_timestamp_seconds", "When the lag of a group was last seen (epoch)", ["group"])
LAG_FAILURES = Counter("vibestream_lag_failures", "Looks at a group that the broker did not answer", ["group"])

# Of these a rate is wanted from the first event on, so the series are there before it.
for _why in ("pacing", "failed", "budget"):
    LLM_POSTPONED.labels(_why)
for _cause in ("failures", "quota", "credentials", "model", "request"):
    LLM_PAUSES.labels(_cause)
for _ended in ("time", "crash"):
    MEDIA_DECODERS_ENDED.labels(_ended)
