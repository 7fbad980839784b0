import ssl
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from topology.kafka import client_config
from topology.security import confluent_security, faust_credentials
from topology.settings import Settings


def test_plaintext_needs_nothing() -> None:
    assert confluent_security(Settings()) == {"security.protocol": "PLAINTEXT"}
    assert faust_credentials(Settings()) is None


def test_both_kinds_of_client_get_the_same_user_mechanism_and_protocol() -> None:
    settings = Settings(kafka_security="sasl_ssl", kafka_username="ann", kafka_password="pw")
    assert confluent_security(settings) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ann",
        "sasl.password": "pw",
    }
    credentials = faust_credentials(settings)
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("ann", "pw")
    assert (credentials.mechanism.value, credentials.protocol.value) == ("SCRAM-SHA-512", "SASL_SSL")
    assert credentials.ssl_context.verify_mode == ssl.CERT_REQUIRED
    assert credentials.ssl_context.check_hostname
    assert client_config(settings)["sasl.password"] == "pw"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kafka_security": "sasl_ssl", "kafka_username": "ann"}, "needs VIBESTREAM_KAFKA_PASSWORD"),
        ({"kafka_security": "sasl_plaintext"}, "needs VIBESTREAM_KAFKA_USERNAME and VIBESTREAM_KAFKA_PASSWORD"),
        ({"kafka_security": "ssl", "kafka_cert_file": "c.pem"}, "belong together"),
        ({"kafka_security": "ssl", "kafka_ca_file": "/nowhere.pem"}, "/nowhere.pem"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        faust_credentials(Settings(**changes))


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="give PEM files"):
        faust_credentials(Settings(kafka_security="ssl", kafka_ca_file=str(path)))
