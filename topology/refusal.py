"""Why a broker that is there takes no client with these settings."""

import logging
import re
import time
from functools import cache
from typing import Any, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import ConfigurationError
from topology.security import confluent_security
from topology.settings import Settings

_WATCH_S = 3.0
_TRY_S = 0.25
_ABSENT = re.compile("Connect to .* failed|Failed to resolve")


class _Refusal(NamedTuple):
    """A mark in what librdkafka logs of an attempt, whether one such line proves it, and what the operator is told."""

    mark: re.Pattern[str]
    sure: bool
    says: str


# Only the log tells these apart: to its callers librdkafka reports "Broker transport failure" for all of them.
_REFUSALS = (
    _Refusal(
        re.compile("Unsupported SASL mechanism"),
        True,
        "does not take VIBESTREAM_KAFKA_MECHANISM={mechanism}; choose one that it does",
    ),
    _Refusal(
        re.compile("Request not valid in current SASL state"),
        True,
        "asks nobody to sign in at this port, but VIBESTREAM_KAFKA_SECURITY={security}; set plaintext or ssl, or the "
        "port of its SASL listener in VIBESTREAM_BROKER",
    ),
    _Refusal(
        re.compile("SASL authentication error"),
        True,
        "refused VIBESTREAM_KAFKA_USERNAME={user!r} with VIBESTREAM_KAFKA_PASSWORD by {mechanism}; correct them, or "
        "VIBESTREAM_KAFKA_MECHANISM",
    ),
    _Refusal(
        re.compile("certificate verify failed"),
        True,
        "shows a certificate that VIBESTREAM_KAFKA_CA_FILE={authority!r} does not vouch for, or that is for another "
        "host; give the authority that signed it, and address the broker by a name that the certificate has",
    ),
    _Refusal(
        re.compile(r"SSL alert number (40|42|43|44|45|46|48|116)\b"),
        True,
        "refused VIBESTREAM_KAFKA_CERT_FILE={certificate!r}; give a client certificate that its authority signed, and "
        "VIBESTREAM_KAFKA_KEY_FILE",
    ),
    _Refusal(
        re.compile("PLAINTEXT broker listener|wrong version number"),
        False,
        "speaks no TLS at this port, but VIBESTREAM_KAFKA_SECURITY={security}; set plaintext or sasl_plaintext, or the "
        "port of its TLS listener in VIBESTREAM_BROKER",
    ),
    # A broker that is about to end does so too.
    _Refusal(
        re.compile(r"(Disconnected|connection closed by peer).*in state (APIVERSION_QUERY|UP)\b"),
        False,
        "hangs up on VIBESTREAM_KAFKA_SECURITY={security}: it seems to want TLS or a sign-in; set ssl, sasl_plaintext "
        "or sasl_ssl",
    ),
)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


@cache
def check_access(settings: Settings) -> None:
    """Return if the broker lets a client with these settings in (takes 0.1 s, once), or if it is merely not there.

    Raises:
        ConfigurationError: it is there and refuses them; the message names the setting, and never a secret.

    """
    lines = _Lines()
    log = logging.Logger("access")  # of its own: the lines are evidence here, not news
    log.addHandler(lines)
    config: dict[str, Any] = {"bootstrap.servers": settings.bootstrap, "logger": log, **confluent_security(settings)}
    client = AdminClient(config)
    deadline = time.monotonic() + _WATCH_S
    while time.monotonic() < deadline:
        try:
            client.list_topics(timeout=_TRY_S)
            return
        except KafkaException:
            client.poll(0)  # hands over the log
        refusal = _find(lines.seen)
        if refusal is not None and refusal.sure:
            raise _error(refusal, settings)
        if lines.seen and all(map(_ABSENT.search, lines.seen)):
            return
    refusal = _find(lines.seen)
    if refusal is not None:
        raise _error(refusal, settings)


def _find(lines: list[str]) -> _Refusal | None:
    return next((refusal for refusal in _REFUSALS if any(map(refusal.mark.search, lines))), None)


def _error(refusal: _Refusal, settings: Settings) -> ConfigurationError:
    says = refusal.says.format(
        mechanism=settings.kafka_mechanism,
        security=settings.kafka_security,
        user=settings.kafka_username,
        authority=settings.kafka_ca_file,
        certificate=settings.kafka_cert_file,
    )
    return ConfigurationError(f"{settings.broker} {says}")
