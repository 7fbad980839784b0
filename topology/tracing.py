"""Traces by OpenTelemetry, for a worker whose settings name a collector."""

from schemas.errors import ConfigurationError
from streams.tracing import Tracing
from topology.settings import Settings


def make_tracing(settings: Settings, name: str, topic: str, *, entrance: bool = False) -> Tracing:
    """Return what follows the records of `topic` through the stage `name`; nothing, where no collector is named.

    At an `entrance`, records that come without a trace may begin one. Everywhere else a trace without the steps before
    would tell nothing.

    Raises:
        ConfigurationError: a collector is named, and the packages of OpenTelemetry are not there.

    """
    if not settings.otlp_endpoint:
        return Tracing()
    try:
        from topology.spans import Spans, provider
    except ImportError as error:
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT={settings.otlp_endpoint} asks for traces: pip install 'vibestream[tracing]', "
            "or unset it"
        ) from error
    return Spans(
        provider(settings.otlp_endpoint, f"vibestream-{name}"),
        name,
        settings.topic(topic),
        share=settings.trace_share if entrance else 0.0,
    )
