"""The attribute store: what is written, how large it is, and how soon videos are found."""

from monitoring.dashboards.board import Board, Panel, Query, Row, half_and_most, quantile, rate

_WRITES = Row(
    "Writes",
    [
        Panel(
            "Rows a second", "Upserted; an older annotation than the stored one changes nothing.", "reqps",
            [Query(rate("vibestream_stored_rows_total"), "rows")],
        ),
        Panel(
            "Upload to searchable", "From the broker's timestamp to the row.", "s",
            half_and_most("vibestream_upload_to_searchable_seconds"),
        ),
        Panel(
            "Annotations behind", "Not in the store yet.", "short",
            [Query('sum(vibestream_group_lag_records{topic=~".*annotations"})', "annotations")],
        ),
        Panel(
            "One merge, p99", "Upsert of one run into one table; grows with its fragments.", "s",
            [Query(quantile(0.99, "vibestream_store_merge_seconds", "table"), "{{table}}")],
        ),
        Panel(
            "Merges a second", "Runs written.", "reqps",
            [Query(rate("vibestream_store_merge_seconds_count", "table"), "{{table}}")],
        ),
        Panel(
            "Compacting", "Share of the time.", "percentunit",
            [Query(rate("vibestream_store_compaction_seconds_sum", "table"), "{{table}}")], most=1,
        ),
    ],
)  # fmt: skip

_SIZE = Row(
    "Size",
    [
        Panel(
            "Fragments", "Every merge adds one; a compaction, each 20 merges, takes most away.", "short",
            [Query("max by (table) (vibestream_store_fragments)", "{{table}}")], width=6,
        ),
        Panel(
            "Version", "Every merge adds one; those older than ten minutes are deleted.", "short",
            [Query("max by (table) (vibestream_store_version)", "{{table}}")], width=6,
        ),
        Panel(
            "Rows", "Removed videos included.", "short",
            [Query("max by (table) (vibestream_store_rows)", "{{table}}")], width=6,
        ),
        Panel(
            "Bytes", "Of the newest version.", "bytes",
            [Query("max by (table) (vibestream_store_bytes)", "{{table}}")], width=6,
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "vibestream-store",
    "vibestream: store",
    "What is written to the attribute store, how large it is, and how soon videos are found.",
    [_WRITES, _SIZE],
)
