"""Videos: what came of looking at them, how long each step takes, and what was made of them."""

from monitoring.dashboards.board import Board, Panel, Query, Row, quantile, rate, share

_LOOKS = Row(
    "Looking",
    [
        Panel(
            "Videos a second", "By what came of looking at them; whatever it is, the text was judged.", "reqps",
            [Query(rate("vibestream_media_videos_total", "status"), "{{status}}")], "stack",
        ),
        Panel(
            "Not used", "Of the videos that were looked at, those of which nothing could be used.", "percentunit",
            [
                Query(
                    share(
                        rate("vibestream_media_videos_total", where='status!="used"'),
                        rate("vibestream_media_videos_total"),
                    ),
                    "not used",
                )
            ],
            most=1,
        ),
        Panel(
            "Oldest video waiting", "Age of the oldest request that no media worker has committed.", "s",
            [Query('max(vibestream_group_lag_seconds{topic=~".*media-requests"})', "oldest")],
        ),
        Panel(
            "A step, median", "Of one video; encode: of a run of videos.", "s",
            [Query(quantile(0.5, "vibestream_media_seconds", "step"), "{{step}}")], width=12,
        ),
        Panel(
            "A step, p99", "Of one video; encode: of a run of videos.", "s",
            [Query(quantile(0.99, "vibestream_media_seconds", "step"), "{{step}}")], width=12,
        ),
    ],
)  # fmt: skip

_MADE = Row(
    "What is made of them",
    [
        Panel(
            "Frames a second", "Encoded, or known by their hash.", "reqps",
            [Query(rate("vibestream_media_frames_total", "source"), "{{source}}")], "stack",
        ),
        Panel(
            "Texts a second", "Written on the screen or heard: found, none there, failed, or too late.", "reqps",
            [Query(rate("vibestream_media_texts_total", "kind, outcome"), "{{kind}}: {{outcome}}")], "stack",
        ),
        Panel(
            "Decoders ended a second", "Killed for time, or crashed, by a file that lost only itself.", "reqps",
            [Query(rate("vibestream_media_decoders_ended_total", "why"), "{{why}}")],
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "vibestream-media",
    "vibestream: videos",
    "What came of looking at videos, how long it takes, and what was made of them.",
    [_LOOKS, _MADE],
)
