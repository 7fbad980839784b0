"""TLS and SASL towards Kafka, for both kinds of client."""

import ssl
from pathlib import Path
from typing import Any

from faust import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from schemas.errors import ConfigurationError
from topology.settings import Settings


def confluent_security(settings: Settings) -> dict[str, str]:
    """Return what librdkafka is told.

    Raises:
        ConfigurationError: SASL without a user or password, only one of certificate and key, or a file can't be used.

    """
    _check(settings)
    wanted = {"security.protocol": settings.kafka_security.upper()}
    if settings.kafka_security.endswith("ssl"):
        _context(settings)  # librdkafka would say what is wrong with a file in words of its own, and in no one line
        wanted |= {
            "ssl.ca.location": settings.kafka_ca_file,
            "ssl.certificate.location": settings.kafka_cert_file,
            "ssl.key.location": settings.kafka_key_file,
        }
    if settings.kafka_security.startswith("sasl"):
        wanted |= {
            "sasl.mechanism": settings.kafka_mechanism,
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.kafka_password,
        }
    return {name: value for name, value in wanted.items() if value}


def faust_credentials(settings: Settings) -> CredentialsT | None:
    """Return what Faust hands to aiokafka; None for plaintext.

    Raises:
        ConfigurationError: as `confluent_security`.

    """
    _check(settings)
    context = _context(settings) if settings.kafka_security.endswith("ssl") else None
    if settings.kafka_security.startswith("sasl"):
        return SASLCredentials(
            username=settings.kafka_username,
            password=settings.kafka_password,
            mechanism=settings.kafka_mechanism,
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file or None)
        if settings.kafka_cert_file:
            context.load_cert_chain(settings.kafka_cert_file, settings.kafka_key_file, password=_locked)
    except OSError as error:
        files = [settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file]
        raise ConfigurationError(f"TLS files {[name for name in files if name]}: {error}; give PEM files") from error
    return context


def _locked() -> str:
    # Without a password to ask for, OpenSSL would ask the terminal, and a worker would wait there for ever.
    raise ConfigurationError(
        "VIBESTREAM_KAFKA_KEY_FILE is encrypted; give it without a passphrase, readable by the worker's user alone"
    )


def _check(settings: Settings) -> None:
    given: dict[str, Any] = {name: getattr(settings, name) for name in ("kafka_username", "kafka_password")}
    missing = [f"VIBESTREAM_{name.upper()}" for name, value in given.items() if not value]
    if settings.kafka_security.startswith("sasl") and missing:
        raise ConfigurationError(f"VIBESTREAM_KAFKA_SECURITY={settings.kafka_security} needs {' and '.join(missing)}")
    if bool(settings.kafka_cert_file) != bool(settings.kafka_key_file):
        raise ConfigurationError("VIBESTREAM_KAFKA_CERT_FILE and VIBESTREAM_KAFKA_KEY_FILE belong together: set both")
    for name in ("kafka_ca_file", "kafka_cert_file", "kafka_key_file"):
        path: str = getattr(settings, name)
        if path and not Path(path).is_file():
            raise ConfigurationError(f"VIBESTREAM_{name.upper()}={path!r}: there is no such file; give a PEM file")
