"""Field types shared by the records: their limits are the wire contract."""

from typing import Annotated, Literal

from msgspec import Meta

SchemaVersion = Literal[1]
Id = Annotated[str, Meta(min_length=1, max_length=200)]
EpochMs = Annotated[int, Meta(ge=0, le=4_102_444_800_000, description="Unix epoch, milliseconds; at most 2100-01-01")]
DurationMs = Annotated[int, Meta(ge=0, le=86_400_000, description="milliseconds; at most 24 h")]
Language = Annotated[str, Meta(min_length=2, max_length=35, description="BCP 47 tag")]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
