from prometheus_client import REGISTRY

from monitoring.gen_ai import count_request, count_tokens


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_request_is_counted_under_both_names() -> None:
    count_request("gemini", "test-model", 0.5, "answered")
    count_request("gemini", "test-model", 1.5, "overloaded")
    count_request("gemini", "test-model", None, "answered")
    count_tokens("gemini", "test-model", 100, 7)

    of = {
        "gen_ai_operation_name": "generate_content",
        "gen_ai_provider_name": "gcp.gemini",
        "gen_ai_request_model": "test-model",
    }
    assert value("gen_ai_client_operation_duration_seconds_count", **of, error_type="") == 1
    assert value("gen_ai_client_operation_duration_seconds_sum", **of, error_type="overloaded") == 1.5
    assert value("gen_ai_client_token_usage_sum", **of, gen_ai_token_type="input") == 100
    assert value("gen_ai_client_token_usage_sum", **of, gen_ai_token_type="output") == 7
    assert value("vibestream_llm_calls_total", kind="gemini", outcome="overloaded") >= 1
