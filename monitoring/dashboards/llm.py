"""What the LLM costs, and whether it answers."""

from monitoring.dashboards.board import Board, Panel, Query, Row, half_and_most, quantile, rate, ratio

_COST = Row(
    "Money",
    [
        Panel(
            "Dollars an hour", "At the present rate.", "currencyUSD",
            [Query(f"{rate('vibestream_llm_usd_total')} * 3600", "USD/h")],
        ),
        Panel(
            "Budget used", "Spent and reserved, of the hour's and the day's budget; at 1 nothing more is asked.",
            "percentunit", [Query("max by (window) (vibestream_llm_budget_used_ratio)", "{{window}}")],
            steps=(0.8, 1),
        ),
        Panel(
            "Dollars per 1,000 reviewed videos", "What was charged, over the videos that the LLM decided.",
            "currencyUSD",
            [
                Query(
                    ratio(
                        f"1000 * {rate('vibestream_llm_usd_total')}",
                        rate("vibestream_annotated_videos_total", where='source="llm"'),
                    ),
                    "USD",
                )
            ],
        ),
        Panel(
            "Dollars in this time", "Charged in the time that is shown.", "currencyUSD",
            [Query("sum(increase(vibestream_llm_usd_total[$__range]))", "USD")], "number", 6, 5,
        ),
        Panel(
            "Price of a question", "Expected corrections that a dollar must bring for the LLM to be asked.", "short",
            [Query("max(vibestream_llm_pace)", "corrections/USD")], width=6, height=5,
        ),
        Panel(
            "Tokens a second", "As they are billed; thoughts are output.", "short",
            [Query(rate("vibestream_llm_tokens_total", "direction"), "{{direction}}")], width=6, height=5,
        ),
        Panel(
            "Tokens of a request, p95", "By the names of OpenTelemetry.", "short",
            [
                Query(
                    quantile(0.95, "gen_ai_client_token_usage", "gen_ai_request_model, gen_ai_token_type"),
                    "{{gen_ai_request_model}} {{gen_ai_token_type}}",
                )
            ],
            width=6, height=5,
        ),
    ],
)  # fmt: skip

_ANSWERS = Row(
    "Answers",
    [
        Panel(
            "Requests a second", "By how they ended.", "reqps",
            [Query(rate("vibestream_llm_calls_total", "kind, outcome"), "{{kind}}: {{outcome}}")], "stack",
        ),
        Panel("One request", "How long it takes.", "s", half_and_most("vibestream_llm_seconds")),
        Panel(
            "One request by model, p95", "By the names of OpenTelemetry.", "s",
            [
                Query(
                    quantile(0.95, "gen_ai_client_operation_duration_seconds", "gen_ai_request_model"),
                    "{{gen_ai_request_model}}",
                )
            ],
        ),
        Panel(
            "Questions a second", "Known already, asked by another just now, or to ask.", "reqps",
            [Query(rate("vibestream_llm_lookups_total", "result"), "{{result}}")], "stack",
        ),
        Panel(
            "Questions left open a second", "They stay with the student's guess for now: no money, too dear, failed.",
            "reqps", [Query(rate("vibestream_llm_postponed_total", "why"), "{{why}}")],
        ),
        Panel(
            "Questions in a request", "How many videos share a request.", "short",
            [
                Query(
                    ratio(
                        rate("vibestream_llm_lookups_total", where='result="to_ask"'),
                        rate("vibestream_llm_calls_total"),
                    ),
                    "questions",
                )
            ],
        ),
        Panel(
            "Not asked for", "Seconds until the LLM is asked again; 0: it is asked.", "s",
            [Query("clamp_min(max(vibestream_llm_paused_until_seconds) - time(), 0)", "seconds")],
        ),
        Panel(
            "Requests at once", "How many may be in flight now.", "short",
            [Query("sum(vibestream_llm_concurrency)", "requests")],
        ),
        Panel(
            "Not believed, and asked alone, a second",
            "Ids and verdicts of its replies that were not believed; questions that got a request of their own.",
            "reqps",
            [
                Query(f"{rate('vibestream_llm_disbelieved_total')} or vector(0)", "not believed"),
                Query(f"{rate('vibestream_llm_alone_total')} or vector(0)", "alone"),
            ],
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "vibestream-llm", "vibestream: LLM cost", "What the LLM costs, and whether it answers.", [_COST, _ANSWERS]
)
