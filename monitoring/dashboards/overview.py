"""The overview: how much goes through, how soon, and what stands in its way."""

from monitoring.dashboards.board import RATE, Board, Panel, Query, Row, half_and_most, quantile, rate

_PER_ROLE = "on (instance, job) group_left (role) vibestream_worker"

_NOW = Row(
    "Now",
    [
        Panel(
            "Uploads annotated", "Annotations by the student, a second: every upload gets one at once.", "reqps",
            [Query(rate("vibestream_upload_to_annotated_seconds_count"), "uploads")], "number", 4, 4,
        ),
        Panel(
            "Lists", "Candidate lists, a second.", "reqps",
            [Query(rate("vibestream_candidate_lists_total"), "lists")], "number", 4, 4,
        ),
        Panel(
            "Records behind", "Records that no role has committed yet, seen from outside the workers.", "short",
            [Query("sum(vibestream_group_lag_records)", "records")], "number", 4, 4, (1_000, 100_000),
        ),
        Panel(
            "Oldest record waiting", "Age of the oldest record that its role has not committed.", "s",
            [Query("max(vibestream_group_lag_seconds)", "oldest")], "number", 4, 4, (5, 60),
        ),
        Panel(
            "Workers not ready", "Workers and lag exporters whose /readyz does not answer 200.", "short",
            [Query("count(vibestream_ready) - sum(vibestream_ready)", "not ready")], "number", 4, 4, (1,),
        ),
        Panel(
            "LLM budget used today", "Spent and reserved, of the day's budget.", "percentunit",
            [Query('max(vibestream_llm_budget_used_ratio{window="day"})', "today")], "number", 4, 4, (0.8, 1),
        ),
    ],
)  # fmt: skip

_THROUGHPUT = Row(
    "Throughput",
    [
        Panel(
            "Records a second", "Records that each role has finished and confirmed.", "reqps",
            [Query(rate("vibestream_consumed_records_total", "stage"), "{{stage}}")], width=12, height=8,
        ),
        Panel(
            "Annotations a second", "By who had the last word, and whether something is still open.", "reqps",
            [Query(rate("vibestream_annotated_videos_total", "source, status"), "{{source}} {{status}}")],
            "stack", 6, 8,
        ),
        Panel(
            "Lists a second", "By the last resort that some place of the list was filled from; none is best.", "reqps",
            [Query(rate("vibestream_candidate_lists_total", "fallback"), "{{fallback}}")], "stack", 6, 8,
        ),
    ],
)  # fmt: skip

_SOON = Row(
    "How soon",
    [
        Panel(
            "Upload to annotation", "From the broker's timestamp to the student's annotation, acknowledged.", "s",
            half_and_most("vibestream_upload_to_annotated_seconds"), width=6,
        ),
        Panel(
            "Upload to searchable", "From the broker's timestamp to the row in the store.", "s",
            half_and_most("vibestream_upload_to_searchable_seconds"), width=6,
        ),
        Panel(
            "Watch to list", "From the broker's timestamp to the candidate list, acknowledged.", "s",
            half_and_most("vibestream_watch_to_candidates_seconds"), width=6,
        ),
        Panel(
            "Upload to the LLM's word", "Of videos that the LLM decides; they are served before.", "s",
            half_and_most("vibestream_upload_to_reviewed_seconds"), width=6,
        ),
    ],
)  # fmt: skip

_BEHIND = Row(
    "Behind",
    [
        Panel(
            "Records behind", "Seen from outside, so right also while a worker is stalled or dead.", "short",
            [Query("sum by (group) (vibestream_group_lag_records)", "{{group}}")],
        ),
        Panel(
            "Oldest record waiting", "Age of the oldest record that is not committed.", "s",
            [Query("max by (group) (vibestream_group_lag_seconds)", "{{group}}")],
        ),
        Panel(
            "Wait in the queue, p99", "From the broker's timestamp to a worker taking the record in hand.", "s",
            [Query(quantile(0.99, "vibestream_queue_wait_seconds", "stage"), "{{stage}}")],
        ),
    ],
)  # fmt: skip

_OBJECTIVES = Row(
    "Objectives",
    [
        Panel(
            "Budget burnt, last 5 minutes", "1: as much goes wrong as the objective allows. 14.4 pages.", "short",
            [Query("vibestream:slo_errors:ratio_rate5m / on (slo) vibestream:slo_budget", "{{slo}}")],
        ),
        Panel(
            "Budget burnt, last hour", "1: as much goes wrong as the objective allows. 14.4 pages.", "short",
            [Query("vibestream:slo_errors:ratio_rate1h / on (slo) vibestream:slo_budget", "{{slo}}")],
        ),
        Panel(
            "Dead letters and retries a second", "Records filed as dead letters, and runs tried again.", "reqps",
            [
                Query(rate("vibestream_dead_lettered_records_total", "stage, kind"), "{{stage}}: {{kind}}"),
                Query(
                    f"{rate('vibestream_run_retries_total', 'stage')}"
                    f" or 0 * {rate('vibestream_consumed_records_total', 'stage')}",
                    "{{stage}} retries",
                ),
            ],
        ),
    ],
)  # fmt: skip

_WORKERS = Row(
    "Workers",
    [
        Panel(
            "Workers ready", "By role.", "short",
            [Query(f"sum by (role) (vibestream_ready * {_PER_ROLE})", "{{role}}")], width=6,
        ),
        Panel(
            "Processor", "Cores in use.", "short",
            [Query(f"sum by (role) (rate(process_cpu_seconds_total{RATE}) * {_PER_ROLE})", "{{role}}")], width=6,
        ),
        Panel(
            "Memory", "Resident, the largest worker of each role.", "bytes",
            [Query(f"max by (role) (process_resident_memory_bytes * {_PER_ROLE})", "{{role}}")], width=6,
        ),
        Panel(
            "One run, p99", "From its hand-over until its effects are acknowledged.", "s",
            [Query(quantile(0.99, "vibestream_run_seconds", "stage"), "{{stage}}")], width=6,
        ),
        Panel(
            "Records in a run, of its limit", "1: runs are full, and the role works at its limit.", "percentunit",
            [
                Query(
                    f"{rate('vibestream_run_records_sum', 'stage')} / {rate('vibestream_run_records_count', 'stage')}"
                    " / max by (stage) (vibestream_run_limit_records)",
                    "{{stage}}",
                )
            ],
            width=6, most=1,
        ),
        Panel(
            "Decoding and processing one run, p99", "Without the time for producing its effects.", "s",
            [Query(quantile(0.99, "vibestream_stage_seconds", "stage"), "{{stage}}")], width=6,
        ),
        Panel(
            "Partitions", "Read by the workers of a role; the topic's partitions, or some are nobody's.", "short",
            [Query("sum by (stage) (vibestream_assigned_partitions)", "{{stage}}")], width=6,
        ),
        Panel(
            "Student on", "What the student runs on.", "short",
            [Query("sum by (provider) (vibestream_student_provider)", "{{provider}}")], width=6,
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "vibestream-overview",
    "vibestream: overview",
    "How much goes through, how soon, and what stands in its way.",
    [_NOW, _THROUGHPUT, _SOON, _BEHIND, _OBJECTIVES, _WORKERS],
)
