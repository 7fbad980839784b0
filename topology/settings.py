"""Every setting, read once from the environment: VIBESTREAM_<NAME>."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from schemas.errors import ConfigurationError

PREFIX = "VIBESTREAM_"
# The Gemini key goes by the name that its other tools use.
SECRETS = {
    "gemini_api_key": "GEMINI_API_KEY",
    "kafka_password": PREFIX + "KAFKA_PASSWORD",
    "http_token": PREFIX + "HTTP_TOKEN",
    "llm_redis": PREFIX + "LLM_REDIS",  # the address has the password in it
}
"""Settings whose values are never shown, and their variables."""
_VARIABLES = {**SECRETS, "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}  # its name in every other program, too
Role = Literal["annotate", "review", "store", "session", "media"]
ROLES: tuple[Role, ...] = ("annotate", "review", "store", "session")
"""Those that every installation needs; media is for those that look at videos."""
ALL_ROLES: tuple[Role, ...] = (*ROLES, "media")

MAX_SHARDS = 256


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a worker or a command; a field `name` is read from VIBESTREAM_NAME."""

    broker: Annotated[str, Meta(pattern=r"^kafka://[^/\s]+$", description="kafka://host:port[,host:port]")] = (
        "kafka://127.0.0.1:9092"
    )
    kafka_security: Annotated[
        Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"], Meta(description="how the brokers are spoken to")
    ] = "plaintext"
    kafka_ca_file: Annotated[str, Meta(description="PEM; empty: the system's authorities")] = ""
    kafka_cert_file: Annotated[str, Meta(description="PEM, the client's own where the broker asks")] = ""
    kafka_key_file: Annotated[str, Meta(description="PEM, the key of that certificate")] = ""
    kafka_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="of SASL")] = (
        "SCRAM-SHA-512"
    )
    kafka_username: Annotated[str, Meta(description="of SASL")] = ""
    kafka_password: Annotated[str, Meta(description="of SASL; a secret")] = ""
    topic_prefix: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]*$", max_length=100, description="of every topic and group")
    ] = ""
    partitions: Annotated[int, Meta(ge=1, le=10_000, description="of each topic that `topics ensure` creates")] = 4
    replication: Annotated[int, Meta(ge=1, le=10, description="of each topic that `topics ensure` creates")] = 1
    store_uri: Annotated[str, Meta(min_length=1, description="LanceDB: a folder or an object store")] = ".data/lancedb"
    store_endpoint: Annotated[str, Meta(description="of an S3-compatible store; credentials: AWS_*")] = ""
    store_region: Annotated[str, Meta(description="of an S3-compatible store")] = ""
    store_allow_http: Annotated[bool, Meta(description="let the endpoint be http://")] = False
    store_virtual_hosted: Annotated[bool, Meta(description="the bucket is part of the host's name")] = False
    store_deadline_s: Annotated[float, Meta(gt=0, description="for each call to the store")] = 60.0
    store_shards: Annotated[
        int, Meta(ge=1, le=MAX_SHARDS, description="tables, one writer each; a divisor of the annotations partitions")
    ] = 1
    retriever: Annotated[
        Literal["snapshot", "lancedb"],
        Meta(description="what a session worker searches: the catalogue in its memory, or the store, however large"),
    ] = "snapshot"
    catalogue: Annotated[str, Meta(description="TOML file of attributes; empty: the one that ships")] = ""
    bundle: Annotated[str, Meta(description="folder of the student bundle; empty: the one that ships")] = ""
    students: Annotated[
        str, Meta(description="folder of bundles with CURRENT, instead of bundle; `vibestream student` changes it live")
    ] = ""
    shadow_share: Annotated[float, Meta(ge=0, le=1, description="of the uploads, scored by the shadow student too")] = (
        0.05
    )
    provider: Annotated[
        Literal["cpu", "cuda"], Meta(description="what the student runs on; cuda never falls back to cpu, it refuses")
    ] = "cpu"
    media_allow: Annotated[
        str,
        Meta(description="URIs, a comma between: what may be fetched and all below it; empty: no video is looked at"),
    ] = ""
    media_private: Annotated[bool, Meta(description="let names in media_allow lead to private addresses")] = False
    media_max_mb: Annotated[int, Meta(ge=1, le=10_000, description="of a file")] = 200
    media_fetch_s: Annotated[float, Meta(gt=0, le=600, description="for a file, all tries together")] = 20.0
    media_fetches: Annotated[int, Meta(ge=1, le=256, description="files at once")] = 8
    media_endpoint: Annotated[str, Meta(description="of an S3-compatible store; credentials: AWS_*")] = ""
    media_region: Annotated[str, Meta(description="of that store")] = ""
    media_scratch: Annotated[str, Meta(description="folder for copies; empty: the system's for temporary files")] = ""
    media_decoders: Annotated[int, Meta(ge=1, le=128, description="processes that decode")] = 2
    media_decode_s: Annotated[float, Meta(gt=0, le=600, description="for a file; then its process is killed")] = 20.0
    media_memory_mb: Annotated[int, Meta(ge=256, le=65_536, description="address space of a decoder")] = 1_024
    media_max_pixels: Annotated[int, Meta(ge=1, description="of a frame")] = 36_000_000
    media_max_s: Annotated[float, Meta(gt=0, description="longest video")] = 3_600.0
    media_frames: Annotated[
        int, Meta(ge=0, le=64, description="of a video; 0: as many as the student was distilled with")
    ] = 0
    media_sampling: Annotated[
        Literal["uniform", "scene"], Meta(description="frames at even distances, or those that differ most")
    ] = "uniform"
    media_extractors: Annotated[
        str,
        Meta(description="who makes text of videos, a comma between: ocr, or your module:factory; empty: nobody"),
    ] = ""
    media_extract_s: Annotated[float, Meta(gt=0, le=600, description="for an extractor on a video")] = 20.0
    media_extractions: Annotated[int, Meta(ge=1, le=128, description="extractors at work at once")] = 2
    media_speech_s: Annotated[float, Meta(gt=0, le=600, description="first seconds of sound that are written down")] = (
        60.0
    )
    frame_encoder: Annotated[str, Meta(description="folder that `vibestream frame-encoder` made")] = ""
    llm: Annotated[Literal["gemini", "local"], Meta(description="who reviews uncertain attributes")] = "local"
    gemini_model: Annotated[str, Meta(min_length=1, description="as Google names it")] = "gemini-2.5-flash"
    gemini_base_url: Annotated[str, Meta(description="instead of Google's; empty: Google's")] = ""
    gemini_api_key: Annotated[str, Meta(description="a secret; not needed through Vertex AI")] = ""
    gemini_proxy: Annotated[str, Meta(description="http://host:port; empty: none")] = ""
    gemini_project: Annotated[str, Meta(description="ask through Vertex AI, as this project; no key then")] = ""
    gemini_location: Annotated[str, Meta(min_length=1, description="of Vertex AI")] = "global"
    gemini_timeout_s: Annotated[float, Meta(gt=0, le=600, description="for one request")] = 60.0
    gemini_video: Annotated[bool, Meta(description="let Gemini see the videos that media_allow lists")] = False
    gemini_video_uris: Annotated[
        str, Meta(description="URIs, a comma between: what Gemini fetches itself, such as gs://bucket/ with Vertex AI")
    ] = ""
    gemini_video_fps: Annotated[float, Meta(gt=0, le=24, description="frames a second that it sees")] = 1.0
    gemini_video_resolution: Annotated[
        Literal["low", "medium", "high"], Meta(description="tokens a frame: 66, 258, 280")
    ] = "low"
    gemini_video_s: Annotated[float, Meta(ge=1, le=3_600, description="it sees no more than these first seconds")] = (
        60.0
    )
    llm_state: Annotated[
        str, Meta(description="folder of the LLM's answers and spending; empty: `llm` beside a local store")
    ] = ""
    llm_redis: Annotated[
        str, Meta(description="redis[s]://[user:password@]host:port/db, for workers on several machines; not llm_state")
    ] = ""
    llm_usd_per_day: Annotated[
        float, Meta(ge=0, description="budget of all that share llm_state or llm_redis; 0: none")
    ] = 10.0
    llm_usd_per_hour: Annotated[float, Meta(ge=0, description="the same per hour; 0: none")] = 0.0
    llm_price: Annotated[str, Meta(description="USD per million tokens, input/output; empty: genai-prices")] = ""
    llm_requests_per_minute: Annotated[
        float, Meta(ge=1, description="of one worker, or of all that share llm_redis")
    ] = 1_000
    llm_tokens_per_minute: Annotated[float, Meta(ge=1, description="input; of whom: likewise")] = 1_000_000
    llm_concurrency: Annotated[int, Meta(ge=1, le=256, description="requests at once, at most")] = 16
    llm_items_per_request: Annotated[int, Meta(ge=1, le=16, description="videos in one request")] = 8
    llm_sharing: Annotated[
        Literal["creator", "anyone"],
        Meta(description="whose videos share a request; anyone: cheaper, but one may speak for those of others"),
    ] = "creator"
    max_run: Annotated[int, Meta(ge=1, le=10_000, description="records that a stage takes at once")] = 1_000
    max_review_run: Annotated[int, Meta(ge=1, le=1_000, description="the same for review, where each costs a call")] = (
        32
    )
    max_media_run: Annotated[int, Meta(ge=1, le=1_000, description="the same for media, where each is a video")] = 16
    max_watch_run: Annotated[
        int, Meta(ge=1, le=10_000, description="the same for session, where each may cost a list")
    ] = 250
    max_store_run: Annotated[
        int, Meta(ge=1, le=10_000, description="the same for store, where each run is one merge")
    ] = 5_000
    run_interval_s: Annotated[
        float,
        Meta(ge=0, le=10, description="between two fetches of annotate, unless more waits; saves CPU time"),
    ] = 0.05
    store_run_interval_s: Annotated[float, Meta(ge=0, le=10, description="the same for store")] = 0.1
    commit_interval_s: Annotated[float, Meta(gt=0, description="between two commits of offsets")] = 1.0
    session_timeout_s: Annotated[float, Meta(ge=6, description="a worker silent for so long loses its partitions")] = (
        10.0
    )
    stall_s: Annotated[
        float, Meta(gt=0, description="/livez fails when records wait and nothing has moved for so long")
    ] = 120.0
    drain_s: Annotated[float, Meta(ge=0, le=300, description="for runs in hand when a worker is told to stop")] = 10.0
    max_age_days: Annotated[float, Meta(gt=0, description="older videos are no candidates")] = 90.0
    labeler: Annotated[
        str, Meta(description="table of `vibestream satisfaction fit`; empty: the share of the video that was played")
    ] = ""
    watch_partitioner: Annotated[
        Literal["crc32", "murmur2"],
        Meta(description="how producers spread watch-events: librdkafka's default, or the Java client's"),
    ] = "crc32"
    http_sessions: Annotated[
        int, Meta(ge=1, le=1_000_000, description="sessions whose last list a session worker keeps, 10 kB each")
    ] = 5_000
    metrics_port: Annotated[int, Meta(ge=0, le=65_535, description="0 picks a free port and logs it")] = 0
    http_host: Annotated[str, Meta(min_length=1, description="the metrics port's address; 0.0.0.0: every one")] = (
        "127.0.0.1"
    )
    reports: Annotated[
        str, Meta(min_length=1, description="folder of `vibestream evaluate --json` files, for the page")
    ] = ".data/reports"
    http_token: Annotated[str, Meta(pattern=r"^[!-~]*$", description="what clients must send as a bearer token")] = ""
    otlp_endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(https?://\S+)?$",
            description="http(s)://host:4318 of the collector that traces go to; empty: nothing is traced",
        ),
    ] = ""
    trace_share: Annotated[
        float,
        Meta(ge=0, le=1, description="of the uploads and watches without a traceparent, traced from here on"),
    ] = 0.01

    def __repr__(self) -> str:
        """Show every setting but the secrets."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in SECRETS}
        return f"Settings({shown})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no text may show."""
        values = (getattr(self, name) for name in SECRETS)
        return tuple(value for value in (*values, urlsplit(self.llm_redis).password) if value)

    def lines(self) -> list[str]:
        """Return one line per setting: variable, value (whether it is set, of a secret), and what it is."""
        fields = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
        return [
            f"{variable(name)}={_shown(name, getattr(self, name))}  {fields[name].get('description', '')}".rstrip()
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

    @property
    def llm_state_path(self) -> Path:
        """The folder of the LLM's answers and spending."""
        if self.llm_state:
            return Path(self.llm_state)
        return Path(".data/llm") if "://" in self.store_uri else Path(self.store_uri).parent / "llm"

    def topic(self, name: str) -> str:
        """Return the full name of a topic."""
        return self.topic_prefix + name

    def run_limit(self, role: Role) -> int:
        """Return how many records a role takes at once: a run is visible only when all of it is done."""
        own = {
            "review": self.max_review_run,
            "session": self.max_watch_run,
            "media": self.max_media_run,
            "store": self.max_store_run,
        }
        return own.get(role, self.max_run)

    def run_interval(self, role: Role) -> float:
        """Return how many seconds after a fetch a role fetches again at the earliest, unless that was full.

        In 0.05 and 0.1 s annotate and store gather what makes a run worth its acknowledgements and its merge. With the
        broker they take a third less CPU time for it, and 99 of 100 uploads are searchable no later.
        """
        return {"annotate": self.run_interval_s, "store": self.store_run_interval_s}.get(role, 0.0)

    def group(self, role: Role) -> str:
        """Return the consumer group of a role."""
        return f"{self.topic_prefix}vibestream-{role}"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`.

    Raises:
        ConfigurationError: a value is malformed or out of range, or a VIBESTREAM_ variable names no setting.

    """
    names = {variable(name): name for name in Settings.__struct_fields__}
    for name in environ:
        if name.startswith(PREFIX) and name not in names and not name.startswith(PREFIX + "TEST_"):
            known = {setting.removeprefix(PREFIX): setting for setting in names}
            like = [known[close] for close in get_close_matches(name.removeprefix(PREFIX), known, n=1)]
            hint = f"did you mean {like[0]}? " if like else ""
            raise ConfigurationError(f"{name} is no setting; {hint}`vibestream settings` lists them")
    raw = {name: environ[key] for key, name in names.items() if key in environ}
    try:
        return msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].rstrip("`")
        reason = str(error).partition(" - at ")[0]
        raise ConfigurationError(f"{variable(name)}={_shown(name, raw.get(name))!r}: {reason}") from error


def with_changes(settings: Settings, **changes: object) -> Settings:
    """Return the settings with some fields changed."""
    return msgspec.structs.replace(settings, **changes)


def environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with `settings` in it, for a worker process."""
    own = {variable(name): str(getattr(settings, name)) for name in Settings.__struct_fields__}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) and name not in own}
    # Empty is unset: to other programs an empty variable of a name that is not ours alone is a malformed one.
    return {**inherited, **{name: value for name, value in own.items() if value or name.startswith(PREFIX)}}


def environment_of_others() -> dict[str, str]:
    """Return this process's environment for a program that is not ours: it is not to send traces because we do."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", PREFIX))}


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return _VARIABLES.get(name, PREFIX + name.upper())


def _shown(name: str, value: object) -> object:
    return ("(set)" if value else "") if name in SECRETS else value
