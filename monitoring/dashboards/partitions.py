"""Partition by partition: which one is hot, and which one stands still."""

from monitoring.dashboards.board import RATE, Board, Panel, Query, Row, Variable

_OF = '{group=~"$group"}'
_NAME = "{{group}} {{partition}}"

_LAG = Row(
    "Seen from outside",
    [
        Panel(
            "Records behind", "That the group has not committed.", "short",
            [Query(f"vibestream_group_lag_records{_OF}", _NAME)], width=12, height=9,
        ),
        Panel(
            "Oldest record waiting", "Its age.", "s",
            [Query(f"vibestream_group_lag_seconds{_OF}", _NAME)], width=12, height=9,
        ),
        Panel(
            "Committed a second", "How fast the group goes forward. 0 with records behind: it stands still.", "reqps",
            [Query(f"rate(vibestream_group_committed_offset{_OF}{RATE})", _NAME)], width=12, height=9,
        ),
        Panel(
            "Produced a second", "Records that come in, by topic: a partition far above the others is hot.", "reqps",
            [Query(f"rate(vibestream_topic_end_offset{RATE})", "{{topic}} {{partition}}")], width=12, height=9,
        ),
        Panel(
            "Expired unread", "Records that retention deleted before the group read them: lost.", "short",
            [Query(f"increase(vibestream_group_expired_records_total{_OF}[$__range])", _NAME)], width=12,
        ),
        Panel(
            "Last look", "How long ago the lag exporter saw the group.", "s",
            [Query(f"time() - vibestream_lag_as_of_timestamp_seconds{_OF}", "{{group}}")], width=12,
        ),
    ],
)  # fmt: skip

_WORKERS = Row(
    "Seen from the workers",
    [
        Panel(
            "Partitions", "Of each worker.", "short",
            [Query("vibestream_assigned_partitions", "{{stage}} {{instance}}")], width=12,
        ),
        Panel(
            "Runs in hand", "Fetched and not yet confirmed.", "short",
            [Query("vibestream_queued_runs", "{{stage}} {{instance}}")], width=12,
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "vibestream-partitions",
    "vibestream: partitions",
    "Partition by partition: which one is hot, and which one stands still.",
    [_LAG, _WORKERS],
    [Variable("group", "Group", "vibestream_group_lag_records")],
)
