"""The HTTP port of a process: metrics, and whether it is alive and ready."""

import logging

from monitoring.health import Health
from monitoring.serve import HttpServer, metrics_page
from schemas.errors import ConfigurationError
from topology.settings import Settings

log = logging.getLogger(__name__)


def open_port(settings: Settings, health: Health) -> HttpServer:
    """Listen at the metrics port; /livez and /readyz need no token.

    Raises:
        ConfigurationError: the address can't be listened on.

    """
    try:
        server = HttpServer(
            settings.http_host,
            settings.metrics_port,
            {"GET /metrics": metrics_page},
            token=settings.http_token,
            public=health.routes,
        )
    except OSError as error:
        raise ConfigurationError(
            f"VIBESTREAM_METRICS_PORT={settings.metrics_port} on VIBESTREAM_HTTP_HOST={settings.http_host}: "
            f"{error.strerror}; choose another, or 0 for a free one"
        ) from error
    log.info("metrics at http://%s:%d/metrics, broker %s", settings.http_host, server.port, settings.broker)
    return server
