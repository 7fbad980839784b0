import io
import logging
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from schemas.errors import ConfigurationError
from topology.hiding import hide_secrets
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
    with pytest.raises(ConfigurationError, match=says):
        confluent_security(Settings(**changes))


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    settings = Settings(kafka_security="ssl", kafka_ca_file=str(path))
    for read in (faust_credentials, confluent_security):
        with pytest.raises(ConfigurationError, match="give PEM files"):
            read(settings)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("client@vibestream.test")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    private = load_pem_private_key(issued.private_key_pem.bytes(), None)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")))
    settings = Settings(kafka_security="ssl", kafka_cert_file=str(certificate), kafka_key_file=str(key))
    with pytest.raises(ConfigurationError, match="VIBESTREAM_KAFKA_KEY_FILE is encrypted"):
        faust_credentials(settings)


def test_a_secret_that_someone_else_puts_in_the_log_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.StreamHandler(out := io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    hide_secrets(Settings(gemini_api_key="AIza-secret", kafka_password="key"))
    try:
        raise ValueError("consumer 'api_key:AIza-secret' is suspended")
    except ValueError:
        logging.getLogger("anyone").exception("asked with %s, the key", "AIza-secret")
    assert "AIza-secret" not in out.getvalue()
    assert out.getvalue().startswith("ERROR asked with (secret), the key\n")
    assert "'api_key:(secret)' is suspended" in out.getvalue()
