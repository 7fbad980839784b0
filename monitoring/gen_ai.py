"""Requests to an LLM, counted under our names and under those of OpenTelemetry's conventions for generative AI."""

from monitoring import metrics

# What the conventions call the services that we ask; others go by our name.
_PROVIDERS = {"gemini": "gcp.gemini"}


def count_tokens(kind: str, model: str, input_tokens: int, output_tokens: int) -> None:
    """Count the tokens that one request is billed."""
    for direction, tokens in (("input", input_tokens), ("output", output_tokens)):
        metrics.LLM_TOKENS.labels(kind, direction).inc(tokens)
        metrics.GEN_AI_TOKENS.labels("generate_content", _PROVIDERS.get(kind, kind), model, direction).observe(tokens)


def count_request(kind: str, model: str, seconds: float | None, outcome: str) -> None:
    """Count one request; an `outcome` other than "answered" is its error. One of a batch job has no `seconds`."""
    error = "" if outcome == "answered" else outcome
    metrics.LLM_CALLS.labels(kind, outcome).inc()
    if seconds is None:
        return
    metrics.LLM_SECONDS.labels(kind).observe(seconds)
    metrics.GEN_AI_SECONDS.labels("generate_content", _PROVIDERS.get(kind, kind), model, error).observe(seconds)
