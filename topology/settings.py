"""Every setting, read once from the environment: VIBESTREAM_<NAME>."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.errors import ConfigurationError

PREFIX = "VIBESTREAM_"
# Never shown. The Gemini key goes by the name that its other tools use.
_SECRETS = {"gemini_api_key": "GEMINI_API_KEY", "kafka_password": PREFIX + "KAFKA_PASSWORD"}
Role = Literal["annotate", "review", "store", "session"]
ROLES: tuple[Role, ...] = ("annotate", "review", "store", "session")

Seconds = Annotated[float, Meta(gt=0)]


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a worker or a command; a field `name` is read from VIBESTREAM_NAME."""

    broker: Annotated[str, Meta(pattern=r"^kafka://[^/\s]+$", description="kafka://host:port[,host:port]")] = (
        "kafka://127.0.0.1:9092"
    )
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    kafka_ca_file: Annotated[str, Meta(description="PEM; empty: the system's authorities")] = ""
    kafka_cert_file: Annotated[str, Meta(description="PEM, the client's own where the broker asks")] = ""
    kafka_key_file: Annotated[str, Meta(description="PEM, the key of that certificate")] = ""
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: str = ""
    topic_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)] = ""
    partitions: Annotated[int, Meta(ge=1, le=10_000, description="of each topic that `topics ensure` creates")] = 4
    replication: Annotated[int, Meta(ge=1, le=10)] = 1
    store_uri: Annotated[str, Meta(min_length=1, description="LanceDB: a folder or an object store")] = ".data/lancedb"
    store_endpoint: Annotated[str, Meta(description="of an S3-compatible store; credentials: AWS_*")] = ""
    store_region: str = ""
    store_allow_http: Annotated[bool, Meta(description="let the endpoint be http://")] = False
    store_virtual_hosted: Annotated[bool, Meta(description="the bucket is part of the host's name")] = False
    store_deadline_s: Annotated[float, Meta(gt=0, description="for each call to the store")] = 60.0
    catalogue: Annotated[str, Meta(description="TOML file of attributes; empty: the one that ships")] = ""
    bundle: Annotated[str, Meta(description="folder of the student bundle; empty: the one that ships")] = ""
    provider: Literal["cpu", "cuda"] = "cpu"
    llm: Annotated[Literal["gemini", "local"], Meta(description="who reviews uncertain attributes")] = "local"
    gemini_model: Annotated[str, Meta(min_length=1)] = "gemini-2.5-flash"
    gemini_base_url: str = ""
    gemini_api_key: str = ""
    max_run: Annotated[int, Meta(ge=1, le=10_000, description="records that a stage takes at once")] = 1_000
    max_review_run: Annotated[int, Meta(ge=1, le=1_000, description="the same for review, where each costs a call")] = (
        32
    )
    max_watch_run: Annotated[
        int, Meta(ge=1, le=10_000, description="the same for session, where each may cost a list")
    ] = 100
    commit_interval_s: Seconds = 1.0
    session_timeout_s: Annotated[float, Meta(ge=6, description="a worker silent for so long loses its partitions")] = (
        10.0
    )
    drain_s: Annotated[float, Meta(ge=0, le=300, description="for runs in hand when a worker is told to stop")] = 10.0
    max_age_days: Annotated[float, Meta(gt=0, description="older videos are no candidates")] = 90.0
    metrics_port: Annotated[int, Meta(ge=0, le=65_535, description="0 picks a free port and logs it")] = 0

    def __repr__(self) -> str:
        """Show every setting but the secrets."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _SECRETS}
        return f"Settings({shown})"

    def lines(self) -> list[str]:
        """Return one line per setting: variable, value (whether it is set, of a secret), and what it is."""
        fields = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
        return [
            f"{_variable(name)}={_shown(name, getattr(self, name))}  {fields[name].get('description', '')}".rstrip()
            for name in self.__struct_fields__
        ]

    @property
    def bootstrap(self) -> str:
        """The broker's address as Kafka clients want it."""
        return self.broker.removeprefix("kafka://")

    @property
    def catalogue_path(self) -> Path | None:
        """The catalogue's file, None for the one that ships."""
        return Path(self.catalogue) if self.catalogue else None

    @property
    def storage_options(self) -> dict[str, str]:
        """What LanceDB is told of an S3-compatible store; empty for the defaults. Never holds credentials."""
        options = {
            "aws_endpoint": self.store_endpoint,
            "aws_region": self.store_region,
            "allow_http": "true" if self.store_allow_http else "",
            "aws_virtual_hosted_style_request": "true" if self.store_virtual_hosted else "",
        }
        return {name: value for name, value in options.items() if value}

    def topic(self, name: str) -> str:
        """Return the full name of a topic."""
        return self.topic_prefix + name

    def run_limit(self, role: Role) -> int:
        """Return how many records a role takes at once: a run is visible only when all of it is done."""
        return {"review": self.max_review_run, "session": self.max_watch_run}.get(role, self.max_run)

    def group(self, role: Role) -> str:
        """Return the consumer group of a role."""
        return f"{self.topic_prefix}vibestream-{role}"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`.

    Raises:
        ConfigurationError: a value is malformed or out of range, or a VIBESTREAM_ variable names no setting.

    """
    names = {_variable(name): name for name in Settings.__struct_fields__}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in names and not variable.startswith(PREFIX + "TEST_"):
            raise ConfigurationError(f"{variable} is no setting; there are: {', '.join(names)}")
    raw = {name: environ[variable] for variable, name in names.items() if variable in environ}
    try:
        return msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].rstrip("`")
        reason = str(error).partition(" - at ")[0]
        raise ConfigurationError(f"{_variable(name)}={_shown(name, raw.get(name))!r}: {reason}") from error


def with_changes(settings: Settings, **changes: object) -> Settings:
    """Return the settings with some fields changed."""
    return msgspec.structs.replace(settings, **changes)


def environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with `settings` in it, for a worker process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    own = {_variable(name): str(getattr(settings, name)) for name in Settings.__struct_fields__}
    return {**inherited, **own}


def _variable(name: str) -> str:
    return _SECRETS.get(name, PREFIX + name.upper())


def _shown(name: str, value: object) -> object:
    return ("(set)" if value else "") if name in _SECRETS else value
