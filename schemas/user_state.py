"""What is remembered of a user: the value of the user-states changelog, msgpack."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from schemas.errors import InvalidRecord
from schemas.fields import EpochMs, Id, SchemaVersion

Amount = Annotated[float, Meta(ge=0.0)]


class Affinity(Struct, frozen=True, array_like=True):
    """Decayed sums over watches of one attribute: `n` of its probability, `s` of satisfaction times probability.

    Both stand as of the state's `updated_at_ms`; the session copy forgets within the hour.
    """

    n: Amount
    s: Amount
    session_n: Amount
    session_s: Amount


class UserState(Struct, frozen=True, array_like=True, kw_only=True):
    """A user, as of the watch event at offset `applied` of its partition. Key: user_id.

    `affinities` are by attribute id: the catalogue may change. `taste` is the decayed mean of satisfied videos' vectors
    (float16, little-endian; empty before the first) and `taste_weight` the satisfaction in it. `seen` are the latest
    video ids, oldest first. The record is an array on the wire: new fields go to the end, with a default.
    """

    schema_version: SchemaVersion
    applied: Annotated[int, Meta(ge=0)]
    user_id: Id
    updated_at_ms: EpochMs
    session_id: Id
    watches_since_list: Annotated[int, Meta(ge=0)]
    affinities: dict[str, Affinity]
    taste: bytes
    taste_weight: Amount
    seen: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a taste that is no float16 vector."""
        if len(self.taste) % 2:
            raise ValueError(f"taste of {len(self.taste)} bytes is no float16 vector")


encode_state = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(UserState)


def decode_state(value: bytes) -> UserState:
    """Return the state in `value`.

    Raises:
        InvalidRecord: undecodable (no msgpack), unsupported_version, or invalid.

    """
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        unsupported = str(error).endswith("`$[0]`")
        raise InvalidRecord("unsupported_version" if unsupported else "invalid", f"user state: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord("undecodable", f"user state: {error}") from error
