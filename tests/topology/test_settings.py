from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from topology.settings import Settings, environment, read_settings, with_changes
from topology.settings_page import document


def test_settings_are_read_from_the_environment() -> None:
    settings = read_settings({"VIBESTREAM_BROKER": "kafka://a:1,b:2", "VIBESTREAM_PARTITIONS": "12", "HOME": "/"})
    assert (settings.bootstrap, settings.partitions, settings.llm) == ("a:1,b:2", 12, "local")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("VIBESTREAM_BROKER", "localhost:9092", "VIBESTREAM_BROKER='localhost:9092'"),
        ("VIBESTREAM_PARTITIONS", "0", "VIBESTREAM_PARTITIONS='0': Expected `int` >= 1"),
        ("VIBESTREAM_PARTITIONS", "many", "VIBESTREAM_PARTITIONS='many'"),
        ("VIBESTREAM_PROVIDER", "gpu", "VIBESTREAM_PROVIDER='gpu'"),
        ("VIBESTREAM_PARTITION", "4", "VIBESTREAM_PARTITION is no setting; did you mean VIBESTREAM_PARTITIONS"),
        ("VIBESTREAM_GEMINI_API_KEY", "x", "VIBESTREAM_GEMINI_API_KEY is no setting; did you mean GEMINI_API_KEY"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(variable: str, value: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({variable: value})
    assert says in str(error.value)


def test_secrets_are_in_no_text_of_the_settings() -> None:
    settings = read_settings({"GEMINI_API_KEY": "s3cret", "VIBESTREAM_KAFKA_PASSWORD": "s3cret"})
    assert (settings.gemini_api_key, settings.kafka_password) == ("s3cret", "s3cret")
    assert "s3cret" not in repr(settings) + str(settings) + "".join(settings.lines())


def test_a_worker_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIBESTREAM_PARTITIONS", "9")
    monkeypatch.setenv("GEMINI_API_KEY", "s3cret")
    settings = with_changes(Settings(), broker="kafka://c:3", max_age_days=2.5, gemini_api_key="s3cret")
    assert read_settings(environment(settings)) == settings


def test_the_committed_page_is_the_generated_one() -> None:
    committed = Path(__file__).parents[2] / "docs" / "settings.md"
    assert committed.read_text() == document(), "write it again: make settings"
