"""Sessions: the lists, what is in them, and what they are made from."""

from monitoring.dashboards.board import Board, Panel, Query, Row, half_and_most, rate, ratio

_UNCERTAIN = 'lane="restricted", certainty="uncertain"'

_LISTS = Row(
    "Lists",
    [
        Panel(
            "Watches a second", "Applied to their users' states.", "reqps",
            [Query(rate("vibestream_consumed_records_total", where='stage="session"'), "watches")],
        ),
        Panel(
            "Lists a second", "By the last resort that some place was filled from; none is best.", "reqps",
            [Query(rate("vibestream_candidate_lists_total", "fallback"), "{{fallback}}")], "stack",
        ),
        Panel(
            "Watch to list", "From the broker's timestamp to the list, acknowledged.", "s",
            half_and_most("vibestream_watch_to_candidates_seconds"),
        ),
        Panel(
            "Candidates a second", "By the lane that brought them.", "reqps",
            [Query(rate("vibestream_candidates_total", "lane"), "{{lane}}")], "stack",
        ),
        Panel(
            "Uncertain candidates",
            "Of the restricted lane, those of an attribute that is only probable or decided without a certificate.",
            "percentunit",
            [
                Query(
                    ratio(
                        f"({rate('vibestream_candidates_total', where=_UNCERTAIN)} or vector(0))",
                        rate("vibestream_candidates_total", where='lane="restricted"'),
                    ),
                    "uncertain",
                )
            ],
            most=1,
        ),
        Panel(
            "Removed a second", "Videos that a filter kept out of the lists, by reason.", "short",
            [Query(rate("vibestream_candidates_removed_total", "reason"), "{{reason}}")], "stack",
        ),
    ],
)  # fmt: skip

_SNAPSHOT = Row(
    "The catalogue in memory",
    [
        Panel(
            "Videos", "That a worker may list; the least and the most of all session workers.", "short",
            [
                Query("min(vibestream_snapshot_videos > 0)", "least"),
                Query("max(vibestream_snapshot_videos)", "most"),
            ],
        ),
        Panel(
            "Age", "How far the oldest snapshot is behind the annotations.", "s",
            [Query("max(time() - (vibestream_snapshot_as_of_timestamp_seconds > 0))", "oldest")],
        ),
        Panel(
            "Memory", "Resident, of each session worker.", "bytes",
            [
                Query(
                    'process_resident_memory_bytes * on (instance, job) vibestream_worker{role="session"}',
                    "{{instance}}",
                )
            ],
        ),
    ],
)  # fmt: skip

_HTTP = Row(
    "POST /candidates",
    [
        Panel(
            "Answers a second", "By status.", "reqps",
            [Query(rate("vibestream_http_lists_total", "status"), "{{status}}")], "stack", 12,
        ),
        Panel(
            "One list", "From the request to its answer.", "s",
            half_and_most("vibestream_http_list_seconds"), width=12,
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "vibestream-sessions",
    "vibestream: sessions",
    "The lists, what is in them, and what they are made from.",
    [_LISTS, _SNAPSHOT, _HTTP],
)
