"""Annotation quality: what the student decides, what the LLM makes of it, and whether either drifts."""

from monitoring.dashboards.board import Board, Panel, Query, Row, half_and_most, rate, ratio, share

_CLEAR = 'verdict!="unclear"'

_DECISIONS = Row(
    "The student",
    [
        Panel(
            "Share asked about", "Of the student's decisions on each attribute, those that it leaves to the LLM.",
            "percentunit",
            [
                Query(
                    share(
                        rate("vibestream_student_decisions_total", "attribute", 'band="uncertain"'),
                        rate("vibestream_student_decisions_total", "attribute"),
                    ),
                    "{{attribute}}",
                )
            ],
            width=12, height=8,
        ),
        Panel(
            "Drift of its decisions (PSI)",
            "Accepted, rejected and uncertain shares against those where the bundle was measured; above .25 it is"
            " another traffic.",
            "short", [Query("vibestream:student_bands:psi_rate1h", "{{attribute}}")], width=12, height=8,
        ),
        Panel(
            "Texts a second", "Scored by the student.", "reqps",
            [Query(rate("vibestream_student_texts_total"), "texts")], width=6,
        ),
        Panel(
            "Scoring one run", "Tokens and model, for all texts of a run.", "s",
            half_and_most("vibestream_student_seconds"), width=6,
        ),
        Panel(
            "Batch fill", "Texts in a call of the model, of those that it could take.", "percentunit",
            [
                Query(
                    f"{rate('vibestream_student_texts_total')} / {rate('vibestream_student_batches_total')}"
                    " / max(vibestream_student_batch_limit_texts)",
                    "fill",
                )
            ],
            width=6, most=1,
        ),
        Panel(
            "Version", "Of the bundle that serves, and of the one that is compared with it.", "short",
            [Query("max by (slot) (vibestream_student_version)", "{{slot}}")], width=6,
        ),
    ],
)  # fmt: skip

_LLM = Row(
    "The LLM's word",
    [
        Panel(
            "Disagreement", "Of the LLM's clear verdicts on each attribute, those against the student's guess.",
            "percentunit",
            [
                Query(
                    share(
                        rate("vibestream_review_verdicts_total", "attribute", 'verdict="overturned"'),
                        rate("vibestream_review_verdicts_total", "attribute", _CLEAR),
                    ),
                    "{{attribute}}",
                )
            ],
            width=12, height=8,
        ),
        Panel(
            "Calibration gap",
            "Mean p of the student minus the share that the LLM finds present, among what it was asked about.",
            "percentunit",
            [
                Query(
                    f"({rate('vibestream_review_predicted_total', 'attribute')}"
                    f" - {rate('vibestream_review_present_total', 'attribute')})"
                    f" / {rate('vibestream_review_verdicts_total', 'attribute', _CLEAR)}",
                    "{{attribute}}",
                )
            ],
            least=None, width=12, height=8,
        ),
        Panel(
            "Verdicts a second", "Agreed with the student's guess, overturned it, or left it unclear.", "reqps",
            [Query(rate("vibestream_review_verdicts_total", "verdict"), "{{verdict}}")], "stack",
        ),
        Panel(
            "Without guarantee", "Of the reviewed videos, those that the LLM should have decided and did not.",
            "percentunit",
            [
                Query(
                    ratio(
                        rate("vibestream_unguaranteed_videos_total"),
                        rate("vibestream_consumed_records_total", where='stage="review"'),
                    ),
                    "without",
                )
            ],
        ),
        Panel(
            "Certified attributes", "Whose band keeps the catalogue's targets, proven, of all attributes.",
            "percentunit", [Query("avg(vibestream_student_certified)", "certified")], most=1,
        ),
    ],
)  # fmt: skip

_SHADOW = Row(
    "The shadow student",
    [
        Panel(
            "Disagreement with the shadow", "Of the videos compared: one says the opposite, or one is unsure.",
            "percentunit",
            [
                Query(
                    ratio(
                        rate("vibestream_shadow_disagreements_total", "attribute, kind"),
                        "on () group_left () " + rate("vibestream_shadow_videos_total", where='outcome="compared"'),
                    ),
                    "{{attribute}}: {{kind}}",
                )
            ],
            width=12, height=8,
        ),
        Panel(
            "Videos compared a second", "By how it went.", "reqps",
            [Query(rate("vibestream_shadow_videos_total", "outcome"), "{{outcome}}")], width=6, height=8,
        ),
        Panel(
            "Bundles refused", "1 while the registry names a bundle that was refused.", "short",
            [Query("max by (slot) (vibestream_student_refused)", "{{slot}}")], width=6, height=8,
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "vibestream-quality",
    "vibestream: annotation quality",
    "What the student decides, what the LLM makes of it, and whether either drifts.",
    [_DECISIONS, _LLM, _SHADOW],
)
